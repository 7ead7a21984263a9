"""Text out of somebody's file, made safe for a terminal."""

from __future__ import annotations

from higgsbench.files import printable

__all__ = ["one_line"]


def one_line(text: str) -> str:
    """Return a text in one line that cannot steer a terminal: a name out of somebody's file may be part of it."""
    return printable(" ".join(text.split()))
