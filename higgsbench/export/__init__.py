"""Layer 6: export a stored run to MLflow, to an ONNX graph, or to model files of the boosting libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.registry import lazy_names

if TYPE_CHECKING:
    from higgsbench.export.mlflow import Exported, export_mlflow
    from higgsbench.export.models import export_native, export_onnx

_HOME = {
    "higgsbench.export.mlflow": ("Exported", "export_mlflow"),
    "higgsbench.export.models": ("export_native", "export_onnx"),
}

__all__ = ["Exported", "export_mlflow", "export_native", "export_onnx"]

__getattr__ = lazy_names(__name__, _HOME)
