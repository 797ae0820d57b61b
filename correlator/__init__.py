"""Portward: blocks the sources that attack a host, from its packets and its logs.

Read `model.py` for the nouns, `engine.py` for the verbs and `daemon.py` for the loop; ARCHITECTURE.md
has the picture.
"""

__version__ = "0.1.0"
