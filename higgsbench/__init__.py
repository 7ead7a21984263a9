"""Fair, weighted, significance-based benchmarking and ensembling of classifiers for particle physics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.registry import lazy_names

if TYPE_CHECKING:
    from higgsbench.api.results import blend, compare_models, interval, members, stats, write_report
    from higgsbench.api.running import learning_curve, run, tune_model
    from higgsbench.api.scoring import predict, score, submission
    from higgsbench.api.suites import suite
    from higgsbench.ensemble.cut import best_cut
    from higgsbench.errors import HiggsbenchError
    from higgsbench.events import Events, load_events
    from higgsbench.export import export_native, export_onnx
    from higgsbench.export.cabinetry import export_cabinetry
    from higgsbench.export.mlflow import export_mlflow
    from higgsbench.leaderboard import Leaderboard
    from higgsbench.metrics import ams, ams_scan, evaluation_weights
    from higgsbench.metrics.spectators import distance_correlation, shape_change
    from higgsbench.models import BuildContext, ModelSpec, import_models, register_model
    from higgsbench.schema import ATLAS_HIGGS, TableSchema
    from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier
    from higgsbench.validation.stacking import StackingEnsemble

__version__ = "0.2.0"

_HOME = {
    "higgsbench.api.results": ("blend", "compare_models", "interval", "members", "stats", "write_report"),
    "higgsbench.api.running": ("learning_curve", "run", "tune_model"),
    "higgsbench.api.scoring": ("predict", "score", "submission"),
    "higgsbench.api.suites": ("suite",),
    "higgsbench.ensemble.cut": ("best_cut",),
    "higgsbench.errors": ("HiggsbenchError",),
    "higgsbench.events": ("Events", "load_events"),
    "higgsbench.export": ("export_native", "export_onnx"),
    "higgsbench.export.cabinetry": ("export_cabinetry",),
    "higgsbench.export.mlflow": ("export_mlflow",),
    "higgsbench.leaderboard": ("Leaderboard",),
    "higgsbench.metrics": ("ams", "ams_scan", "evaluation_weights"),
    "higgsbench.metrics.spectators": ("distance_correlation", "shape_change"),
    "higgsbench.models": ("BuildContext", "ModelSpec", "import_models", "register_model"),
    "higgsbench.schema": ("ATLAS_HIGGS", "TableSchema"),
    "higgsbench.validation.physical": ("JetSplitClassifier", "PhysicalClassifier"),
    "higgsbench.validation.stacking": ("StackingEnsemble",),
}

__all__ = ["ATLAS_HIGGS", "BuildContext", "Events", "HiggsbenchError", "JetSplitClassifier", "Leaderboard",
           "ModelSpec", "PhysicalClassifier", "StackingEnsemble", "TableSchema", "__version__", "ams", "ams_scan",
           "best_cut", "blend", "compare_models", "distance_correlation", "evaluation_weights", "export_cabinetry",
           "export_mlflow", "export_native", "export_onnx", "import_models", "interval", "learning_curve",
           "load_events", "members", "predict", "register_model", "run", "score", "shape_change", "stats",
           "submission", "suite", "tune_model", "write_report"]  # fmt: skip

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted(__all__)
