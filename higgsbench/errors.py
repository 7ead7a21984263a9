"""The one error tree: every error that a user can fix derives from `HiggsbenchError`.

The command line turns a `HiggsbenchError` into one line on standard error and exit code 2. Anything else that
escapes is a bug in higgsbench and keeps its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")


class HiggsbenchError(Exception):
    """Base of all errors whose message tells the user what to fix.

    Example:
        >>> try:
        ...     higgsbench.load_events("absent.csv")
        ... except higgsbench.HiggsbenchError as error:
        ...     print(error)
        absent.csv: no such file
    """


class HiggsbenchWarning(UserWarning):
    """Something a user should know about a computed result; the command line shows it on standard error."""


class ConfigError(HiggsbenchError):
    """A configuration asks for something that does not exist or is not possible."""


class TimeLimitError(ConfigError):
    """A time limit leaves no time for a single row."""


class DataError(HiggsbenchError):
    """An event file breaks a rule; the message names the file, the row and the column."""


class MetricError(HiggsbenchError, ValueError):
    """A metric was given input for which it has no defined value."""


class ModelError(HiggsbenchError):
    """A model cannot be registered, built or used as requested."""


class MissingExtraError(ModelError):
    """An optional dependency is not installed; the message names the extra that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency: pip install 'higgsbench[{extra}]'")
        self.what = what
        self.extra = extra


class StoreError(HiggsbenchError):
    """A stored run cannot be read or written."""


def raised(error: BaseException) -> str:
    """Return what a user's code raised, with the file and line: "KeyError: 'x' (my.py, line 3)"."""
    import traceback
    from pathlib import Path

    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):  # it names the file and line itself
        return text
    *_, last = (frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename)
    return f"{text} ({Path(last.filename).name}, line {last.lineno})"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to a misspelt one, ignoring case, or None if none is similar."""
    import difflib

    folded = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1)
    return folded[close[0]] if close else None


def repeated(items: Sequence[T]) -> T | None:
    """Return the first of a few items that occurs twice, or None."""
    return next((item for item in items if items.count(item) > 1), None)


def shortened(text: object, most: int = 60) -> str:
    """Return a user's text for a message: its beginning and an ellipsis if it is long."""
    whole = str(text)
    return whole if len(whole) <= most else f"{whole[:most]}…"


def nearest_hint(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return " (did you mean 'x'?)" for the nearest known name, or the alternative text if none is similar."""
    close = nearest(name, known)
    return otherwise if close is None else f" (did you mean {close!r}?)"
