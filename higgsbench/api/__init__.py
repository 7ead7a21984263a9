"""Floor 5.5: the Python interface to runs, with the reach of the command line.

Wherever a run is asked for, its folder or the `RunResult` of `run` will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from higgsbench.api.prediction import predict, score, submission
    from higgsbench.api.running import load_run_config, run
    from higgsbench.api.studies import compare_models, members, stats, tune_model, write_report

_HOME = {
    **dict.fromkeys(("predict", "score", "submission"), "higgsbench.api.prediction"),
    **dict.fromkeys(("load_run_config", "run"), "higgsbench.api.running"),
    **dict.fromkeys(("compare_models", "members", "stats", "tune_model", "write_report"), "higgsbench.api.studies"),
}

__all__ = [
    "compare_models",
    "load_run_config",
    "members",
    "predict",
    "run",
    "score",
    "stats",
    "submission",
    "tune_model",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a function when it is first used: a run need not know how to predict, nor load scikit-learn for it."""
    if name in _HOME:
        import importlib

        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
