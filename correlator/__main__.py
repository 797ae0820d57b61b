"""Lets `python3 -m correlator` be `portward`."""

import sys

from correlator.cli import main

sys.exit(main())
