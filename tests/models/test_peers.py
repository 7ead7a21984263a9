"""What AutoML frameworks get from the adapters, shown by fakes with the frameworks' interface."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

from higgsbench import BuildContext
from higgsbench.errors import ModelError
from higgsbench.models import get_model
from higgsbench.models.builtin.automl import weighted_log_loss

RNG = np.random.default_rng(5)
Y = np.tile([0, 1], 20)
X = (RNG.normal(size=(40, 3)) + Y[:, None]).astype(np.float32)
W = RNG.gamma(2.0, size=40)


class Frame(dict[Any, Any]):
    """As much of a pandas.DataFrame as the adapter uses."""

    def __init__(self, values: NDArray[Any], columns: list[Any]) -> None:
        super().__init__(zip(columns, np.asarray(values).T, strict=True))


class FakePredictor:
    """A fake TabularPredictor that keeps its arguments and scores by the first feature."""

    made: list[FakePredictor]
    failure: Exception | None = None

    def __init__(self, **given_: Any) -> None:
        self.given = given_
        self.persisted: dict[str, Any] = {}
        self.made.append(self)

    def fit(self, events: Frame, **given_: Any) -> None:
        self.events, self.fit_given = dict(events), given_
        Path(self.given["path"]).mkdir(parents=True)
        (Path(self.given["path"]) / "model.pkl").write_bytes(b"x" * 100)
        if self.failure is not None:
            raise self.failure

    def persist(self, **given_: Any) -> None:
        assert (Path(self.given["path"]) / "model.pkl").exists()
        self.persisted = given_

    def predict_proba(self, frame: Frame) -> Frame:
        p = 1.0 / (1.0 + np.exp(-frame["x0"]))
        return Frame(np.column_stack([p, 1.0 - p]), columns=[1, 0])


class FakeAutoML:
    """A fake flaml.AutoML whose columns have an unusual order."""

    made: list[FakeAutoML]
    failure: Exception | None = None
    model: Any = "a model"

    def __init__(self) -> None:
        self.classes_ = np.array([1, 0])
        self.made.append(self)

    def fit(self, X: NDArray[Any], y: NDArray[Any], **given_: Any) -> None:
        self.X, self.y, self.given, self.folder = X, y, given_, Path.cwd()
        Path("catboost_1").mkdir()
        if self.failure is not None:
            raise self.failure

    def predict_proba(self, X: NDArray[Any]) -> NDArray[Any]:
        p = 1.0 / (1.0 + np.exp(-X[:, 0]))
        return np.column_stack([p, 1.0 - p])


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go during the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def autogluon(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> type[FakePredictor]:
    modules = {name: ModuleType(name) for name in ("autogluon", "autogluon.core", "autogluon.core.metrics")}
    modules |= {name: ModuleType(name) for name in ("autogluon.tabular", "autogluon.tabular.registry", "pandas")}
    fake = type("Predictor", (FakePredictor,), {"made": []})
    vars(modules["autogluon.tabular"])["TabularPredictor"] = fake
    vars(modules["autogluon.core.metrics"])["make_scorer"] = lambda name, function, **how: (name, function, how)
    keys = ["GBM", "CAT", "NN_TORCH", "KNN", "ENS_WEIGHTED", "A_NEW_ONE"]
    vars(modules["autogluon.tabular.registry"])["ag_model_registry"] = SimpleNamespace(keys=keys)
    vars(modules["pandas"])["DataFrame"] = Frame
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake


@pytest.fixture
def flaml(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> type[FakeAutoML]:
    module = ModuleType("flaml")
    fake = type("AutoML", (FakeAutoML,), {"made": []})
    vars(module)["AutoML"] = fake
    monkeypatch.setitem(sys.modules, "flaml", module)
    return fake


def build(name: str, **params: Any) -> Any:
    return get_model(name).build(params, BuildContext(seed=11, threads=3))


def test_autogluon_gets_weights_for_training_and_for_its_own_validation(autogluon: type[FakePredictor]) -> None:
    build("autogluon", time_limit=7, presets="medium_quality").fit(X, Y, sample_weight=W)
    made = autogluon.made[0]
    np.testing.assert_array_equal(made.events["weight"], W)
    np.testing.assert_array_equal(made.events["label"], Y)
    np.testing.assert_array_equal(made.events["x2"], X[:, 2])
    assert set(made.events) == {"x0", "x1", "x2", "label", "weight"}
    how = {"optimum": 0, "greater_is_better": False, "needs_proba": True}
    expected: dict[str, Any] = {"sample_weight": "weight", "weight_evaluation": True, "problem_type": "binary"}
    expected |= {"eval_metric": ("log_loss", weighted_log_loss, how), "learner_kwargs": {"random_state": 11}}
    assert {name: made.given[name] for name in expected} == expected
    assert made.given["verbosity"] == 0
    # It keeps to the clock, the cores and one process.
    expected = {"time_limit": 7, "presets": "medium_quality", "num_cpus": 3, "num_gpus": 0, "calibrate": False}
    expected |= {"excluded_model_types": ["A_NEW_ONE", "KNN", "NN_TORCH"], "fit_strategy": "sequential"}
    expected |= {"ag_args_ensemble": {"fold_fitting_strategy": "sequential_local", "model_random_seed": 11}}
    assert {name: made.fit_given[name] for name in expected} == expected
    assert made.fit_given["ds_args"]["memory_safe_fits"] is False, "that would start ray"
    assert made.persisted == {"models": "best", "max_memory": None}


@pytest.mark.parametrize("weight", [None, np.full(40, 2.5)])
def test_equal_weights_are_no_weights(autogluon: type[FakePredictor], flaml: type[FakeAutoML], weight: Any) -> None:
    build("flaml").fit(X, Y, sample_weight=weight)
    assert "sample_weight" not in flaml.made[0].given
    build("autogluon").fit(X, Y, sample_weight=weight)
    made = autogluon.made[0]
    assert set(made.events) == {"x0", "x1", "x2", "label"}
    assert made.given["eval_metric"] == "log_loss"
    assert not {"sample_weight", "weight_evaluation"} & set(made.given)
    assert not {"excluded_model_types", "hyperparameters"} & set(made.fit_given)


def test_autogluon_takes_members_that_ignore_weights_on_request_only(autogluon: type[FakePredictor]) -> None:
    build("autogluon", unweighted_members=True, hyperparameters={"GBM": {}}).fit(X, Y, sample_weight=W)
    made = autogluon.made[0]
    assert "excluded_model_types" not in made.fit_given
    assert made.fit_given["hyperparameters"] == {"GBM": {}}
    assert "weight" in made.events


def test_flaml_gets_weights_clock_cores_and_seed(flaml: type[FakeAutoML]) -> None:
    build("flaml", time_limit=9, estimator_list=["lgbm", "rf"]).fit(X, Y, sample_weight=W)
    made = flaml.made[0]
    np.testing.assert_array_equal(made.X, X)
    np.testing.assert_array_equal(made.y, Y)
    np.testing.assert_array_equal(made.given.pop("sample_weight"), W)
    expected = {"task": "classification", "metric": "log_loss", "time_budget": 9, "estimator_list": ["lgbm", "rf"]}
    expected |= {"n_jobs": 3, "n_concurrent_trials": 1, "seed": 11, "verbose": 0}
    assert made.given == {**expected, "log_file_name": "", "mlflow_logging": False}


@pytest.mark.parametrize("name", ["autogluon", "flaml"])
@pytest.mark.parametrize("failure", [None, MemoryError("all gone")])
def test_what_they_write_is_removed_even_when_they_fail(
    request: pytest.FixtureRequest, temporary: Path, name: str, failure: Exception | None
) -> None:
    fake = request.getfixturevalue(name)
    fake.failure = failure
    before = Path.cwd()
    with pytest.raises(MemoryError, match="all gone") if failure else contextlib.nullcontext():
        build(name).fit(X, Y, sample_weight=W)
    made = fake.made[0]
    used = Path(made.given["path"]).parent if name == "autogluon" else made.folder
    assert used.parent == temporary, "the fake wrote elsewhere and proves nothing"
    assert list(temporary.iterdir()) == []
    assert Path.cwd() == before


@pytest.mark.parametrize("name", ["autogluon", "flaml"])
def test_probabilities_are_in_the_order_of_the_classes_and_clones_have_no_fit(
    request: pytest.FixtureRequest, name: str
) -> None:
    request.getfixturevalue(name)
    labels = np.where(Y == 1, "s", "b")
    model = build(name, time_limit=8).fit(X, labels, sample_weight=W)
    assert model.classes_.tolist() == ["b", "s"]
    signal = 1.0 / (1.0 + np.exp(-X[:, 0].astype(np.float64)))
    np.testing.assert_allclose(model.predict_proba(X), np.column_stack([1.0 - signal, signal]), rtol=1e-6)
    np.testing.assert_array_equal(model.predict(X), np.where(X[:, 0] > 0.0, "s", "b"))
    again = clone(model)
    assert again.get_params() == model.get_params()
    assert (again.time_limit, again.n_jobs, again.random_state) == (8, 3, 11)
    assert not hasattr(again, "classes_")


@pytest.mark.parametrize("name", ["autogluon", "flaml"])
@pytest.mark.parametrize("labels", [np.zeros(40), np.arange(40) % 3])
def test_two_classes_are_needed(request: pytest.FixtureRequest, name: str, labels: NDArray[Any]) -> None:
    request.getfixturevalue(name)
    with pytest.raises(ModelError, match=r"needs two classes, got [13]"):
        build(name).fit(X, labels)


def test_without_a_model_in_time_they_say_what_to_raise(
    autogluon: type[FakePredictor], flaml: type[FakeAutoML]
) -> None:
    for message in ("No models were trained successfully during fit().", "Learner is already fit."):
        autogluon.failure = RuntimeError(message)
        with pytest.raises(ModelError, match="AutoGluon finished no model in 2 s; raise its time_limit"):
            build("autogluon", time_limit=2).fit(X, Y)
    autogluon.failure = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        build("autogluon", time_limit=2).fit(X, Y)
    flaml.model = None
    with pytest.raises(ModelError, match=r"FLAML finished no model in 0.5 s; raise its time_limit"):
        build("flaml", time_limit=0.5).fit(X, Y)


def test_the_weighted_loss_takes_probabilities_of_one_or_both_labels() -> None:
    y, p, w = np.array([1, 0, 1]), np.array([0.8, 0.4, 0.5]), np.array([1.0, 2.0, 3.0])
    expected = -(math.log(0.8) + 2.0 * math.log(0.6) + 3.0 * math.log(0.5)) / 6.0
    assert weighted_log_loss(y, p, w) == pytest.approx(expected, rel=1e-12)
    assert weighted_log_loss(y, np.column_stack([1.0 - p, p]), w) == pytest.approx(expected, rel=1e-12)
    assert weighted_log_loss(y[:1], p[:1]) == pytest.approx(-math.log(0.8), rel=1e-12)
    assert 30.0 < weighted_log_loss(np.array([1, 0]), np.array([0.0, 1.0])) < 40.0
    assert weighted_log_loss(np.array([1, 0]), np.array([1.0 + 1e-9, -1e-9])) == pytest.approx(0.0, abs=1e-12)


REAL: dict[str, dict[str, Any]] = {
    "autogluon": {"time_limit": 20, "presets": "medium_quality", "hyperparameters": {"GBM": {"num_boost_round": 50}}},
    "flaml": {"time_limit": 3},
}


@pytest.mark.parametrize("name", list(REAL))
def test_the_real_one_uses_weights_and_leaves_nothing(
    name: str, temporary: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for module in get_model(name).imports:
        pytest.importorskip(module)
    here = temporary / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    # Two copies of every event with opposite labels; only the weights say which one is true.
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, size=300)
    once = (rng.normal(size=(300, 3)) + 2.0 * truth[:, None]).astype(np.float32)
    both, labels = np.tile(once, (2, 1)), np.concatenate([truth, 1 - truth])
    model = build(name, **REAL[name]).fit(both, labels, sample_weight=np.repeat([1.99, 0.01], 300))
    assert [*temporary.rglob("*")] == [here]
    assert (model.predict(once) == truth).mean() > 0.85
    shown = capfd.readouterr()
    assert shown.out + shown.err == ""
