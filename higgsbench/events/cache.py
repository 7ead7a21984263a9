"""Cache of parsed event files, keyed by the content of the file they came from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import polars as pl

from higgsbench.events.table import content_digest
from higgsbench.files import atomic_path, content_identity, file_digest, no_panic, parse_sealed, write_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from higgsbench.schema import TableSchema

__all__ = [
    "CACHE_FORMAT",
    "ROW_GROUP",
    "cache_dir",
    "cached_file",
    "cached_frame",
    "cached_table",
    "file_identity",
    "remembered_identity",
]


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


ROW_GROUP = 1 << 16
"""Rows that a reader of a part of a cached table must unpack together."""

CACHE_FORMAT = 1
"""Raised whenever the reader would parse the same bytes to another table, so that versions can share one cache."""


def cache_dir() -> Path:
    """Folder of the caches: HIGGSBENCH_CACHE_DIR where set, otherwise the user's cache folder of the platform."""
    chosen = os.environ.get("HIGGSBENCH_CACHE_DIR")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("higgsbench", appauthor=False))


def _schema_digest(schema: TableSchema) -> str:
    content = json.dumps(asdict(schema), sort_keys=True, default=sorted)
    return hashlib.sha256(content.encode()).hexdigest()


def cached_frame(
    file: Path, schema: TableSchema, parse: Callable[[Path, TableSchema], pl.DataFrame]
) -> tuple[pl.DataFrame, str]:
    """Return the parsed table of a file and its content digest, from the cache where that is sound.

    An entry is used only if its sidecar names this file content, layout and cache format and the stored table still
    has the checksum the sidecar states; otherwise the file is parsed again and the entry rebuilt. A cache that cannot
    be written (read-only, full disk) costs time, not the result.
    """
    return cached_table(file_identity(file, schema), lambda: parse(file, schema))


def cached_table(identity: str, make: Callable[[], pl.DataFrame]) -> tuple[pl.DataFrame, str]:
    """Return a table and its content digest, from the cache where its identity is found and sound; else make it."""
    table = _place(identity)
    found = _sound_table(table)
    if found is not None:
        return found
    frame = make()
    digest = content_digest(frame)
    try:
        with _replaced(table, digest) as temporary:
            frame.write_parquet(temporary, compression="lz4", statistics=False, row_group_size=ROW_GROUP)
    except OSError:
        pass
    return frame, digest


def file_identity(file: Path, schema: TableSchema) -> str:
    """Identity of a file's table: the content of the file and the layout."""
    return f"{remembered_identity(file, cache_dir() / 'files')}:{_schema_digest(schema)}"


def cached_file(identity: str, write: Callable[[Path], str]) -> tuple[Path, str]:
    """Return the Parquet file of a table and its content digest, from the cache where it is sound; else make it.

    Args:
        identity: what determines the table.
        write: writes the table to a path and returns its content digest.

    Raises:
        OSError: if the cache cannot be written.
    """
    table = _place(identity)
    digest = _sound(table)
    if digest is None:
        with _replaced(table, "") as temporary:
            digest = write(temporary)
        write_sealed(table.with_suffix(".json"), {"digest": digest, "checksum": file_digest(table)})
    return table, digest


def _place(identity: str) -> Path:
    key = hashlib.sha256(f"{identity}:{CACHE_FORMAT}".encode()).hexdigest()[:32]
    return cache_dir() / "events" / f"{key}.parquet"


@contextmanager
def _replaced(table: Path, digest: str) -> Iterator[Path]:
    """Replace an entry: its sidecar goes first and comes last; without a digest the caller writes it."""
    sidecar = table.with_suffix(".json")
    table.parent.mkdir(parents=True, exist_ok=True)
    sidecar.unlink(missing_ok=True)
    with atomic_path(table) as temporary:
        yield temporary
    if digest:
        write_sealed(sidecar, {"digest": digest, "checksum": file_digest(table)})


def _sound_table(table: Path) -> tuple[pl.DataFrame, str] | None:
    """Return the table of an entry and its content digest, None where `_sound` or the reader refuse it.

    The checksum is computed while the table is read; nobody sees the table before it agrees.
    """
    if not table.with_suffix(".json").is_file():
        return None
    with ThreadPoolExecutor(1) as other:
        digest = other.submit(_sound, table)
        try:
            with no_panic():
                frame = pl.read_parquet(table, glob=False, hive_partitioning=False)
        except (OSError, pl.exceptions.PolarsError):
            return None
        known = digest.result()
    return None if known is None else (frame, known)


def _sound(table: Path) -> str | None:
    """Return the content digest of an entry, None where there is none or it does not have its checksum."""
    try:
        entry = parse_sealed(table.with_suffix(".json").read_bytes(), required=True)
        return str(entry["digest"]) if file_digest(table) == entry["checksum"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
