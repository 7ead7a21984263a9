"""The files of a run's units on disk: scores and model first, then the marker that vouches for them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
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
from higgsbench.runs.unit import StoredModel, UnitResult

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_OOF, _TEST = 0, 1
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading a damaged file may raise."""


@dataclass(frozen=True)
class _Marker:
    """Content of a unit's marker.

    Attributes:
        content: the whole marker.
        model: the fitted model, or None where none was asked for.
    """

    content: dict[str, Any]
    model: StoredModel | None

    @classmethod
    def parse(cls, text: bytes, key: str) -> _Marker:
        """Read a marker; raises one of `_DAMAGED` if it is not the marker of that unit."""
        content = parse_sealed(text)
        if content["key"] != key or not isinstance(content["checksum"], str):
            raise ValueError("the marker of another unit")
        entry = content.get("model")
        if entry is None:
            return cls(content, None)
        return cls(content, StoredModel(entry["checksum"], str(entry.get("reason", ""))))

    def vouches(self, data: Path, model: Path) -> bool:
        """Whether these are the files that the marker describes."""
        wanted = None if self.model is None else self.model.checksum
        try:
            same = file_digest(data) == self.content["checksum"]
            return same and (wanted is None or file_digest(model) == wanted)
        except OSError:
            return False


class RunStore:
    """The units of one run.

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
            raise StoreError(f"{self.units}: is a link, but the files of a run belong in its own folder: remove it")
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
            file = next((p for p in (self.folder, *self.folder.parents) if p.exists() and not p.is_dir()), None)
            if file is not None:
                raise StoreError(f"{file}: is a file, but --output needs a folder; choose another name") from error
            raise StoreError(f"{self.folder}: cannot be written: {error.strerror}; choose another --output") from error

    def keys(self) -> set[str]:
        """Return the keys of units that have a marker."""
        try:
            names = [entry.name for entry in os.scandir(self.units)]
        except OSError:
            return set()
        return {n[:-5] for n in names if n.endswith(".json") and not n.startswith(TEMPORARY_PREFIX)}

    def write(self, result: UnitResult) -> None:
        """Store a finished unit.

        Raises:
            StoreError: if writing fails.
        """
        if result.refused:
            raise StoreError(f"{result.refused}; finished units are kept")
        sizes = [result.event_id.size, result.test_event_id.size]
        frame = pl.DataFrame(
            {
                "part": np.repeat(np.array([_OOF, _TEST], dtype=np.uint8), sizes),
                "EventId": np.concatenate([result.event_id, result.test_event_id]),
                "score": np.concatenate([result.score, result.test_score]),
            }
        )
        data = self._data(result.key)
        try:
            with atomic_path(data) as temporary:
                frame.write_parquet(temporary, compression="zstd", statistics=False)
            marker: dict[str, Any] = {
                "key": result.key,
                "checksum": file_digest(data),
                "events": sizes[0],
                "test_events": sizes[1],
                "fit_seconds": result.fit_seconds,
                "predict_us": result.predict_us,
                "peak_mb": result.peak_mb,
            }
            if result.model_file is not None:
                put_in_place(Path(result.model_file), self.model_file(result.key))
                marker["model"] = {"checksum": file_digest(self.model_file(result.key))}
            elif result.model is not None:
                marker["model"] = {"checksum": None, "reason": result.model.reason}
            write_sealed(self._marker_file(result.key), marker)
            sync_folder(self.units)
            self.error_file(result.key).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{data}: cannot be written: {error.strerror}; finished units are kept") from error

    def read(self, key: str) -> UnitResult | None:
        """Read a finished unit; None if there is none or it is damaged."""
        marker, data = self._marker(key), self._data(key)
        if marker is None or not marker.vouches(data, self.model_file(key)):
            return None
        try:
            with no_panic():
                frame = pl.read_parquet(data, glob=False, hive_partitioning=False)
            parts = [frame.filter(pl.col("part") == part) for part in (_OOF, _TEST)]
            if frame.dtypes != [pl.UInt8, pl.Int64, pl.Float64]:
                return None
            (ids, score), (test_ids, test_score) = (
                (part["EventId"].to_numpy(), part["score"].to_numpy()) for part in parts
            )
            fit_seconds, predict_us, peak_mb = (
                float(marker.content[name]) for name in ("fit_seconds", "predict_us", "peak_mb")
            )
            return UnitResult(
                key, ids, score, test_ids, test_score, fit_seconds, predict_us, peak_mb, model=marker.model
            )
        except (*_DAMAGED, pl.exceptions.PolarsError):
            return None

    def intact(self, key: str, with_model: bool = False) -> bool:
        """Whether the files of a unit are what its marker says; cheaper than `read`.

        Args:
            key: the unit.
            with_model: whether the marker must also describe the model.
        """
        marker = self._marker(key)
        if marker is None or (with_model and marker.model is None):
            return False
        return marker.vouches(self._data(key), self.model_file(key))

    def model_file(self, key: str) -> Path:
        """Return where the fitted model of a unit is kept."""
        return self.units / f"{key}.model.zip"

    def new_model_file(self, key: str) -> str:
        """Return a temporary name under which a worker may write the model of a unit."""
        return str(temporary_path(self.model_file(key)))

    def stored_model(self, key: str) -> StoredModel | None:
        """Return what the marker of a unit says about its model; None where it says nothing.

        Raises:
            StoreError: if there is no marker or it is damaged.
        """
        marker = self._marker(key)
        if marker is None:
            raise StoreError(f"{self._marker_file(key)}: missing or damaged; run the configuration again")
        return marker.model

    def adopt(self, keys: Iterable[str], others: Iterable[RunStore], with_model: Collection[str] = ()) -> int:
        """Take finished units over from other runs.

        Args:
            keys: units to look for.
            others: runs to look in.
            with_model: keys that are taken only together with the fitted model.

        Returns:
            How many were found.
        """
        wanted = set(keys)
        before = len(wanted)
        for other in others:
            if not wanted:
                break
            wanted -= {key for key in sorted(wanted) if self._take(key, other, key in with_model)}
        return before - len(wanted)

    def _take(self, key: str, other: RunStore, with_model: bool) -> bool:
        """Copy a unit whole, compare it with its marker, and only then give it the names of this run."""
        marker = other._marker(key)
        if marker is None or (with_model and marker.model is None):
            return False
        try:
            with atomic_path(self._data(key)) as data:
                shutil.copyfile(other._data(key), data)
                if marker.model is None or marker.model.checksum is None:
                    _check(marker.vouches(data, data))
                else:
                    with atomic_path(self.model_file(key)) as model:
                        _copy_or_link(other.model_file(key), model)
                        _check(marker.vouches(data, model))
            write_sealed(self._marker_file(key), marker.content)
        except OSError:
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

    def read_error(self, key: str) -> str | None:
        """Return the text of a unit that failed, or None if it did not."""
        try:
            return self.error_file(key).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def error_file(self, key: str) -> Path:
        """Return where the text of a failed unit is kept."""
        return self.units / f"{key}.error.txt"

    def _data(self, key: str) -> Path:
        return self.units / f"{key}.parquet"

    def _marker_file(self, key: str) -> Path:
        return self.units / f"{key}.json"

    def _marker(self, key: str) -> _Marker | None:
        """Read the marker of a unit; None where there is none or it is damaged."""
        try:
            return _Marker.parse(self._marker_file(key).read_bytes(), key)
        except _DAMAGED:
            return None


def _copy_or_link(source: Path, target: Path) -> None:
    """Give a file a second name where the disk can, because models are large and never changed in place."""
    if source.is_symlink():
        raise OSError(f"{source} is a link")
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _check(whole: bool) -> None:
    if not whole:
        raise OSError("a file does not match its marker")
