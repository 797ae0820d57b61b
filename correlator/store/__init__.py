"""Files that outlive a process: history and blocked files in PortSentry's formats, SQLite, atomic replacement."""
