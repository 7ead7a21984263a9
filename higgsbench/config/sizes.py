"""Sizes of memory as people write and read them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from higgsbench.config.base import problem

__all__ = ["MemorySize", "format_bytes", "memory_bytes"]

_UNITS = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]{0,3})")


def memory_bytes(text: str) -> int:
    """Return the bytes of `8GB`, `500 MB`, `1.5GiB` or a plain number of bytes.

    Raises:
        ValueError: if the text is no size, or less than a byte.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else 0
    if size < 1:
        raise ValueError(f"{text!r} is no size of memory; write 8GB, 500MB or 1.5GiB")
    return size


def format_bytes(size: float) -> str:
    """Return "1.2 GB", "38 GB" or "450 MB"."""
    if size < 1e9:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.1f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"


def _checked(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        try:
            memory_bytes(value)
        except ValueError as error:
            raise problem(str(error)) from error
    return value


MemorySize = Annotated[str, BeforeValidator(_checked)]
"""A size in a configuration, kept as it was written."""
