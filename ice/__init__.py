"""ice: an open voice network for people whose radios must talk to each other."""

__version__ = "0.1.0"
