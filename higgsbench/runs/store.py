"""The files of a run's units on disk: one pair per finished unit, data first, marker second."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.errors import StoreError
from higgsbench.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    file_digest,
    no_panic,
    parse_sealed,
    put_in_place,
    sync_folder,
    temporary_path,
    write_sealed,
    write_text,
    writer_lives,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from higgsbench.runs.unit import UnitResult

__all__ = ["RunStore", "StoredModel", "StoredUnit"]


@dataclass(frozen=True)
class StoredModel:
    """What a marker says of its unit's fitted model.

    Attributes:
        checksum: SHA-256 of the file, or None where the model has no form that is safe to read.
        reason: why there is no file, otherwise empty.
    """

    checksum: str | None
    reason: str = ""


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
        model: what is stored of the fitted model, or None where none was asked for.
    """

    key: str
    event_id: NDArray[np.int64]
    score: NDArray[np.float64]
    test_event_id: NDArray[np.int64]
    test_score: NDArray[np.float64]
    fit_seconds: float
    predict_us: float
    peak_mb: float
    model: StoredModel | None

    def without_scores(self) -> StoredUnit:
        """Return what is left to know when the scores have gone into their row; they are most of a run's memory."""
        none = self.score[:0].copy()
        nobody = self.event_id[:0].copy()
        return replace(self, event_id=nobody, score=none, test_event_id=nobody, test_score=none)


_OOF, _TEST = 0, 1


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
        if self.units.is_symlink():
            raise StoreError(f"{self.units}: a link; the files of a run stand in its own folder: remove it")
        try:
            self.units.mkdir(parents=True, exist_ok=True)
            for leftover in (*self.folder.glob(f"{TEMPORARY_PREFIX}*"), *self.units.glob(f"{TEMPORARY_PREFIX}*")):
                if writer_lives(leftover.name):
                    continue
                if leftover.is_dir() and not leftover.is_symlink():
                    shutil.rmtree(leftover)
                else:
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
        """Store a finished unit: scores and model first, then the marker that vouches for them.

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
        if result.refused:
            raise StoreError(f"{result.refused}; finished units are kept")
        try:
            with atomic_path(data) as temporary:
                frame.write_parquet(temporary, compression="zstd", statistics=False)
            marker: dict[str, Any] = {
                "key": result.key,
                "checksum": file_digest(data),
                "events": int(result.rows.size),
                "test_events": int(test_ids.size),
                "fit_seconds": result.fit_seconds,
                "predict_us": result.predict_us,
                "peak_mb": result.peak_mb,
            }
            if result.model_file is not None:
                put_in_place(Path(result.model_file), self.model_file(result.key))
                marker["model"] = {"checksum": file_digest(self.model_file(result.key))}
            elif result.no_model:
                marker["model"] = {"checksum": None, "reason": result.no_model}
            write_sealed(self.units / f"{result.key}.json", marker)
            sync_folder(self.units)
            self.error_file(result.key).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{data}: cannot be written: {error.strerror}; finished units are kept") from error

    def read(self, key: str) -> StoredUnit | None:
        """Read a finished unit; None if there is none or it is damaged (checksum, shape, unreadable)."""
        data = self.units / f"{key}.parquet"
        try:
            entry = self._marker(key)
            if entry["key"] != key or file_digest(data) != entry["checksum"]:
                return None
            with no_panic():
                frame = pl.read_parquet(data, glob=False, hive_partitioning=False)
            oof, test = frame.filter(pl.col("part") == _OOF), frame.filter(pl.col("part") == _TEST)
            if frame.dtypes != [pl.UInt8, pl.Int64, pl.Float64] or any(frame.null_count().row(0)):
                return None
            if oof.height != entry["events"] or test.height != entry["test_events"]:
                return None
            model = _model_entry(entry)
            wanted = None if model is None else model.checksum
            if wanted is not None and file_digest(self.model_file(key)) != wanted:
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
                model,
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError, pl.exceptions.PolarsError):
            return None

    def intact(self, key: str, with_model: bool = False) -> bool:
        """Whether the files of a unit are what its marker says; cheaper than `read`, for nothing is parsed.

        Args:
            key: the unit.
            with_model: whether the question of its model must be settled too (see `has_model`).
        """
        try:
            entry = self._marker(key)
            model = _model_entry(entry)
            wanted = None if model is None else model.checksum
            return (
                bool(entry["key"] == key and file_digest(self.units / f"{key}.parquet") == entry["checksum"])
                and (model is not None or not with_model)
                and (wanted is None or file_digest(self.model_file(key)) == wanted)
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False

    def drop(self, key: str) -> None:
        """Remove a unit, marker first."""
        for path in (self.units / f"{key}.json", self.units / f"{key}.parquet", self.model_file(key)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"{path}: cannot be replaced: {error.strerror}; remove it") from error

    def model_file(self, key: str) -> Path:
        """Return where the fitted model of a unit is kept."""
        return self.units / f"{key}.model.zip"

    def new_model_file(self, key: str) -> str:
        """Return a temporary name under which a worker may write the model of a unit."""
        return str(temporary_path(self.model_file(key)))

    def stored_model(self, key: str) -> StoredModel | None:
        """Return what the marker of a unit says of its model; None where it says nothing or there is no marker."""
        try:
            return _model_entry(self._marker(key))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def has_model(self, key: str) -> bool:
        """Whether the question of a unit's model is settled: its file is there, or is known to be impossible."""
        model = self.stored_model(key)
        return model is not None and (model.checksum is None or self.model_file(key).is_file())

    def adopt(self, keys: Iterable[str], others: Iterable[RunStore], with_model: Collection[str] = ()) -> int:
        """Take finished units over from other runs.

        Args:
            keys: units to look for.
            others: runs to look in.
            with_model: those of the keys that are taken only together with the fitted model.

        Returns:
            How many were found.
        """
        wanted = set(keys)
        taken = 0
        for other in others:
            stored = {key for key in wanted if (other.units / f"{key}.json").is_file()}
            for key in sorted(stored):
                if (key not in with_model or other.has_model(key)) and self._take(key, other):
                    wanted.discard(key)
                    taken += 1
            if not wanted:
                break
        return taken

    def _take(self, key: str, other: RunStore) -> bool:
        """Copy a unit: whole, compared with its marker, and only then under the names of this run."""
        try:
            entry = other._marker(key)
            model = _model_entry(entry)
            with contextlib.ExitStack() as files:
                data = files.enter_context(_temporary(self.units / f"{key}.parquet"))
                shutil.copyfile(other.units / f"{key}.parquet", data)
                whole = entry["key"] == key and file_digest(data) == entry["checksum"]
                copy = files.enter_context(_temporary(self.model_file(key)))
                if model is not None and model.checksum is not None:
                    _copy_or_link(other.model_file(key), copy)
                    whole = whole and file_digest(copy) == model.checksum
                if not whole:
                    return False
                put_in_place(data, self.units / f"{key}.parquet")
                if copy.exists():
                    put_in_place(copy, self.model_file(key))
            write_sealed(self.units / f"{key}.json", entry)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False
        return self.read(key) is not None

    def write_error(self, key: str, text: str) -> Path:
        """Keep the traceback of a failed unit beside the others; return its path."""
        path = self.error_file(key)
        try:
            write_text(path, text)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}; finished units are kept") from error
        return path

    def _marker(self, key: str) -> Any:
        return parse_sealed((self.units / f"{key}.json").read_bytes())

    def read_error(self, key: str) -> str | None:
        """Return the text of a unit that failed, or None if it did not."""
        try:
            return self.error_file(key).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def error_file(self, key: str) -> Path:
        """Return where the text of a failed unit is kept."""
        return self.units / f"{key}.error.txt"

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run; None if it is absent or damaged."""
        try:
            return parse_sealed((self.folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None


def _model_entry(marker: Any) -> StoredModel | None:
    entry = marker["model"] if isinstance(marker, dict) and "model" in marker else None
    if not isinstance(entry, dict) or not isinstance(entry["checksum"], (str, type(None))):
        return None
    return StoredModel(entry["checksum"], str(entry.get("reason", "")))


def _copy_or_link(source: Path, target: Path) -> None:
    """Give a file a second name where the disk can, for models are large and never changed in place."""
    if source.is_symlink():
        raise OSError(f"{source} is a link")
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Give a temporary name beside a target; what is still there at the end is removed."""
    temporary = temporary_path(target)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
