"""Keep two processes from writing the same run, and take over finished units of other runs."""

from __future__ import annotations

import contextlib
import os
import platform
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from higgsbench.errors import StoreError
from higgsbench.runs.store import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from higgsbench.runs.unit import UnitResult

LOCK, HOLDER = ".lock", ".holder"
"""The locked file in a run's folder, and the text that names the process that holds the lock."""

_POLL, _QUIET = 0.1, 5.0
"""Seconds between two attempts to take the lock, and seconds of waiting after which the user is told."""


@contextlib.contextmanager
def run_lock(folder: Path, note: Callable[[str], object], patience: float | None = None) -> Iterator[None]:
    """Hold the lock of a run; wait while another process holds it.

    The operating system releases the lock when its process ends, however it ends. Where the file system has no locks,
    two processes may train a unit twice; the stored files are still correct, because they are replaced whole.

    Args:
        folder: the existing folder of the run.
        note: receives one line if the wait is long.
        patience: seconds to wait at most; None waits until the other process ends.

    Raises:
        StoreError: naming the holder, if the lock is not free in time.
    """
    lock = FileLock(folder / LOCK)
    try:
        _acquire(lock, folder, note, patience)
    except (OSError, NotImplementedError):  # no locks on this file system, or a folder that the store will report
        yield
        return
    _sign(folder, f"process {os.getpid()} on {platform.node()}")
    try:
        yield
    finally:
        _sign(folder, "")
        lock.release()


def _acquire(lock: FileLock, folder: Path, note: Callable[[str], object], patience: float | None) -> None:
    quiet = _QUIET if patience is None else min(_QUIET, patience)
    try:
        lock.acquire(timeout=quiet, poll_interval=_POLL)
    except Timeout:
        note(f"waiting for {_holder(folder)}, which is writing to the same run")
    else:
        return
    try:
        lock.acquire(timeout=-1 if patience is None else patience - quiet, poll_interval=_POLL)
    except Timeout:
        text = f"{folder}: {_holder(folder)} is still writing to this run; try again when it has finished"
        raise StoreError(text) from None


def _holder(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return (folder / HOLDER).read_text(encoding="utf-8", errors="replace").strip()[:200] or "another process"
    return "another process"


def _sign(folder: Path, text: str) -> None:
    """Write who holds the lock, for people to read; an empty text removes it."""
    with contextlib.suppress(OSError):
        if text:
            (folder / HOLDER).write_text(text, encoding="utf-8")
        else:
            (folder / HOLDER).unlink(missing_ok=True)


def reuse(
    store: RunStore, output: Path, keys: Collection[str], with_model: Collection[str], note: Callable[[str], object]
) -> dict[str, UnitResult]:
    """Read the finished units of a run, and copy those that other runs of the same folder have finished.

    Args:
        store: the run's files.
        output: folder that holds the runs.
        keys: the units of the plan.
        with_model: units that count as finished only together with their fitted model.
        note: receives what was taken over and what is computed again.
    """
    missing = set(keys) - store.keys()
    if missing:
        others = [p for p in sorted(output.iterdir()) if p.is_dir() and p != store.folder and p.name[0] != "."]
        taken = store.adopt(missing, map(RunStore, others), with_model)
        if taken:
            note(f"{taken} finished units taken over from other runs in {output}")
    out = {}
    without = 0
    for key in sorted(set(keys) & store.keys()):
        found = store.read(key)
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
