"""The files of a run's units on disk, scores and model first, then their marker; the lock on the run's folder."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from filelock import FileLock, Timeout

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
    told_plainly,
    write_sealed,
    write_text,
    writer_lives,
)
from higgsbench.runs.unit import StoredModel, UnitResult

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

_OOF, _TEST = 0, 1
_TIMES = ("fit_seconds", "predict_us", "peak_mb")
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading a damaged file may raise."""


LOCK, HOLDER = ".lock", ".holder"
"""The locked file in a run's folder, and the text that names the process that holds the lock."""

_POLL, _QUIET = 0.1, 5.0
"""Seconds between two attempts to take the lock, and seconds of waiting after which the user is told."""


class _Marker(NamedTuple):
    """The whole content of a unit's marker, and what it says about the fitted model."""

    content: dict[str, Any]
    model: StoredModel | None

    def check(self, data: Path, model: Path) -> None:
        """Raise OSError unless these are the files that the marker describes."""
        wanted = [(data, self.content["checksum"])]
        if self.model is not None and self.model.checksum is not None:
            wanted.append((model, self.model.checksum))
        for file, checksum in wanted:
            if file_digest(file) != checksum:
                raise OSError(f"{file}: does not match its marker")


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
        with told_plainly(StoreError, data, advice="; finished units are kept"):
            with atomic_path(data) as temporary:
                frame.write_parquet(temporary, compression="zstd", statistics=False)
            marker = {"checksum": file_digest(data), "events": sizes[0], "test_events": sizes[1]}
            marker |= {name: getattr(result, name) for name in ("key", *_TIMES)}
            if result.model_file is not None:
                model = self.model_file(result.key)
                put_in_place(Path(result.model_file), model)
                marker["model"] = {"checksum": file_digest(model)}
            elif result.model is not None:
                marker["model"] = result.model._asdict()
            write_sealed(self._marker_file(result.key), marker)
            sync_folder(self.units)
            self.error_file(result.key).unlink(missing_ok=True)

    def read(self, key: str) -> UnitResult | None:
        """Read a finished unit; None if there is none or it is damaged."""
        marker = self._marker(key)
        if marker is None:
            return None
        try:
            marker.check(self._data(key), self.model_file(key))
            with no_panic():
                frame = pl.read_parquet(self._data(key), glob=False, hive_partitioning=False)
            if frame.dtypes != [pl.UInt8, pl.Int64, pl.Float64]:
                return None
            part, *columns = (frame[name].to_numpy() for name in ("part", "EventId", "score"))
            (ids, score), (test_ids, test_score) = ([c[part == of] for c in columns] for of in (_OOF, _TEST))
            times: dict[str, Any] = {name: float(marker.content[name]) for name in _TIMES}
            return UnitResult(key, ids, score, test_ids, test_score, model=marker.model, **times)
        except (*_DAMAGED, pl.exceptions.PolarsError):
            return None

    def intact(self, key: str, with_model: bool = False) -> bool:
        """Whether the files of a unit are what its marker says, and it describes a model where there must be one."""
        marker = self._marker(key)
        if marker is None or (with_model and marker.model is None):
            return False
        try:
            marker.check(self._data(key), self.model_file(key))
        except OSError:
            return False
        return True

    def model_file(self, key: str) -> Path:
        """Return where the fitted model of a unit is kept."""
        return self.units / f"{key}.model.zip"

    def new_model_file(self, key: str) -> str:
        """Return a temporary name under which a worker may write the model of a unit."""
        return str(temporary_path(self.model_file(key)))

    def stored_model(self, key: str) -> StoredModel | None:
        """Return what the marker of a unit says about its model, if anything; a StoreError if there is no marker."""
        marker = self._marker(key)
        if marker is None:
            raise StoreError(f"{self._marker_file(key)}: missing or damaged; run the configuration again")
        return marker.model

    def adopt(self, keys: Iterable[str], others: Iterable[RunStore], with_model: Collection[str] = ()) -> int:
        """Take finished units over from other runs; return how many were found.

        Args:
            keys: units to look for.
            others: runs to look in.
            with_model: keys that are taken only together with the fitted model.
        """
        wanted = set(keys)
        taken = set[str]()
        for other in others:
            taken |= {key for key in sorted(wanted - taken) if self._take(key, other, key in with_model)}
        return len(taken)

    def _take(self, key: str, other: RunStore, with_model: bool) -> bool:
        """Copy a unit whole, compare it with its marker, and only then give it the names of this run."""
        marker = other._marker(key)
        if marker is None or (with_model and marker.model is None):
            return False
        try:
            with atomic_path(self._data(key)) as data:
                shutil.copyfile(other._data(key), data)
                if marker.model is None or marker.model.checksum is None:
                    marker.check(data, data)
                else:
                    with atomic_path(self.model_file(key)) as model:
                        _copy_or_link(other.model_file(key), model)
                        marker.check(data, model)
            write_sealed(self._marker_file(key), marker.content)
        except OSError:
            return False
        return self.read(key) is not None

    def reuse(
        self, outputs: Sequence[Path], keys: Collection[str], with_model: Collection[str], note: Callable[[str], object]
    ) -> dict[str, UnitResult]:
        """Read the finished units of the run, and copy those that other runs have finished.

        Args:
            outputs: folders that hold runs.
            keys: the units of the plan.
            with_model: units that count as finished only together with their fitted model.
            note: receives what was taken over and what is computed again.
        """
        for output in outputs:
            missing = set(keys) - self.keys()
            if not missing or not output.is_dir():
                continue
            others = [p for p in sorted(output.iterdir()) if p.is_dir() and p != self.folder and p.name[0] != "."]
            taken = self.adopt(missing, map(RunStore, others), with_model)
            if taken:
                note(f"{taken} finished units taken over from other runs in {output}")
        out, without = {}, 0
        for key in sorted(set(keys) & self.keys()):
            found = self.read(key)
            if found is None:
                note(f"unit {key}: a stored file is damaged; it is computed again")
            elif found.model is None and key in with_model:
                without += 1
            else:
                out[key] = found
        if without:
            note(
                f"{without} stored units have scores but no fitted models; they are computed again "
                "(set store_models: false to avoid this)"
            )
        return out

    def write_error(self, key: str, text: str) -> Path:
        """Keep the traceback of a failed unit beside the others; return its path."""
        path = self.error_file(key)
        with told_plainly(StoreError, path, advice="; finished units are kept"):
            write_text(path, text)
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
            content = parse_sealed(self._marker_file(key).read_bytes())
            if content["key"] != key or not content["checksum"]:
                return None
            entry = content.get("model")
            return _Marker(content, None if entry is None else StoredModel(**entry))
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


@contextlib.contextmanager
def run_lock(folder: Path, note: Callable[[str], object], patience: float | None = None) -> Iterator[None]:
    """Hold the lock of a run; wait at most `patience` seconds while another process holds it, and note a long wait.

    The operating system releases the lock when its process ends, however it ends. Where the file system has no locks,
    two processes may train a unit twice; the stored files are still correct, because they are replaced whole.

    Raises:
        StoreError: naming the holder, if the lock is not free in time.
    """
    lock, holder = FileLock(folder / LOCK), folder / HOLDER
    try:
        _acquire(lock, holder, note, patience)
    except (OSError, NotImplementedError):  # no locks on this file system, or a folder that the store will report
        yield
        return
    with contextlib.suppress(OSError):
        holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, holder: Path, note: Callable[[str], object], patience: float | None) -> None:
    """Take the lock; after a while tell the user who holds it, whom the file `holder` names."""
    quiet = _QUIET if patience is None else min(_QUIET, patience)
    try:
        lock.acquire(timeout=quiet, poll_interval=_POLL)
        return
    except Timeout:
        name = ""
        with contextlib.suppress(OSError):
            name = holder.read_text(encoding="utf-8", errors="replace").strip()[:200]
        name = name or "another process"
    note(f"waiting for {name}, which is writing to the same run")
    try:
        lock.acquire(timeout=-1 if patience is None else patience - quiet, poll_interval=_POLL)
    except Timeout:
        text = f"{holder.parent}: {name} is still writing to this run; try again when it has finished"
        raise StoreError(text) from None
