"""What a result was computed with: versions, hardware, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from higgsbench import __version__

__all__ = ["environment"]

_PACKAGES = (
    *("numpy", "scipy", "polars", "scikit-learn", "catboost", "xgboost", "lightgbm", "joblib", "threadpoolctl"),
    *("pydantic", "PyYAML", "platformdirs", "psutil", "click", "rich", "pooch", "uproot", "matplotlib", "mplhep"),
    *("autogluon.tabular", "flaml", "pandas", "torch"),
    "optuna",
)


def environment() -> dict[str, Any]:
    """Return versions of higgsbench and its dependencies, processor, memory and (in a checkout) the commit."""
    import psutil

    return {
        "higgsbench": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": available_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(name: str) -> str | None:
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
    # Not `describe --dirty`: that locks the index, and a run that is killed just then would leave the lock behind.
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
