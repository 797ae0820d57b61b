"""Reads Fail2ban's own files, unmodified: filter.d, action.d, jail.conf. Fail2ban's words stay in here."""
