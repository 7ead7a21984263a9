"""Fair, weighted, significance-based benchmarking and ensembling of classifiers for particle physics."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from higgsbench.api import compare_models, members, predict, run, score, stats, submission, tune_model, write_report
    from higgsbench.ensemble.cut import best_cut
    from higgsbench.errors import HiggsbenchError
    from higgsbench.events import Events, load_events
    from higgsbench.export import export_mlflow
    from higgsbench.leaderboard import Leaderboard
    from higgsbench.metrics import ams, ams_scan, evaluation_weights
    from higgsbench.models import BuildContext, ModelSpec, register_model
    from higgsbench.schema import ATLAS_HIGGS, TableSchema
    from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier
    from higgsbench.validation.stacking import StackingEnsemble

_HOME = {
    "ATLAS_HIGGS": "higgsbench.schema",
    "BuildContext": "higgsbench.models",
    "Events": "higgsbench.events",
    "HiggsbenchError": "higgsbench.errors",
    "JetSplitClassifier": "higgsbench.validation.physical",
    "Leaderboard": "higgsbench.leaderboard",
    "ModelSpec": "higgsbench.models",
    "PhysicalClassifier": "higgsbench.validation.physical",
    "StackingEnsemble": "higgsbench.validation.stacking",
    "TableSchema": "higgsbench.schema",
    "ams": "higgsbench.metrics",
    "ams_scan": "higgsbench.metrics",
    "best_cut": "higgsbench.ensemble.cut",
    "compare_models": "higgsbench.api",
    "evaluation_weights": "higgsbench.metrics",
    "export_mlflow": "higgsbench.export",
    "load_events": "higgsbench.events",
    "members": "higgsbench.api",
    "predict": "higgsbench.api",
    "register_model": "higgsbench.models",
    "run": "higgsbench.api",
    "score": "higgsbench.api",
    "stats": "higgsbench.api",
    "submission": "higgsbench.api",
    "tune_model": "higgsbench.api",
    "write_report": "higgsbench.api",
}

__all__ = [
    "ATLAS_HIGGS",
    "BuildContext",
    "Events",
    "HiggsbenchError",
    "JetSplitClassifier",
    "Leaderboard",
    "ModelSpec",
    "PhysicalClassifier",
    "StackingEnsemble",
    "TableSchema",
    "__version__",
    "ams",
    "ams_scan",
    "best_cut",
    "compare_models",
    "evaluation_weights",
    "export_mlflow",
    "load_events",
    "members",
    "predict",
    "register_model",
    "run",
    "score",
    "stats",
    "submission",
    "tune_model",
    "write_report",
]


def lazy_names(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__` (PEP 562), which imports a name when it is first used.

    Args:
        package: name of the package.
        home: module of each public name.
    """

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(home[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return find


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted(__all__)
