"""The store of a run on disk: one pair of files per finished unit, data first, marker second."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.errors import StoreError
from higgsbench.files import TEMPORARY_PREFIX, atomic_path, file_digest, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.runs.unit import UnitResult

__all__ = ["RunStore", "StoredUnit"]

_OOF, _TEST = 0, 1


@dataclass(frozen=True)
class StoredUnit:
    """A finished unit as read back.

    Attributes:
        key: identity.
        event_id: events of the held-out fold.
        score: their log-odds.
        test_event_id: events of the test set, or empty.
        test_score: their log-odds.
        fit_seconds: wall time of the fit.
        predict_us: prediction time per event in microseconds.
        peak_mb: peak memory of the worker.
    """

    key: str
    event_id: NDArray[np.int64]
    score: NDArray[np.float64]
    test_event_id: NDArray[np.int64]
    test_score: NDArray[np.float64]
    fit_seconds: float
    predict_us: float
    peak_mb: float


class RunStore:
    """Files of one run.

    Args:
        folder: the run's folder; created on `prepare`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.units = folder / "units"

    def prepare(self) -> None:
        """Create the folder and remove temporary files that a killed run left behind.

        Raises:
            StoreError: if the folder cannot be created or written.
        """
        try:
            self.units.mkdir(parents=True, exist_ok=True)
            for leftover in (*self.folder.glob(f"{TEMPORARY_PREFIX}*"), *self.units.glob(f"{TEMPORARY_PREFIX}*")):
                if not _writer_lives(leftover.name):
                    leftover.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written: {error.strerror}; choose another --output") from error

    def keys(self) -> set[str]:
        """Return the keys of units that have a marker."""
        try:
            names = [entry.name for entry in os.scandir(self.units)]
        except OSError:
            return set()
        return {n[:-5] for n in names if n.endswith(".json") and not n.startswith(TEMPORARY_PREFIX)}

    def write(self, result: UnitResult, event_id: NDArray[np.int64], test_event_id: NDArray[np.int64]) -> None:
        """Store a finished unit: scores first, then the marker that vouches for them.

        Args:
            result: the finished unit.
            event_id: (n,) numbers of all training events.
            test_event_id: numbers of the test events, empty where there are none.

        Raises:
            StoreError: if the disk refuses.
        """
        test_score = np.empty(0) if result.test_score is None else result.test_score
        test_ids = test_event_id if result.test_score is not None else np.empty(0, dtype=np.int64)
        ids = np.concatenate([event_id[result.rows], test_ids])
        part = np.repeat(np.array([_OOF, _TEST], dtype=np.uint8), [result.rows.size, test_ids.size])
        frame = pl.DataFrame({"part": part, "EventId": ids, "score": np.concatenate([result.score, test_score])})
        data = self.units / f"{result.key}.parquet"
        try:
            with atomic_path(data) as temporary:
                frame.write_parquet(temporary, compression="zstd", statistics=False)
            marker = {
                "key": result.key,
                "checksum": file_digest(data),
                "events": int(result.rows.size),
                "test_events": int(test_ids.size),
                "fit_seconds": result.fit_seconds,
                "predict_us": result.predict_us,
                "peak_mb": result.peak_mb,
            }
            write_json(self.units / f"{result.key}.json", marker)
            self._error_file(result.key).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{data}: cannot be written: {error.strerror}; finished units are kept") from error

    def read(self, key: str) -> StoredUnit | None:
        """Read a finished unit; None if there is none or it is damaged (checksum, shape, unreadable)."""
        data, marker = self.units / f"{key}.parquet", self.units / f"{key}.json"
        try:
            entry = json.loads(marker.read_bytes())
            if entry["key"] != key or file_digest(data) != entry["checksum"]:
                return None
            frame = pl.read_parquet(data, glob=False, hive_partitioning=False)
            oof, test = frame.filter(pl.col("part") == _OOF), frame.filter(pl.col("part") == _TEST)
            if oof.height != entry["events"] or test.height != entry["test_events"]:
                return None
            return StoredUnit(
                key,
                oof["EventId"].to_numpy(),
                oof["score"].to_numpy(),
                test["EventId"].to_numpy(),
                test["score"].to_numpy(),
                float(entry["fit_seconds"]),
                float(entry["predict_us"]),
                float(entry["peak_mb"]),
            )
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
            return None

    def drop(self, key: str) -> None:
        """Remove a unit, marker first."""
        for path in (self.units / f"{key}.json", self.units / f"{key}.parquet"):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"{path}: cannot be replaced: {error.strerror}; remove it") from error

    def adopt(self, keys: Iterable[str], others: Iterable[RunStore]) -> int:
        """Take finished units with the given keys over from other runs; return how many."""
        wanted = set(keys)
        taken = 0
        for other in others:
            for key in sorted(wanted & other.keys()):
                if self._take(key, other):
                    wanted.discard(key)
                    taken += 1
            if not wanted:
                break
        return taken

    def _take(self, key: str, other: RunStore) -> bool:
        try:
            for name in (f"{key}.parquet", f"{key}.json"):
                with atomic_path(self.units / name) as temporary:
                    shutil.copyfile(other.units / name, temporary)
        except OSError:
            return False
        if self.read(key) is None:
            self.drop(key)
            return False
        return True

    def write_error(self, key: str, text: str) -> Path:
        """Keep the traceback of a failed unit beside the others; return its path."""
        path = self._error_file(key)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return path

    def _error_file(self, key: str) -> Path:
        return self.units / f"{key}.error.txt"

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run; None if it is absent or damaged."""
        try:
            return json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError):
            return None


def _writer_lives(name: str) -> bool:
    """Whether the process that made a temporary file still runs (its number is part of the name)."""
    import psutil

    number = name[len(TEMPORARY_PREFIX) :].split("-", 1)[0]
    return number.isdigit() and psutil.pid_exists(int(number))
