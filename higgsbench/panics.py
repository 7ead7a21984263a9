"""Panics of Polars over damaged files, as errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["no_panic"]


@contextmanager
def no_panic() -> Iterator[None]:
    """Raise a `ComputeError` for a panic, which is no exception of Python's kind and passes by `except Exception`."""
    try:
        yield
    except pl.exceptions.PanicException as error:
        raise pl.exceptions.ComputeError("the parser gave up on it") from error
