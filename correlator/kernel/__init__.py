"""What this host's kernel knows and both root-side processes ask: addresses, routes, sockets.

Thin wrappers over netlink with the standard library alone; nothing here decides anything.
"""
