"""Floor 5.5: the Python interface to runs, with the reach of the command line.

Wherever a run is asked for, its folder or the `RunResult` of `run` will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.lazy import lazy_names

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

__getattr__ = lazy_names(__name__, _HOME)
