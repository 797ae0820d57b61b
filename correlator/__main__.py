"""Lets `python3 -m correlator` be `portward`."""

import sys

try:
    from correlator.cli import main

    status = main()
except KeyboardInterrupt:  # before `main` could look after it
    status = 130
sys.exit(status)
