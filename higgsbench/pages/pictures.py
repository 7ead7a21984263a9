"""Figures on their way into a page and, if wanted, into files of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from higgsbench.errors import DataError
from higgsbench.files import atomic_path
from higgsbench.pages.drawing import svg_text
from higgsbench.pages.html import figure as figure_html

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

__all__ = ["Pictures"]

_DPI = 200


class Pictures:
    """Turns figures into HTML; with a folder, also keeps each as PNG and PDF.

    Args:
        folder: where the files go, or None.

    Raises:
        DataError: if the folder cannot be made.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.names: list[str] = []
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"{folder}: the folder cannot be made: {error.strerror}") from error

    def add(self, name: str, figure: Figure, alt: str, caption: str = "") -> str:
        """Return a figure as HTML.

        Args:
            name: what its files are called, without suffix; any text.
            figure: the figure.
            alt: says what it shows, with the essential numbers.
            caption: text under it.

        Raises:
            DataError: if a file cannot be written.
        """
        if self.folder is not None:
            self._write(self.folder, self._file_name(name), figure)
        return figure_html(svg_text(figure), alt, caption)

    def _file_name(self, name: str) -> str:
        stem = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:80] or "figure"
        unique, number = stem, 2
        while unique in self.names:
            unique, number = f"{stem}-{number}", number + 1
        self.names.append(unique)
        return unique

    @staticmethod
    def _write(folder: Path, stem: str, figure: Figure) -> None:
        for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            target = folder / f"{stem}.{suffix}"
            try:
                with atomic_path(target) as temporary:
                    figure.savefig(temporary, format=suffix, dpi=_DPI, metadata=metadata)
            except OSError as error:
                raise DataError(f"{target}: cannot be written: {error.strerror}") from error
