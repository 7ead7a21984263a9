"""Files that unpack to far more than they hold are refused before they fill the memory."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

from higgsbench.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MOST_TIMES", "check_gzip_end", "check_gzip_size", "check_table_size", "gzip_fault"]

MOST_TIMES = 100
"""Events as text shrink to about a third, repeated columns to a tenth; a file of zeros to a thousandth."""

_HARMLESS = 1 << 28
_COUNTED = 1 << 24
_CHUNK = 1 << 20


def check_gzip_size(file: Path) -> None:
    """Refuse a gzip file that unpacks to more than 100 times its size and 256 MiB.

    Small files are unpacked piece by piece to find out; of large ones, the size that they state of themselves is looked
    at, for unpacking them twice would cost seconds.

    Raises:
        DataError: naming the file.
    """
    try:
        size = file.stat().st_size
        most = max(_HARMLESS, MOST_TIMES * size)
        unpacked = _stated_size(file) if size > _COUNTED else _counted_size(file, most)
    except (OSError, EOFError, zlib.error):
        return  # the parser says what is wrong with it
    if unpacked > most:
        raise DataError(
            f"{file}: unpacks to more than {MOST_TIMES} times its size: no event file, or one made to fill the memory"
        )


def check_gzip_end(file: Path) -> None:
    """Refuse a file that goes on with other bytes behind its gzip data; for files that a parser has refused.

    Raises:
        DataError: naming the file.
    """
    try:
        with file.open("rb") as probe:
            if probe.read(2) != b"\x1f\x8b":
                return
        with gzip.open(file, "rb") as stream:
            while stream.read(_CHUNK):
                pass
    except gzip.BadGzipFile as error:
        raise DataError(f"{file}: damaged gzip file: {gzip_fault(error)}") from error
    except (OSError, EOFError, zlib.error):
        return


def gzip_fault(error: Exception) -> str:
    """Say what is wrong with a file that begins as gzip."""
    if isinstance(error, gzip.BadGzipFile) and "Not a gzipped file" in str(error):
        return "other bytes follow the compressed data; remove them or get the file anew"
    return str(error)


def check_table_size(file: Path, rows: int, columns: int) -> None:
    """Refuse a columnar file that states far more values than its size can hold.

    Raises:
        DataError: naming the file.
    """
    unpacked = 8 * rows * columns
    if unpacked > max(_HARMLESS, 10 * MOST_TIMES * file.stat().st_size):
        raise DataError(f"{file}: {rows:,} rows in {file.stat().st_size:,} bytes: made to fill the memory")


def _stated_size(file: Path) -> int:
    with file.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(4), "little")


def _counted_size(file: Path, most: int) -> int:
    count = 0
    with gzip.open(file, "rb") as stream:
        while count <= most and (chunk := stream.read(_CHUNK)):
            count += len(chunk)
    return count
