"""The correlator's process: its loop, what it writes down and tells, and what it asks of the enforcer."""
