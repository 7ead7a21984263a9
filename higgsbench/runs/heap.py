"""What the C library keeps of freed memory, given back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import sys

__all__ = ["give_back"]


def give_back() -> None:
    """Return freed memory to the system where the C library can (glibc); it keeps arrays of up to 32 MB otherwise.

    Between fits and rows, where it costs milliseconds and other processes need the room.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
