"""Where a page goes: found out early, written whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.errors import DataError
from higgsbench.files import write_text
from higgsbench.pages.drawing import check_libraries

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_page", "write_page"]


def check_page(target: Path) -> None:
    """Find out early whether a page can be made and written.

    Raises:
        MissingExtraError: if the drawing libraries are absent.
        DataError: if the target is a folder, or its folder does not exist.
    """
    check_libraries()
    if target.is_dir():
        raise DataError(f"{target}: is a folder; name the page's file in it")
    if not target.parent.is_dir():
        raise DataError(f"{target}: the folder {target.parent} does not exist")


def write_page(target: Path, content: str) -> None:
    """Write a page whole or not at all.

    Raises:
        DataError: if the file cannot be written.
    """
    try:
        write_text(target, content)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror}") from error
