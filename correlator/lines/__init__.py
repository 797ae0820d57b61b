"""How a log's lines are laid out: headers, dates, records, journal fields; messages that come twice. Pure."""
