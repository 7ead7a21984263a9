"""Cache of parsed event files, keyed by the content of the file they came from."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import polars as pl

from higgsbench.events.table import content_digest
from higgsbench.files import atomic_path, file_digest
from higgsbench.sealed import parse_sealed, write_sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from higgsbench.schema import TableSchema

__all__ = ["CACHE_FORMAT", "cache_dir", "cached_frame", "cached_table"]

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
    identity = f"{file_digest(file)}:{_schema_digest(schema)}"
    return cached_table(identity, lambda: parse(file, schema))


def cached_table(identity: str, make: Callable[[], pl.DataFrame]) -> tuple[pl.DataFrame, str]:
    """Return a table and its content digest, from the cache where its identity is found and sound; else make it."""
    key = hashlib.sha256(f"{identity}:{CACHE_FORMAT}".encode()).hexdigest()[:32]
    table = cache_dir() / "events" / f"{key}.parquet"
    sidecar = table.with_suffix(".json")
    found = _read_entry(table, sidecar)
    if found is not None:
        return found
    frame = make()
    digest = content_digest(frame)
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        sidecar.unlink(missing_ok=True)
        with atomic_path(table) as temporary:
            frame.write_parquet(temporary, compression="lz4", statistics=False)
        write_sealed(sidecar, {"digest": digest, "checksum": file_digest(table), "rows": frame.height})
    except OSError:
        pass
    return frame, digest


def _read_entry(table: Path, sidecar: Path) -> tuple[pl.DataFrame, str] | None:
    try:
        entry = parse_sealed(sidecar.read_bytes(), required=True)
        if file_digest(table) != entry["checksum"]:
            return None
        return pl.read_parquet(table, glob=False, hive_partitioning=False), str(entry["digest"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, pl.exceptions.PolarsError):
        return None
