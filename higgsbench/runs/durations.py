"""Durations as people write and read them."""

from __future__ import annotations

import re

from higgsbench.errors import ConfigError

__all__ = ["format_duration", "parse_duration"]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|)")


def parse_duration(text: str) -> float:
    """Return the seconds of `90`, `90s`, `30m`, `2h`, `1.5h` or `1d`.

    Raises:
        ConfigError: if the text is no duration, or is not longer than zero.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0.0 < seconds < float("inf"):
        raise ConfigError(f"{text!r} is no duration; write 90, 90s, 30m or 2h")
    return seconds


def format_duration(seconds: float) -> str:
    """Return "3.2 s", "45 s", "12 min 5 s" or "6 h 40 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
