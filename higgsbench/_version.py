"""The version of higgsbench."""

__version__ = "0.2.0"
