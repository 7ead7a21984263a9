"""Fair, weighted, significance-based benchmarking and ensembling of classifiers for particle physics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from higgsbench.api import run, write_report
    from higgsbench.ensemble.cut import best_cut
    from higgsbench.errors import HiggsbenchError
    from higgsbench.events import Events, load_events
    from higgsbench.leaderboard import Leaderboard
    from higgsbench.metrics import ams, ams_scan, evaluation_weights
    from higgsbench.models import BuildContext, ModelSpec, register_model
    from higgsbench.schema import ATLAS_HIGGS, TableSchema
    from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier

_HOME = {
    "ATLAS_HIGGS": "higgsbench.schema",
    "BuildContext": "higgsbench.models",
    "Events": "higgsbench.events",
    "HiggsbenchError": "higgsbench.errors",
    "JetSplitClassifier": "higgsbench.validation.physical",
    "Leaderboard": "higgsbench.leaderboard",
    "ModelSpec": "higgsbench.models",
    "PhysicalClassifier": "higgsbench.validation.physical",
    "TableSchema": "higgsbench.schema",
    "ams": "higgsbench.metrics",
    "ams_scan": "higgsbench.metrics",
    "best_cut": "higgsbench.ensemble.cut",
    "evaluation_weights": "higgsbench.metrics",
    "load_events": "higgsbench.events",
    "register_model": "higgsbench.models",
    "run": "higgsbench.api",
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
    "TableSchema",
    "__version__",
    "ams",
    "ams_scan",
    "best_cut",
    "evaluation_weights",
    "load_events",
    "register_model",
    "run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the command line starts fast."""
    if name in _HOME:
        import importlib

        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
