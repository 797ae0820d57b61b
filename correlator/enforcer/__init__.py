"""The enforcer process: takes typed requests on a Unix socket, carries blocks out, and believes nobody."""
