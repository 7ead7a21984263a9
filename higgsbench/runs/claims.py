"""Which units a run is training now, told to other runs of the same results folder by locks that end with a process."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Claims"]

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
