"""Scores do not depend on how many units run at a time, nor on the engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import higgsbench
from higgsbench.models import get_model, model_names
from tests.runs.conftest import Config

BUILT_IN = [name for name in model_names() if get_model(name).extra is None]

MODELS = """
data: {{path: {data}}}
models: [MODEL]
preset: quick
jet_split: both
folds: 2
threads: THREADS
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1")  # few events per jet group
@pytest.mark.parametrize(("threads", "jobs"), [(1, 3), (2, 2)])
@pytest.mark.parametrize("model", BUILT_IN)
def test_every_model_gives_the_same_bits_for_any_jobs(
    config: Config, tmp_path: Path, model: str, threads: int, jobs: int
) -> None:
    file = config(MODELS.replace("MODEL", model).replace("THREADS", str(threads)))
    found = []
    for engine, at_a_time in (("serial", 1), ("local", jobs)):
        run = higgsbench.run(file, output=tmp_path / engine, engine=engine, jobs=at_a_time)
        assert not run.failures
        found.append(pl.read_parquet(run.folder / "scores.parquet"))
    assert found[0].equals(found[1])


LOADS = """
import sys
import numpy as np
from threadpoolctl import threadpool_info
from higgsbench.models import BuildContext, get_model
from higgsbench.runs import unit

def libraries():
    return {library["filepath"] for library in threadpool_info()}

seen = []
unit._fit_and_score = lambda task, space: seen.append(libraries()) or fit(task)
unit.give_back = lambda events: None

def fit(task):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 3)).astype("f4"), rng.integers(0, 2, 500)
    estimator = unit.make_estimator(task, 500)
    estimator.fit(X, y, sample_weight=np.ones(500))
    estimator.decision_function(X)
    return unit.UnitResult.failed(task.key, "")

spec = get_model(sys.argv[1])
params = {**spec.preset("quick").params}
task = unit.Unit("k", "", 0, 0, 0, 0, spec, params, ("a", "b", "c"), "X", None, None, "none", None, (1.0, 1.0), 1)
unit.Workspace.load = lambda self, name: np.empty(0)
print(unit.run_unit(task, unit.Workspace("")).error)
print(sorted(libraries() - seen[0]))
"""


@pytest.mark.parametrize("model", BUILT_IN)
def test_no_library_is_loaded_after_the_limit_of_threads_is_set(model: str) -> None:
    """A library that a fit loads later would take all cores, in a process that no variable holds back."""
    done = subprocess.run([sys.executable, "-c", LOADS, model], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]", done.stdout
