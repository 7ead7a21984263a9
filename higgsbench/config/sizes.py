"""Amounts of memory as people write and read them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from higgsbench.config.base import problem
from higgsbench.errors import ConfigError, shortened

__all__ = ["MemorySize", "format_size", "parse_size"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20,
          "gib": 2**30, "tib": 2**40}  # fmt: skip
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]i?b|b|)")


def parse_size(text: str) -> int:
    """Return the bytes of `4GB`, `500 MB`, `1.5GiB` or `4000000000`.

    Raises:
        ConfigError: if the text is no amount of memory, or less than a byte.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 1:
        raise ConfigError(f"{shortened(text)!r} is no amount of memory; write 500MB, 4GB or 1.5GiB")
    return size


def format_size(size: float) -> str:
    """Return "1.0 kB", "812 MB", "4.00 GB" or "12.3 GB"."""
    if size < 1e3:
        return f"{size:.0f} bytes"
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    if size < 1e7:
        return f"{size / 1e6:.1f} MB"
    if size < 1e9:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.2f} GB" if size < 1e10 else f"{size / 1e9:.1f} GB"


def _checked(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        try:
            parse_size(value)
        except ConfigError as error:
            raise problem(str(error)) from error
    return value


MemorySize = Annotated[str, BeforeValidator(_checked)]
"""A size in a configuration, kept as it was written."""
