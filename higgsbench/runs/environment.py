"""What this process runs on: cores, memory, versions, hardware, commit."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import itertools
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higgsbench import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = 50_000
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
    for quota, period in _limits("cpu", ["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        if quota > 0 and period > 0:
            cores = min(cores, math.ceil(quota / period))
    return max(1, cores)


def available_memory() -> int:
    """Return how many bytes new processes may take: of the machine, and of this process's control groups."""
    import psutil

    version_2, version_1 = ["memory.max", "memory.current"], ["memory.limit_in_bytes", "memory.usage_in_bytes"]
    left = [limit - used for limit, used in _limits("memory", version_2, version_1)]
    return max(0, min([int(psutil.virtual_memory().available), *left]))


def give_back(events: int) -> None:
    """Return freed memory to the system where the C library can (glibc); it keeps arrays of up to 32 MB otherwise.

    Args:
        events: length of the arrays that were freed; few events are left alone.
    """
    if events >= LARGE and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _limits(controller: str, *names: list[str]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of numbers in files of this process's control groups and those above them, version 2 and 1."""
    # A container sees its own group as the root, whatever the paths in the file say.
    lines = ["0::/", f"1:{controller}:/"]
    with contextlib.suppress(OSError):
        lines += _OWN_GROUPS.read_text().splitlines()
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number != "0" and controller not in controllers.split(","):
            continue
        above = [name for name in path.split("/") if name not in ("", "..")]
        for root in [_GROUPS] if number == "0" else [_GROUPS / controller, _GROUPS / controllers]:
            for depth, files in itertools.product(range(len(above), -1, -1), names):
                folder = root.joinpath(*above[:depth])
                # A file may be missing, or hold a word such as `max`.
                with contextlib.suppress(OSError, ValueError):
                    first, second = (int(word) for file in files for word in (folder / file).read_text().split())
                    yield first, second


@functools.cache
def package_version(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Commit of the checkout this package is imported from, with "-dirty" for local changes; None when installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    # Not `describe --dirty`: that locks the index, and a run killed at that moment would leave the lock behind.
    describe = ["describe", "--always", "--abbrev=12", "--exclude=*"]
    status = ["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]
    try:
        name, changes = (
            subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for arguments in (describe, status)
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{name}-dirty" if changes else name or None
