"""The public names: a change here is a change for every user."""

from __future__ import annotations

import subprocess
import sys

import pytest

import higgsbench
from higgsbench.errors import HiggsbenchError

NAMES = ["ATLAS_HIGGS", "BuildContext", "Events", "HiggsbenchError", "JetSplitClassifier", "Leaderboard", "ModelSpec",
         "PhysicalClassifier", "StackingEnsemble", "TableSchema", "__version__", "ams", "ams_scan", "best_cut",
         "blend", "compare_models", "distance_correlation", "evaluation_weights", "export_cabinetry", "export_mlflow",
         "export_native", "export_onnx", "import_models", "interval", "learning_curve", "load_events", "members",
         "predict", "register_model", "run", "score", "shape_change", "stats", "submission", "suite", "tune_model",
         "write_report"]  # fmt: skip


def test_names_are_pinned() -> None:
    assert higgsbench.__all__ == NAMES
    assert dir(higgsbench) == sorted(NAMES)
    assert all(getattr(higgsbench, name) is not None for name in NAMES)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'amss'"):
        _ = higgsbench.amss


LOADS = """
import sys
import numpy as np
import higgsbench.leaderboard, higgsbench.runs.run
from higgsbench.api.running import load_run_config
from higgsbench.validation import fold_assignments

load_run_config({"data": {"source": "simulated"}, "models": ["catboost", "xgboost", "mlp"]})
fold_assignments(np.arange(20) % 2 == 0, None, 2, 1, 0)
print([m for m in ("sklearn", "scipy", "pandas", "catboost", "xgboost", "lightgbm") if m in sys.modules])
"""


def test_a_run_that_finds_everything_done_loads_no_training_library() -> None:
    """Their imports took two thirds of such a run."""
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, higgsbench; print([m for m in ('numpy', 'polars', 'sklearn', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_there_is_one_error_tree() -> None:
    from higgsbench import errors

    for name in (name for name in vars(errors) if name.endswith("Error")):
        assert issubclass(getattr(errors, name), HiggsbenchError)
    assert issubclass(errors.MetricError, ValueError)
