"""What the `data` commands share: where a report goes, and how wide."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

__all__ = ["console", "echo_json", "file_size", "format_option", "must_differ", "quantity"]

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table to read or JSON to process.",
)


def console(*, stderr: bool = False) -> Console:
    """Return a console; into a pipe or a file, where no terminal gives a width, lines are not cut at 80."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 160
    return Console(width=width, stderr=stderr, highlight=False)


def echo_json(content: Any) -> None:
    """Print JSON."""
    click.echo(json.dumps(content, indent=1, allow_nan=False))


def quantity(count: int, noun: str) -> str:
    """Return "1 event", "1,234 events"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def file_size(file: Path) -> str:
    """Return the size of a file for people, in powers of 1000."""
    size = float(file.stat().st_size)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def must_differ(source: Path, target: Path) -> None:
    """Refuse to write a file over the one it is made from.

    Raises:
        DataError: if both names mean one file.
    """
    from higgsbench.errors import DataError

    if target.exists() and source.exists() and target.samefile(source):
        raise DataError(f"{target}: is the input itself; give the output another name")
