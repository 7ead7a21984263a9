"""The registry drives these tests: a model registered is a model tested."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.dummy import DummyClassifier

from higgsbench import BuildContext, ModelSpec, PhysicalClassifier
from higgsbench.errors import MissingExtraError, ModelError
from higgsbench.metrics import log_loss, roc_auc
from higgsbench.models import PRESETS, get_model, registered_models
from higgsbench.models.building import (
    BAG_STRIDE,
    RefusedParameterError,
    build_estimator,
    log_odds_reader,
    probe_parameters,
)
from higgsbench.models.estimators import read_log_odds
from higgsbench.models.spec import BAG

SPECS = registered_models()
FEATURES = ("x0", "x1", "x2", "x3", "x4")
SMALLER: dict[str, dict[str, Any]] = {
    "random_forest": {"n_estimators": 20},
    "catboost": {"iterations": 30},
    "xgboost": {"n_estimators": 30, "min_child_weight": 1},
    "lightgbm": {"n_estimators": 30},
    "mlp": {"max_iter": 20, "batch_size": 32},
    "autogluon": {"time_limit": 20, "hyperparameters": {"GBM": {"num_boost_round": 30}}},
    "flaml": {"time_limit": 5, "estimator_list": ["lgbm"]},
    "torch_mlp": {"members": 2, "hidden_layer_sizes": [16], "batch_size": 32},
}
"""Fit for a few hundred events; any other model runs with its quick preset."""


class Toy:
    def __init__(self, n: int = 400, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.y: NDArray[np.int64] = (rng.random(n) < 0.4).astype(np.int64)
        X = rng.normal(size=(n, 5)) + self.y[:, None] * np.array([1.2, 0.8, 0.0, 0.3, 0.0])
        X[rng.random((n, 5)) < 0.15] = np.nan
        X[:, 4] = np.round(np.nan_to_num(X[:, 4]))
        self.X: NDArray[np.float32] = X.astype(np.float32)
        self.w: NDArray[np.float64] = np.where(self.y == 1, 0.0015, 1.2) * rng.gamma(4.0, size=n)


TRAIN, FRESH = Toy(), Toy(seed=1)


def fitted(
    spec: ModelSpec,
    w: NDArray[np.float64] = TRAIN.w,
    seed: int = 3,
    X: NDArray[np.float32] = TRAIN.X,
    policy: str | None = None,
    **more: Any,
) -> PhysicalClassifier:
    try:
        spec.check_available()
    except MissingExtraError as error:
        pytest.skip(str(error))
    params = {**_own(spec), **SMALLER.get(spec.name, {}), **more}
    inner = build_estimator(spec, params, BuildContext(seed, params.pop("threads", 1), FEATURES))
    how: dict[str, Any] = {"weighted": spec.sample_weight, "log_odds": log_odds_reader(spec, params)}
    return PhysicalClassifier(inner, negative_weights=policy, **how).fit(X, TRAIN.y, w)


def _own(spec: ModelSpec) -> dict[str, Any]:
    return {name: value for name, value in spec.preset("quick").params.items() if name != BAG}


def reproducible(spec: ModelSpec) -> None:
    if not spec.reproducible:
        pytest.skip("the clock ends its search")


@pytest.fixture(scope="module", params=SPECS, ids=lambda s: s.name)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    found: ModelSpec = request.param
    if found.extra is not None:
        for module in found.imports:
            pytest.importorskip(module, reason=f"{found.name} needs the extra {found.extra!r}")
    if found.files is not None:
        pytest.skip(f"{found.name} needs a checkpoint; see test_context.py")
    return found


@pytest.fixture(scope="module")
def scores(spec: ModelSpec) -> NDArray[np.float64]:
    return fitted(spec).decision_function(FRESH.X)


def test_scores_are_finite_log_odds_better_than_chance(scores: NDArray[np.float64]) -> None:
    assert (scores.shape, str(scores.dtype)) == ((400,), "float64")
    assert np.isfinite(scores).all()
    assert np.unique(scores).size > 50
    assert roc_auc(FRESH.y, scores, FRESH.w).value > 0.7
    # In physical normalisation.
    prior = np.log(TRAIN.w[TRAIN.y == 1].sum() / TRAIN.w[TRAIN.y == 0].sum())
    assert abs(np.median(scores) - prior) < 3.0


def test_same_seed_same_bits_also_pickled_and_no_files_are_left(
    spec: ModelSpec, scores: NDArray[np.float64], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = fitted(spec)
    assert list(tmp_path.iterdir()) == []
    again = pickle.loads(pickle.dumps(model)).decision_function(FRESH.X)  # noqa: S301
    np.testing.assert_array_equal(again, model.decision_function(FRESH.X))
    if spec.reproducible:
        np.testing.assert_array_equal(again, scores)


def test_weights_matter(spec: ModelSpec, scores: NDArray[np.float64]) -> None:
    if not spec.sample_weight:
        pytest.skip("takes no weights")
    heavy = np.where(np.nan_to_num(TRAIN.X[:, 0]) > 0.5, 20.0, 1.0)
    assert np.abs(fitted(spec, TRAIN.w * heavy).decision_function(FRESH.X) - scores).max() > 1e-3


def test_resampled_negative_weights_train(spec: ModelSpec) -> None:
    reproducible(spec)
    w = np.where(np.arange(TRAIN.y.size) % 5 == 0, -TRAIN.w, TRAIN.w)
    score = fitted(spec, w, policy="resample").decision_function(FRESH.X)
    assert roc_auc(FRESH.y, score, FRESH.w).value > 0.65


def test_the_scale_of_weights_does_not_matter(spec: ModelSpec, scores: NDArray[np.float64]) -> None:
    """Raw signal weights of about 0.0015 fall below library defaults such as min_child_weight."""
    reproducible(spec)
    np.testing.assert_allclose(fitted(spec, TRAIN.w * 1024.0).decision_function(FRESH.X), scores, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build_and_name_known_parameters(spec: ModelSpec, preset: str) -> None:
    again = pickle.loads(pickle.dumps(spec))  # noqa: S301
    params = again.preset(preset).params
    assert params == spec.preset(preset).params
    again.check_parameters(params)
    estimator = build_estimator(again, params, BuildContext(seed=1))
    assert hasattr(estimator, "fit")


def test_misspelt_parameters_seeds_and_threads_are_refused(spec: ModelSpec) -> None:
    """The plan of a unit sets seeds and threads."""
    if spec.parameters is None:
        pytest.skip("accepts all parameters")
    known = sorted(spec.parameters(), key=len)[-1]
    with pytest.raises(ModelError, match=rf"has no parameter '{known}x' \(did you mean '{known}'\?\)"):
        spec.check_parameters({known + "x": 1})
    with pytest.raises(ModelError, match="it knows"):
        spec.check_parameters({"qqqqqqqq": 1})
    for name in ("n_jobs", "thread_count", "random_state", "random_seed", "seed"):
        with pytest.raises(ModelError, match=r"has no parameter|the run sets"):
            spec.check_parameters({name: 1})


def test_a_bag_averages_the_log_odds_of_its_seeds(spec: ModelSpec) -> None:
    reproducible(spec)
    both = fitted(spec, bag=2).decision_function(FRESH.X)
    alone = [fitted(spec, seed=3 + BAG_STRIDE * i).decision_function(FRESH.X) for i in range(2)]
    np.testing.assert_allclose(both, np.mean(alone, axis=0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3", None])
def test_a_bag_is_a_whole_number_of_members(spec: ModelSpec, size: Any) -> None:
    with pytest.raises(ModelError, match=r"bag is .*, expected a whole number"):
        spec.check_parameters({"bag": size})


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "catboost"])
def test_boosting_stops_on_inner_events_with_weights(name: str) -> None:
    """Trained until no better, a model beats the same rounds without end; the weights of the events aside count."""
    spec = get_model(name)
    long: dict[str, Any] = {**dict.fromkeys(spec.rounds, 400), "learning_rate": 0.3}
    stopping = {**long, "early_stopping_rounds": 10, "validation_fraction": 0.3}
    spec.check_parameters(stopping)
    early, again, late = (fitted(spec, **how).decision_function(FRESH.X) for how in (stopping, stopping, long))
    assert log_loss(FRESH.y, early, FRESH.w).value < log_loss(FRESH.y, late, FRESH.w).value
    assert np.std(early) < np.std(late)
    np.testing.assert_array_equal(again, early)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"early_stopping_rounds": 0}, "early_stopping_rounds must be .*got 0"),
        ({"early_stopping_rounds": 5, "validation_fraction": 1}, "validation_fraction must be .*got 1"),
        ({"early_stopping_rounds": 5, "n_jobs": 2}, "cannot be built from"),
    ],
)
def test_impossible_parameters_are_a_model_error(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_estimator(get_model("lightgbm"), bad, BuildContext(seed=1))


@pytest.mark.parametrize(
    ("name", "found"),
    [("xgboost", {"device": "cuda"}), ("lightgbm", {"device": "cuda"}), ("catboost", {"task_type": "GPU"})],
)
def test_the_device_is_passed_on(name: str, found: dict[str, str]) -> None:
    spec = get_model(name)
    spec.check_parameters({"device": "cuda"})
    built = build_estimator(spec, {"device": "cuda"}, BuildContext(seed=1)).get_params()
    assert {key: built[key] for key in found} == found


def test_threads_and_the_seed_are_passed(spec: ModelSpec) -> None:
    names = {"n_jobs", "nthread", "thread_count", "num_threads"}
    params = spec.build(_own(spec), BuildContext(seed=11, threads=3)).get_params()
    passed = {value for name, value in params.items() if name in names and value is not None}
    assert passed == ({3} if spec.name not in ("logistic", "mlp") else set()), "those two run on one thread"
    seeds = {name: value for name, value in params.items() if name.split("__")[-1] in ("random_state", "random_seed")}
    assert None not in seeds.values() or spec.name == "catboost", seeds
    assert 11 in seeds.values()


def test_threads_do_not_change_a_score(spec: ModelSpec) -> None:
    """Regression: a forest adds its trees in the order in which the threads end."""
    if spec.name not in ("random_forest", "lightgbm", "xgboost", "catboost"):
        pytest.skip("runs on one thread, or promises the same scores for one number of threads only")
    more: dict[str, Any] = dict.fromkeys(spec.rounds, 150)
    model = fitted(spec, threads=4, **more)
    first = model.decision_function(FRESH.X)
    assert all(np.array_equal(model.decision_function(FRESH.X), first) for _ in range(10))


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_a_column_without_values_in_the_fold_is_no_trouble(spec: ModelSpec) -> None:
    X = TRAIN.X.copy()
    X[:, 2] = np.nan
    assert np.isfinite(fitted(spec, X=X).decision_function(FRESH.X)).all()


@pytest.mark.parametrize("name", ["logistic", "mlp"])
@pytest.mark.parametrize("bag", [1, 2])
def test_a_table_of_the_caller_stays_unchanged(name: str, bag: int) -> None:
    spec = get_model(name)
    params = spec.preset("quick").params
    complete = np.nan_to_num(TRAIN.X).astype(np.float32)
    before, context = complete.copy(), BuildContext(seed=1)
    for estimator in (spec.build(_own(spec), context), build_estimator(spec, {**params, "bag": bag}, context)):
        estimator.fit(complete, TRAIN.y)
        read_log_odds(estimator, complete)
        np.testing.assert_array_equal(complete, before)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.array([[2.0, -1.0], [0.5, 0.5]]), "returned values from -1 to 0.5, outside 0 to 1"),
        (np.array([[0.5, 0.5 + 1j], [0.5, 0.5]]), "returned complex128, not numbers"),
        (np.array([["a", "b"], ["c", "d"]], dtype=object), "returned object, not numbers"),
        (np.array([0.5, 0.5]), r"returned shape \(2,\)"),
        (np.array([[0.5, 0.5], [np.nan, np.nan]]), "returned NaN"),
    ],
)
def test_invalid_probabilities_are_refused(probabilities: NDArray[Any], message: str) -> None:
    class Estimator:
        def predict_proba(self, X: NDArray[Any]) -> NDArray[Any]:
            return probabilities

    with pytest.raises(ModelError, match=message):
        read_log_odds(Estimator(), np.zeros((2, 1)))


LISTS: dict[str, list[dict[str, Any]]] = {
    "catboost": [
        *({"class_weights": [1, 20]}, {"class_weights": {0: 1, 1: 20}}, {"feature_weights": {0: 2.0}}),
        *({"monotone_constraints": [1, 0, 0, 0, 0]}, {"monotone_constraints": {0: 1}}, {"ignored_features": [2]}),
        *({"custom_metric": ["AUC"]}, {"per_float_feature_quantization": ["0:border_count=20"]}),
        {"class_weights": [1, 20], "early_stopping_rounds": 3},
    ],
    "xgboost": [
        *({"monotone_constraints": [1, 0, 0, 0, -1]}, {"monotone_constraints": "(1,0,0,0,-1)"}),
        {"interaction_constraints": [[0, 1], [2, 3]]},
        {"interaction_constraints": ((0, 1), (2, 3)), "early_stopping_rounds": 3},
    ],
}


@pytest.mark.parametrize(("name", "more"), [(name, more) for name in LISTS for more in LISTS[name]], ids=str)
def test_parameters_may_be_lists_and_mappings(name: str, more: dict[str, Any]) -> None:
    """Regression: they passed the check of parameters, and then every fit failed."""
    spec = get_model(name)
    given = {**more, **dict.fromkeys(spec.rounds, 5)}
    spec.check_parameters(given)
    probe_parameters(spec, given, given, FEATURES, 400)
    model = fitted(spec, **given)
    score = model.decision_function(FRESH.X)
    assert np.isfinite(score).all()
    if "monotone_constraints" in more:
        moved = FRESH.X.copy()
        moved[:, 0] += 1.0
        assert (model.decision_function(moved) >= score - 1e-6).all()


class Copying(DummyClassifier):  # type: ignore[misc]  # scikit-learn ships no types
    """Keeps a copy of its parameter, which scikit-learn's clone refuses."""

    def __init__(self, listed: Any = ()) -> None:
        super().__init__()
        self.listed = list(listed) if listed else listed


def test_a_parameter_that_fails_only_in_a_fit_is_found_by_the_probe() -> None:
    def build(params: Any, context: BuildContext) -> Any:
        return Copying(**params)

    build.__module__ = "higgsbench.models.builtin.copying"
    given = {"listed": [1, 20]}
    with pytest.raises(RefusedParameterError, match="Cannot clone"):
        probe_parameters(ModelSpec("copying", build, missing=True), given, given, FEATURES, 400)


@pytest.mark.parametrize("bag", [1, 2])
def test_weights_reach_the_last_step_under_metadata_routing(spec: ModelSpec, bag: int) -> None:
    """Regression: scikit-learn then refuses the weights of a pipeline."""
    reproducible(spec)
    expected = fitted(spec, bag=bag).decision_function(FRESH.X)
    with config_context(enable_metadata_routing=True):
        np.testing.assert_array_equal(fitted(spec, bag=bag).decision_function(FRESH.X), expected)
