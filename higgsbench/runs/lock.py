"""Reuse finished units of other runs, and keep two processes from writing the same run."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from functools import partial
from typing import TYPE_CHECKING

from higgsbench.runs.store import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from higgsbench.runs.budget import TimeBudget
    from higgsbench.runs.plan import Unit
    from higgsbench.runs.store import StoredUnit

__all__ = ["Claims", "Sharing", "runs_beside"]


FOLDER = ".claims"
_PAUSE, _LONG = 0.1, 50


class Claims:
    """Exclusive claims on units, one locked file each in the folder `.claims` of the results folder.

    A claim is a lock of the operating system on an open file. It ends with the process, however that ends: no claim is
    ever left over, and neither clocks nor numbers of processes are asked. Where the system or the file system has no
    such locks, every claim is granted; two runs at once may then train a unit twice.

    Args:
        results: folder that holds the runs.
    """

    def __init__(self, results: Path) -> None:
        self.folder = results / FOLDER
        self._held: dict[str, int] = {}

    def take(self, name: str) -> bool:
        """Claim a name; False while another run holds it, True also where this one does already."""
        path = self.folder / name
        while name not in self._held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:  # another run has just removed the empty folder
                continue
            except OSError:  # another user's folder, a full disk: the run itself says so where it matters
                return True
            if not _locked(number):
                os.close(number)
                return False
            if _is_still(path, number):
                _sign(number)
                self._held[name] = number
            else:  # its last holder took the file away between our opening and our locking it
                os.close(number)
        return True

    def holder(self, name: str) -> str:
        """Say which process holds a name; empty if nobody says."""
        try:
            return (self.folder / name).read_text(encoding="utf-8", errors="replace").strip()[:200]
        except OSError:
            return ""

    def release(self, name: str) -> None:
        """Give a name back."""
        number = self._held.pop(name, None)
        if number is not None:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)
            os.close(number)

    @contextlib.contextmanager
    def held(self, name: str, note: Callable[[str], None]) -> Iterator[None]:
        """Hold a name for a while; waits until whoever has it gives it back or ends, and says so if that takes long."""
        tries = 0
        while not self.take(name):
            tries += 1
            if tries == _LONG:
                note(f"waiting for {self.holder(name) or 'another run'}, which writes to the same run")
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            self.release(name)

    def close(self) -> None:
        """Give everything back; the folder goes with the last claim, files that killed runs left in it too."""
        for name in list(self._held):
            self.release(name)
        with contextlib.suppress(OSError):
            for file in list(self.folder.iterdir()):
                if self.take(file.name):
                    self.release(file.name)
            self.folder.rmdir()


def _locked(number: int) -> bool:
    """Lock an open file; False if somebody else has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_still(path: Path, number: int) -> bool:
    """Whether an open file is the one that stands under a name."""
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except OSError:
        return False


def _sign(number: int) -> None:
    """Write who holds the claim, for people; a full disk is no matter."""
    with contextlib.suppress(OSError):
        os.ftruncate(number, 0)
        os.write(number, f"process {os.getpid()} on {platform.node()}".encode())


_PAUSE_SHARING = 0.2


def runs_beside(output: Path, own: Path) -> list[RunStore]:
    """Return the other runs of a results folder."""
    return [RunStore(p) for p in sorted(output.iterdir()) if p.is_dir() and p != own and not p.name.startswith(".")]


class Sharing:
    """Hands out the units that no other run is at work on.

    Args:
        output: folder that holds the runs.
        store: this run's files.
        with_model: units that count as finished only with their fitted model.
        note: is told, once, whom the run waits for.
    """

    def __init__(self, output: Path, store: RunStore, with_model: Collection[str], note: Callable[[str], None]) -> None:
        self.output = output
        self.store = store
        self.with_model = with_model
        self.note = note
        self.claims = Claims(output)
        self.found: list[tuple[Unit, StoredUnit]] = []
        self.waiting: dict[str, Unit] = {}
        self._told = False

    def reuse(self, keys: Collection[str]) -> dict[str, StoredUnit]:
        """Read the finished units of this run and of the runs beside it.

        Args:
            keys: the units of the plan.
        """
        missing = set(keys) - self.store.keys()
        if missing:
            taken = self.store.adopt(missing, runs_beside(self.output, self.store.folder), self.with_model)
            if taken:
                self.note(f"{taken} finished units taken over from other runs in {self.output}")
        out = {}
        without = 0
        for key in sorted(set(keys) & self.store.keys()):
            found = self.store.read(key)
            if found is None:
                self.note(f"unit {key}: a stored file is damaged; it is computed again")
                self._drop_damaged(key)
            elif found.model is None and key in self.with_model:
                without += 1
            else:
                out[key] = found
        if without:
            self.note(
                f"{without} stored units have scores but no fitted models; they are computed again "
                "(not with store_models: false)"
            )
        return out

    def rounds(
        self, first: Callable[[], Unit | None], keep_found: Callable[[], None], budget: TimeBudget | None
    ) -> Iterator[Callable[[], Unit | None]]:
        """Give all units, and then, as often as it takes, those that another run was at work on and has left.

        Args:
            first: gives all units.
            keep_found: called when others may have finished some.
            budget: ends the waiting.
        """
        yield first
        while self.waiting:
            units = self._free()
            keep_found()
            if units:
                yield partial(next, iter(units), None)
            elif budget is not None and budget.elapsed > budget.limit:
                for unit in self.waiting.values():
                    budget.given_back(unit, "another run was still training its fits when the time was over")
                return
            elif self.waiting:
                self._wait()

    def next_of(self, units: Callable[[], Unit | None]) -> Unit | None:
        """Return the next unit that this run may train; it is claimed until `done`.

        Units that another run has finished meanwhile go to `found`, those that one is at work on to `waiting`.

        Args:
            units: gives the units in their order, None at the end.
        """
        while (unit := units()) is not None:
            if not self.claims.take(unit.key):
                self.waiting[unit.key] = unit
            elif not self._finished(unit):
                return unit
        return None

    def done(self, key: str) -> None:
        """Note that a unit is stored, or has failed."""
        self.claims.release(key)

    def _free(self) -> list[Unit]:
        """Return the waiting units that nobody is at work on any more, claimed; finished ones go to `found`."""
        out = []
        for key, unit in list(self.waiting.items()):
            if self.claims.take(key):
                del self.waiting[key]
                if not self._finished(unit):
                    out.append(unit)
        return out

    def _wait(self) -> None:
        """Pause before the next look at what others do; say once who that is."""
        if not self._told:
            self._told = True
            holders = sorted({self.claims.holder(key) for key in self.waiting} - {""})
            self.note(
                f"waiting for {len(self.waiting)} units that another run is training"
                + (f" ({', '.join(holders)})" if holders else "")
            )
        time.sleep(_PAUSE_SHARING)

    def _drop_damaged(self, key: str) -> None:
        """Remove the files of a damaged unit, unless another run is writing them anew."""
        if self.claims.take(key):
            if self.store.read(key) is None:
                self.store.drop(key)
            self.claims.release(key)

    def take_found(self) -> list[tuple[Unit, StoredUnit]]:
        """Return the units that others have finished, and forget them."""
        found, self.found = self.found, []
        return found

    def _finished(self, unit: Unit) -> bool:
        """Look for a unit that another run has stored since; its claim is then given back."""
        key = unit.key
        stored = self.store.read(key)
        if stored is None:
            beside = runs_beside(self.output, self.store.folder)
            if self.store.adopt([key], beside, self.with_model):
                stored = self.store.read(key)
        if stored is None or (stored.model is None and key in self.with_model):
            return False
        self.found.append((unit, stored))
        self.claims.release(key)
        return True
