"""What this process runs on: cores, memory, versions, hardware, commit."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from higgsbench import __version__

LARGE = 10_000
"""Number of events from which freed memory is worth returning: pages that are needed again cost time."""

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Linux's control groups, and the file that names those of this process."""

_PACKAGES = (
    *("numpy", "scipy", "polars", "scikit-learn", "joblib", "threadpoolctl", "pydantic", "ruamel.yaml", "platformdirs"),
    *("psutil", "click", "rich", "pooch", "uproot", "matplotlib", "mplhep", "pandas", "optuna", "skops"),
)


def environment() -> dict[str, Any]:
    """Return versions of higgsbench and its dependencies, processor, memory and (in a checkout) the commit."""
    import psutil

    from higgsbench.models import registered_models

    models = {name for spec in registered_models() for name in spec.requires}
    return {
        "higgsbench": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": available_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "packages": {name: package_version(name) for name in (*_PACKAGES, *sorted(models.difference(_PACKAGES)))},
    }


def available_cores() -> int:
    """Return how many cores this process may use: of the machine, its affinity, and the quotas of its control groups.

    A quota of one core and a half counts as two, so that none of it stays unused.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _control_groups("cpu"):
        for pair in (
            _numbers(folder / "cpu.max"),
            _numbers(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"),
        ):
            if len(pair) == 2 and min(pair) > 0:
                cores = min(cores, math.ceil(pair[0] / pair[1]))
    return max(1, cores)


def available_memory() -> int:
    """Return how many bytes new processes may take: of the machine, and of this process's control groups."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for folder in _control_groups("memory"):
        for pair in (
            _numbers(folder / "memory.max", folder / "memory.current"),
            _numbers(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes"),
        ):
            if len(pair) == 2:
                free = min(free, max(0, pair[0] - pair[1]))
    return free


def give_back(events: int) -> None:
    """Return freed memory to the system where the C library can (glibc); it keeps arrays of up to 32 MB otherwise.

    Args:
        events: length of the arrays that were freed; few events are left alone.
    """
    if events >= LARGE and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _control_groups(controller: str) -> list[Path]:
    """Return the folders of this process's control groups and of those above them, of Linux's version 2 and 1."""
    # A container sees its own group as the root, whatever the paths in the file say.
    lines = ["0::/", f"1:{controller}:/"]
    with contextlib.suppress(OSError):
        lines += _OWN_GROUPS.read_text().splitlines()
    folders = []
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number == "0" or controller in controllers.split(","):
            names = [name for name in path.split("/") if name not in ("", "..")]
            roots = [_GROUPS] if number == "0" else [_GROUPS / controller, _GROUPS / controllers]
            folders += [root.joinpath(*names[:depth]) for root in roots for depth in range(len(names), -1, -1)]
    return list(dict.fromkeys(folders))


def _numbers(*files: Path) -> tuple[int, ...]:
    """Return the numbers in files; none if a file is missing or holds a word, such as `max`."""
    try:
        return tuple(int(word) for file in files for word in file.read_text().split())
    except (OSError, ValueError):
        return ()


@functools.cache
def package_version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the checkout this package is imported from, with "-dirty" for local changes; None when installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    # Not `describe --dirty`: that locks the index, and a run killed at that moment would leave the lock behind.
    name = _git(root, "describe", "--always", "--abbrev=12", "--exclude=*")
    changes = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    if not name or changes is None:
        return None
    return f"{name}-dirty" if changes else name


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
