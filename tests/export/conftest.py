from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

import higgsbench
from higgsbench.events import load_events
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.export import input_columns
from higgsbench.features import Features, feature_matrix
from higgsbench.runs.predictor import Predictor

REAL_SAMPLE = Path(__file__).parents[2] / "../shared/data/atlas-higgs-challenge-2014-v2-sample.csv.gz"

CONFIG = """
data: {{path: {data}}}
preset: quick
models:
  - {{model: xgboost, params: {{n_estimators: 8, bag: 2}}}}
  - {{model: lightgbm, params: {{n_estimators: 8}}, training_weights: sqrt_balanced, calibration: logit}}
  - {{model: catboost, params: {{iterations: 8}}, features: physics}}
  - {{model: random_forest, params: {{n_estimators: 5}}}}
  - {{model: logistic, params: {{degree: 2, C: 0.001, max_iter: 300}}}}
  - {{model: mlp, params: {{hidden_layer_sizes: [16], batch_size: 32, bag: 2, max_iter: 2}}}}
  - model: mlp
    label: clipped
    features: momenta
    params: {{hidden_layer_sizes: [16], batch_size: 32, max_iter: 2, scaling: clip}}
jet_split: both
folds: 2
stack: mean
"""
ROWS = ("xgboost", "lightgbm", "catboost", "random_forest", "logistic", "mlp", "clipped")


def finished(config: str, toys: Path, folder: Path) -> Path:
    """Run a configuration on simulated events, with a cache of its own."""
    (folder / "c.yaml").write_text(config.format(data=toys))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(folder / "cache"))
        done = higgsbench.run(folder / "c.yaml", output=folder / "out", jobs=1)
    assert not done.failures
    return done.folder


@pytest.fixture(scope="session")
def run(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every model that can be exported, which no test changes."""
    return finished(CONFIG, toys, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    file = write_simulated(SimulationSettings(events=2000, seed=7), tmp_path_factory.mktemp("new") / "new.csv")
    return load_events(file, cache=False).frame


@pytest.fixture(scope="session")
def real() -> pl.DataFrame:
    if not REAL_SAMPLE.is_file():
        pytest.skip("the sample of real events (../shared/data) is not there")
    return load_events(REAL_SAMPLE, cache=False).frame.head(1500)


def inputs_of(predictor: Predictor, events: pl.DataFrame) -> NDArray[np.float32]:
    """The columns that an export names, as an analysis would fill them."""
    known = {q.name: q for row in predictor.rows for q in row.features.quantities}
    names = [column["name"] for column in input_columns(predictor)]
    values = feature_matrix(events, Features("all", tuple(known[name] for name in names if name in known)))
    if names[-1] in known:
        return values
    return np.column_stack([values, events[names[-1]].to_numpy().astype(np.float32)])
