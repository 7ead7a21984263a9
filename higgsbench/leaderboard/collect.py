"""Read the rows of stored runs; say what was left out and why."""

from __future__ import annotations

import functools
import hashlib
import io
from dataclasses import dataclass, field
from types import NoneType
from typing import TYPE_CHECKING, Any

import polars as pl

from higgsbench.ensemble.evaluate import Replicas
from higgsbench.errors import StoreError
from higgsbench.files import ROWS, canonical_digest, no_panic, read_sealed

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StoredRow", "collect_rows", "read_run"]

_REPLICAS_FILE = "replicas.parquet"
_NEEDED = ("name", "label", "variant", "status", "digest")
_REPLICAS = ("ams_cv", "auc")
_AT_OTHERS = "at_others"
_NUMBERS = ("ams_cv", "ams_cv_se", "auc", "auc_se", "log_loss", "fraction", "s", "b")


@dataclass(frozen=True)
class StoredRow:
    """A row of a stored run.

    Attributes:
        run: folder of the run.
        record: the row's record, full precision.
        comparability: what it must share with another row to be ranked against it.
        source: name of the events, for titles.
        replicas_digest: checksum of the bootstrap replicas' file, empty where the run's version kept none.
    """

    run: Path
    record: dict[str, Any] = field(hash=False)
    comparability: dict[str, Any] = field(hash=False)
    source: str
    replicas_digest: str = ""

    @functools.cached_property
    def group(self) -> str:
        """Digest of the comparability."""
        return canonical_digest(self.comparability)

    @property
    def ok(self) -> bool:
        """Whether the row has numbers."""
        return bool(self.record["status"] == "ok")

    def replicas(self) -> Replicas | None:
        """Bootstrap replicas of the row, or None where the file is missing or damaged."""
        table = self._table()
        if table is None:
            return None
        own = [name for name in table.columns if name.partition(":")[2] == self.record["name"]]
        return Replicas.from_columns(
            self.record["name"], {name: table[name].to_numpy() for name in own if not table[name].null_count()}
        )

    def _table(self) -> pl.DataFrame | None:
        try:
            return _sound_table(self.run / _REPLICAS_FILE, self.replicas_digest)
        except (OSError, ValueError, pl.exceptions.PolarsError):
            return None


def _sound_table(path: Path, digest: str) -> pl.DataFrame:
    """Read a table that has the checksum wanted, once for each state of the file; raises what `_table` raises."""
    state = path.stat()
    return _table(path, digest, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=256)
def _table(path: Path, digest: str, modified: int, size: int) -> pl.DataFrame:
    """Read a table once for all rows of its run, which stand far apart where many runs are ranked together.

    Args:
        path: the file.
        digest: SHA-256 that vouches for it, empty where none is known.
        modified: when it was written, so that another version is read anew; like its size.
        size: its bytes.

    Raises:
        ValueError: if it has not the checksum wanted.
    """
    content = path.read_bytes()
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("its checksum is not the one in rows.json")
    with no_panic():
        return pl.read_parquet(io.BytesIO(content))


def collect_rows(results: Path) -> tuple[list[StoredRow], list[str]]:
    """Read all runs under a folder.

    Args:
        results: folder that holds runs, or one run's folder.

    Returns:
        The rows and one line for everything that was left out.

    Raises:
        StoreError: if the folder does not exist.
    """
    if not results.is_dir():
        raise StoreError(
            f"{results}: no such folder; `higgsbench run` makes it, or name another: higgsbench leaderboard FOLDER"
        )
    one = (results / "rows.json").exists() or (results / "units").is_dir()
    folders = [results] if one else sorted(p for p in results.iterdir() if p.is_dir())
    rows: list[StoredRow] = []
    notes: list[str] = []
    seen: dict[tuple[Any, ...], StoredRow] = {}
    repeated = 0
    for folder in folders:
        if not ((folder / "rows.json").exists() or (folder / "units").is_dir()):
            continue
        found, problem = read_run(folder)
        if problem:
            notes.append(problem)
        for row in found:
            key = (row.group, row.record["digest"], str(row.record.get("cut_rule")), row.record["label"], row.ok)
            if key in seen:
                repeated += 1
                continue
            seen[key] = row
            rows.append(row)
            if isinstance(row.record.get("remark"), str):
                notes.append(f"{row.record['name']}: {row.record['remark']}")
    if repeated:
        notes.append(f"{repeated} rows stand in more than one run with the same fits and are shown once")
    return rows, notes


def read_run(folder: Path) -> tuple[list[StoredRow], str]:
    """Read the rows of one run; the text says why there are none, or what is to be known of them."""
    try:
        content = read_sealed(folder / ROWS)
    except FileNotFoundError:
        done = len(list((folder / "units").glob("[!.]*.json")))
        return [], f"{folder.name}: left out, unfinished ({done} units stored; run its configuration again to go on)"
    except OSError as error:
        return [], f"{folder.name}: left out, rows.json cannot be read ({error.strerror or error})"
    except (ValueError, StoreError):
        return [], f"{folder.name}: left out, rows.json cannot be read: damaged or not made by higgsbench"
    problem = _problem(content)
    if problem:
        return [], f"{folder.name}: left out, rows.json is damaged ({problem})"
    source = str(content.get("source", ""))
    sums = content.get("checksums")
    digest = str(sums.get(_REPLICAS_FILE, "")) if isinstance(sums, dict) else ""
    rows = [StoredRow(folder, record, content["comparability"], source, digest) for record in content["rows"]]
    notes = [_without_time(folder, content.get("left_out")), _without_replicas(folder, digest)]
    return rows, "; ".join(note for note in notes if note)


def _without_replicas(folder: Path, digest: str) -> str:
    """Say that bootstrap replicas are damaged; empty where they are not."""
    try:
        if digest:
            _sound_table(folder / _REPLICAS_FILE, digest)
    except (OSError, ValueError, pl.exceptions.PolarsError):
        return (
            f"{folder.name}: {_REPLICAS_FILE} is missing or damaged: differences have no errors; "
            "run its configuration again to write it anew"
        )
    return ""


def _without_time(folder: Path, left_out: Any) -> str:
    """Name the rows that a time limit left out of a run; empty where there are none."""
    if not isinstance(left_out, list):
        return ""
    names = [str(row.get("name", "")) for row in left_out if isinstance(row, dict)]
    return f"{folder.name}: a time limit left out {', '.join(names)}" if names else ""


def _problem(content: Any) -> str:
    """Say what keeps the content of rows.json from being used; empty if nothing does."""
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        return "no list of rows"
    shared = content.get("comparability")
    if not isinstance(shared, dict):
        return "no comparability"
    counts = ("events", "test_events", "repeats")
    if "events" not in shared or not all(_is_count(shared.get(key, 0)) for key in counts):
        return "no number of events"
    for key in ("data", "test", "layout", "fold_digest"):
        if not isinstance(shared.get(key, ""), (str, NoneType)):
            return f"its {key} is no text"
    for key in ("n_s", "n_b", "b_reg"):
        if key in shared and not (_is_number(shared[key]) and shared[key] >= 0):
            return f"its {key} is no number of events"
    try:
        canonical_digest(shared)
    except ValueError:
        return "a comparability that is not finite"
    for record in content["rows"]:
        if not isinstance(record, dict) or any(not isinstance(record.get(key), str) for key in _NEEDED):
            return "a row without name, label, variant, status or digest"
        if record["status"] == "ok" and any(not _is_number(record.get(key)) for key in _NUMBERS):
            return f"row {record['name']!r} lacks a number"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
