"""Search spaces: Optuna's distributions of known parameters; they hold the presets and build."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from higgsbench.errors import ModelError
from higgsbench.models import PRESETS, BuildContext, ModelSpec, registered_models
from higgsbench.models.building import build_estimator
from higgsbench.tune.study import _including

optuna: Any = pytest.importorskip("optuna", reason="the extra `tune` is not installed")

TUNED = [spec for spec in registered_models() if spec.search_space is not None]


of_each_model = pytest.mark.parametrize("spec", TUNED, ids=lambda s: s.name)


def space_of(spec: ModelSpec) -> dict[str, Any]:
    assert spec.search_space is not None
    return dict(spec.search_space())


def test_all_six_built_in_models_have_a_space() -> None:
    assert {spec.name for spec in TUNED} >= {"logistic", "random_forest", "catboost", "xgboost", "lightgbm", "mlp"}


@of_each_model
def test_spaces_name_known_parameters_and_hold_the_presets(spec: ModelSpec) -> None:
    space = space_of(spec)
    assert not {"training_weights", "features", "bag"} & set(space)
    spec.check_parameters(dict.fromkeys(space, 1))
    for preset in PRESETS:
        for name, value in spec.preset(preset).params.items():
            if name in space:
                assert _including(space[name], value) is space[name], f"{name} = {value}"


@of_each_model
def test_every_dimension_has_a_place_to_begin(spec: ModelSpec) -> None:
    """The library's default, where it is a number, is the record's; otherwise the `good` preset says."""
    known = {key.split("__")[-1]: value for key, value in spec.build({}, BuildContext(0)).get_params().items()}
    assert set(spec.defaults) <= set(space_of(spec))
    for name, dimension in space_of(spec).items():
        default = spec.defaults.get(name)
        assert default is not None or name in spec.preset("good").params or name in ("max_samples", "learning_rate")
        if default is not None:
            assert _including(dimension, default) is dimension
            assert known.get(name) in (None, default), name


@of_each_model
def test_samples_build(spec: ModelSpec) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(5):
        drawn = study.ask(fixed_distributions=space_of(spec)).params
        values = {n: json.loads(v) if isinstance(v, str) and v.startswith("[") else v for n, v in drawn.items()}
        assert build_estimator(spec, {**spec.preset("good").params, **values}, BuildContext(1)) is not None


@of_each_model
def test_records_with_a_space_pickle(spec: ModelSpec) -> None:
    assert space_of(pickle.loads(pickle.dumps(spec))) == space_of(spec)  # noqa: S301


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (optuna.distributions.IntDistribution(10, 50, step=10), [10, 30, 50], [15, 60, 0]),
        (optuna.distributions.IntDistribution(1, 100, log=True), [1, 7], [101]),
        (optuna.distributions.FloatDistribution(0.5, 1.0, step=0.25), [0.5, 0.75, 1], [0.6, 1.5]),
        (optuna.distributions.FloatDistribution(0.1, 10.0, log=True), [0.1, 3, 10.0], [0.05, 11]),
        (optuna.distributions.CategoricalDistribution(["[64]", "[64, 64]", "a"]), [[64], "a"], [[32], 64]),
    ],
)
def test_a_study_widens_a_dimension_to_hold_its_start(dimension: Any, inside: list[Any], outside: list[Any]) -> None:
    for value in inside:
        assert _including(dimension, value) is dimension
    for value in outside:
        wider = _including(dimension, value)
        assert wider != dimension
        assert all(_including(wider, held) is wider for held in (value, *inside))


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        (optuna.distributions.IntDistribution(1, 9), 2.5),
        (optuna.distributions.IntDistribution(1, 9), True),
        (optuna.distributions.FloatDistribution(0.1, 1.0, log=True), 0.0),
    ],
)
def test_a_value_of_another_kind_is_refused(dimension: Any, value: Any) -> None:
    with pytest.raises(ModelError, match="cannot lie between"):
        _including(dimension, value)
