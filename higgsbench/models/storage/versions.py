"""Parts that only the same minor version of scikit-learn reads as they were meant."""

from __future__ import annotations

import functools
import importlib.metadata

from higgsbench.errors import StoreError

__all__ = ["check_sklearn", "sklearn_version"]


@functools.cache
def sklearn_version() -> str:
    """Return the version of scikit-learn."""
    return importlib.metadata.version("scikit-learn")


def check_sklearn(stored: object) -> None:
    """Refuse what another minor version of scikit-learn stored: attributes and node layouts change between them.

    Raises:
        StoreError: naming both versions.
    """
    installed = sklearn_version()
    if str(stored).split(".")[:2] != installed.split(".")[:2]:
        raise StoreError(
            f"it was stored with scikit-learn {str(stored)[:20]}, installed is {installed}: install that version, or "
            "run the configuration again"
        )
