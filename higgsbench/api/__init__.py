"""Layer 7: the Python interface to runs. Every command parses, calls the function of its name here, and renders.

A run can be given as its folder, its name, `latest`, a folder of runs, or the `RunResult` that `run` returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.registry import lazy_names

if TYPE_CHECKING:
    from higgsbench.api.results import compare_models, members, predict, score, stats, submission, write_report
    from higgsbench.api.running import load_run_config, plan_run, resolve_config, run, tune_model

_HOME = {
    "higgsbench.api.results": ("compare_models", "members", "predict", "score", "stats", "submission", "write_report"),
    "higgsbench.api.running": ("load_run_config", "plan_run", "resolve_config", "run", "tune_model"),
}

__all__ = ["compare_models", "load_run_config", "members", "plan_run", "predict", "resolve_config", "run", "score",
           "stats", "submission", "tune_model", "write_report"]  # fmt: skip

__getattr__ = lazy_names(__name__, _HOME)
