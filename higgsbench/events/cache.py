"""Event tables on disk: the cache of parsed files, and events whose measured columns stay there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.check import truth_columns
from higgsbench.events.table import BATCH, Events, content_digest, digest_of_columns
from higgsbench.files import atomic_path, content_identity, file_digest, no_panic, parse_sealed, write_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from higgsbench.schema import TableSchema

ROW_GROUP = 1 << 16  # rows that a reader of a part of a cached table must decompress together
# Version of the cache format; increased whenever the reader would parse the same bytes to a different table, so that
# versions can share one cache.
CACHE_FORMAT = 3
# Nanoseconds since a file's last change before it is trusted; a change within one clock tick would go unnoticed.
SETTLED = 2_000_000_000
# Fields of a layout that older versions did not have; left out if unused, so that older entries stay valid.
_LATER_FIELDS = frozenset({"process", "categories", "derived", "select", "ids", "fold"})
_ROW = "# row"  # a name that no layout has
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)


def cache_dir() -> Path:
    """Folder of the caches: HIGGSBENCH_CACHE_DIR if set, otherwise the user's cache folder of the platform.

    Without a home folder the returned path cannot be created, so nothing is cached.
    """
    chosen = os.environ.get("HIGGSBENCH_CACHE_DIR")
    try:
        return Path(chosen or platformdirs.user_cache_dir("higgsbench", appauthor=False))
    except (RuntimeError, KeyError):
        return Path(os.devnull) / "higgsbench"


def file_identity(file: Path, schema: TableSchema, columns: Sequence[str] | None = None) -> str:
    """Identity of a file's table: the content of the file, the layout, and the columns if not all are read."""
    content = {name: value for name, value in asdict(schema).items() if value or name not in _LATER_FIELDS}
    layout = json.dumps(content, sort_keys=True, default=sorted)
    chosen = "" if columns is None else f":{json.dumps(sorted(columns))}"
    return f"{remembered_identity(file, cache_dir() / 'files')}:{hashlib.sha256(layout.encode()).hexdigest()}{chosen}"


def remembered_identity(file: Path, folder: Path) -> str:
    """Return `content_identity` of a file, without reading it if it has not changed since the last time.

    A file counts as unchanged if its name, number, size and times of change are the same to the nanosecond: the
    system sets the time of the last change of any kind, which no program can set back. If `folder`, where identities
    are stored, cannot be written, files are read again each time.
    """
    note = folder / f"{hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:32]}.json"
    state = _state(file)
    with contextlib.suppress(*_UNREADABLE):
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


def cached_table(identity: str, make: Callable[[], pl.DataFrame]) -> tuple[pl.DataFrame, str]:
    """Return a table and its content digest, from the cache if the entry is intact; otherwise make it.

    An entry is used only if the stored table still has the checksum that its sidecar states. If the cache
    cannot be written (read-only, full disk), reading is only slower.
    """
    table = cache_entry(identity)
    if table.with_suffix(".json").is_file():
        # The checksum is computed in another thread while the table is read.
        with contextlib.suppress(OSError, pl.exceptions.PolarsError), ThreadPoolExecutor(1) as other, no_panic():
            known = other.submit(intact, table)
            frame = pl.read_parquet(table, glob=False, hive_partitioning=False)
            if (digest := known.result()) is not None:
                return frame, digest
    frame = make()
    digest = content_digest(frame)

    def write(target: Path) -> str:
        frame.write_parquet(target, compression="lz4", statistics=False, row_group_size=ROW_GROUP)
        return digest

    with contextlib.suppress(OSError):
        replace_entry(table, write)
    return frame, digest


def cached_file(identity: str, write: Callable[[Path], str]) -> tuple[Path, str]:
    """Return the Parquet file of a table and its content digest; `write` it unless the cache has it intact.

    An `OSError` says that the cache cannot be written.
    """
    table = cache_entry(identity)
    digest = intact(table)
    return table, replace_entry(table, write) if digest is None else digest


def cache_entry(identity: str, ending: str = ".parquet") -> Path:
    """Return the file of an entry, which may not exist."""
    key = hashlib.sha256(f"{identity}:{CACHE_FORMAT}".encode()).hexdigest()[:32]
    return cache_dir() / "events" / f"{key}{ending}"


def replace_entry(table: Path, write: Callable[[Path], str]) -> str:
    """Replace an entry by what `write` makes, which returns the content's digest: the sidecar is written last."""
    sidecar = table.with_suffix(".json")
    table.parent.mkdir(parents=True, exist_ok=True)
    sidecar.unlink(missing_ok=True)
    with atomic_path(table) as temporary:
        digest = write(temporary)
    write_sealed(sidecar, {"digest": digest, "checksum": file_digest(table)})
    return digest


def intact(table: Path) -> str | None:
    """Return the content digest of an entry, None if it is absent or does not have its checksum."""
    with contextlib.suppress(*_UNREADABLE):
        entry = parse_sealed(table.with_suffix(".json").read_bytes(), required=True)
        if file_digest(table) == entry["checksum"]:
            return str(entry["digest"])
    return None


@dataclass(frozen=True)
class StoredEvents(Events):
    """Events of which `frame` has the bookkeeping columns only (numbers, labels, weights, subsets, groups)."""

    table: Path  # Parquet file with all columns of the layout, missing values as null
    rows: NDArray[np.int64] | None = None  # positions of these events in the table, ascending; None for all
    owner: object = None  # what keeps the file from being removed, where it is a temporary one

    def lazy(self) -> pl.LazyFrame:
        """Return all columns of these events, in order, as a query on the file."""
        table = pl.scan_parquet(self.table, glob=False, hive_partitioning=False)
        if self.rows is None:
            return table
        chosen = pl.Series(_ROW, self.rows, dtype=pl.get_index_type()).to_frame().lazy()
        return table.with_row_index(_ROW).join(chosen, on=_ROW, how="semi", maintain_order="left").drop(_ROW)

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the table in parts of at most `BATCH` rows, in order; refuse a file changed while it was in use."""
        try:
            for part in self.lazy().collect_batches(chunk_size=BATCH, maintain_order=True):
                yield from part.iter_slices(BATCH)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{self.table}: damaged while it was in use: {str(error).splitlines()[0]}") from error

    def part(self, rows: NDArray[np.int64]) -> pl.DataFrame:
        """Return the rows at some positions, in that order, with all columns."""
        wanted, back = np.unique(self._positions(rows), return_inverse=True)
        return replace(self, rows=wanted).lazy().collect(engine="streaming")[back]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Return the named rows, in the order of the file, as events of their own, with their own digest."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.sort(rows).astype(np.int64)
        chosen = self._positions(index)
        digest = stored_digest(self.table, chosen)
        return replace(self, frame=self.frame[index], rows=chosen, known_digest=digest)

    def _positions(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return index if self.rows is None else self.rows[index]


class TemporaryFolder:
    """A temporary folder that is removed when nothing refers to it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="higgsbench-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def stored_events(
    table: Path, digest: str, schema: TableSchema, source: str, owner: TemporaryFolder | None = None
) -> StoredEvents:
    """Return the events of a stored table, the bookkeeping columns in memory."""
    columns = list(pl.read_parquet_schema(table))
    kept = [name for name in columns if name in (*truth_columns(schema), schema.group, schema.fold)]
    # A layout may have none of these; the height must be known all the same.
    frame = pl.read_parquet(table, columns=kept or columns[:1], glob=False, hive_partitioning=False)
    return StoredEvents(frame, schema, source, table, None, owner, known_digest=digest)


def stored_digest(table: Path, rows: NDArray[np.int64] | None = None) -> str:
    """Return the `content_digest` of some rows of a table, one column in memory at a time."""

    def columns() -> Iterator[pl.Series]:
        for name in sorted(pl.read_parquet_schema(table)):
            column = pl.read_parquet(table, columns=[name], glob=False, hive_partitioning=False)[name]
            yield column if rows is None else column[rows]

    return digest_of_columns(columns())
