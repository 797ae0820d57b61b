"""Files that outlive a process: history and blocked files as PortSentry writes them, SQLite databases."""
