"""What the C library keeps of freed memory, given back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import sys

__all__ = ["give_back"]


LARGE = 10_000
"""Events from which what is kept is worth taking back: pages that are needed again cost time."""


def give_back(events: int) -> None:
    """Return freed memory to the system where the C library can (glibc); it keeps arrays of up to 32 MB otherwise.

    Args:
        events: length of the arrays that were freed; few events are left alone.
    """
    if events >= LARGE and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
