"""Floor 5.3: stored runs handed to other tools; imports no model and no training code."""

from higgsbench.export.tracking import Exported, export_mlflow

__all__ = ["Exported", "export_mlflow"]
