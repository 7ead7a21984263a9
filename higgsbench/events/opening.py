"""The first look at an event file: whether it can be one at all, before anything of it is read."""

from __future__ import annotations

import re
from pathlib import Path

from higgsbench.errors import DataError
from higgsbench.events.check import where
from higgsbench.files import printable

__all__ = ["check_name", "check_zero_tail", "first_look"]

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(.+)")
"""A web address, also one that lost a slash when it became a path; drives of Windows have one letter."""

_ZIP = b"PK\x03\x04"
_CHUNK = 1 << 20


def check_name(path: object) -> None:
    """Refuse an empty name, which would mean the current folder.

    Raises:
        DataError: if it is empty.
    """
    if path == "":
        raise DataError("the file name is empty")


def first_look(file: Path, *, header: bool) -> bytes:
    """Refuse what is no file, cannot be opened, or is another kind of file; cheap whatever the file's size.

    Args:
        file: its path.
        header: whether the first line of a text holds column names.

    Returns:
        The first five bytes.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    name = printable(file)
    _must_be_file(file, name)
    try:
        with file.open("rb") as stream:
            magic = stream.read(5)
        if magic == b"":
            raise DataError(f"{name}: the file is empty")
        if magic[:4] == _ZIP:
            raise DataError(f"{name}: a zip archive; unpack it first")
        if magic[:1].isascii() and magic != b"root\x00" and magic[:4] != b"PAR1" and magic[:2] != b"\x1f\x8b":
            check_zero_tail(file, header=header)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error
    return magic


def _must_be_file(file: Path, name: str) -> None:
    try:
        there, is_link = file.exists(), file.is_symlink()
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error
    if not there:
        address = _ADDRESS.fullmatch(name)
        if address is not None:
            raise DataError(
                f"{address[1]}://{address[2]}: an address, not a file; download it first "
                "(`higgsbench data fetch` brings the official file)"
            )
        raise DataError(f"{name}: {'a link that leads nowhere' if is_link else 'no such file'}")
    if file.is_dir():
        raise DataError(f"{name}: a folder, not an event file")
    if not file.is_file():
        raise DataError(f"{name}: a device or pipe, not an event file")


def check_zero_tail(file: Path, *, header: bool) -> None:
    """Refuse a text file that ends with NUL bytes, as one does whose writing was cut off: parsers read on through them.

    A header that holds NUL bytes is left to those who read it.

    Raises:
        DataError: naming the file and the row.
        OSError: if it cannot be read.
    """
    row = 0
    with file.open("rb") as stream:
        stream.seek(-1, 2)
        if stream.read(1) != b"\x00":
            return
        stream.seek(0)
        while chunk := stream.read(_CHUNK):
            at = chunk.find(b"\x00")
            row += chunk.count(b"\n", 0, at if at >= 0 else len(chunk))
            if at >= 0:
                break
    if row or not header:
        place = where(row - header, lines=header)
        raise DataError(f"{printable(file)}: {place}: NUL bytes, up to the end of the file: its writing was cut off")
