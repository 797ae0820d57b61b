"""The ways out of one alert line: the alert log, syslog, standard output. Standard library only."""
