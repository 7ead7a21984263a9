"""The content of an event file, named by its checksum, which is remembered while the file is as it was."""

from __future__ import annotations

import contextlib
import hashlib
import time
from typing import TYPE_CHECKING

from higgsbench.files import content_identity
from higgsbench.sealed import parse_sealed, write_sealed

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["remembered_identity"]

SETTLED = 2_000_000_000
"""Nanoseconds a file must have been left alone; one that changes within a tick of its clock would look unchanged."""


def remembered_identity(file: Path, folder: Path) -> str:
    """Return `content_identity` of a file, without reading it where nothing has touched it since the last time.

    A file is the one that was read if its name, number, size and times of change are the same to the nanosecond: the
    system sets the time of the last change of any kind, which no program can set back.

    Args:
        file: the file.
        folder: where identities are remembered; one that cannot be written costs time only.
    """
    note = folder / f"{hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:32]}.json"
    state = _state(file)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        known = parse_sealed(note.read_bytes(), required=True)
        if known["state"] == state:
            return str(known["identity"])
    begin = time.time_ns()
    identity = content_identity(file)
    found = file.stat()
    if _state(file) == state and begin - max(found.st_mtime_ns, found.st_ctime_ns) > SETTLED:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_sealed(note, {"state": state, "identity": identity})
    return identity


def _state(file: Path) -> str:
    found = file.stat()
    numbers = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return " ".join(map(str, numbers))  # in JSON, numbers this long would be rounded
