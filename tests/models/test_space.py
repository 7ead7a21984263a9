"""Search spaces: plain data that names known parameters, holds the defaults and builds."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from higgsbench.errors import ModelError
from higgsbench.models import PRESETS, BuildContext, ModelSpec, registered_models
from higgsbench.models.building import build_estimator
from higgsbench.models.space import Choice, Dimension, Float, Int, sample, to_trial

TUNED = [spec for spec in registered_models() if spec.search_space]


class Dice:
    """A trial that draws at random, without Optuna."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.random.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self.random.uniform(low, high) if step is None else low + step * self.random.randint(0, 2)

    def suggest_categorical(self, name: str, choices: list[str]) -> Any:
        return self.random.choice(choices)


@pytest.fixture(params=TUNED, ids=lambda s: s.name)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    found: ModelSpec = request.param
    return found


def test_all_six_built_in_models_have_a_space() -> None:
    assert {spec.name for spec in TUNED} >= {"logistic", "random_forest", "catboost", "xgboost", "lightgbm", "mlp"}


def test_spaces_name_known_parameters(spec: ModelSpec) -> None:
    assert not {"training_weights", "features", "bag"} & set(spec.search_space)
    spec.check_parameters(dict.fromkeys(spec.search_space, 1))


@pytest.mark.parametrize("preset", PRESETS)
def test_spaces_hold_the_presets(spec: ModelSpec, preset: str) -> None:
    for name, value in spec.preset(preset).params.items():
        if name in spec.search_space:
            assert spec.search_space[name].holds(value), f"{name} = {value}"


def test_every_dimension_has_a_place_to_begin(spec: ModelSpec) -> None:
    """The library's default, where it is a number, is the dimension's; otherwise the `good` preset says."""
    known = {key.split("__")[-1]: value for key, value in spec.build({}, BuildContext(0)).get_params().items()}
    for name, dimension in spec.search_space.items():
        preset = spec.preset("good").params.get(name)
        assert preset is not None or dimension.default is not None
        assert dimension.default is None or dimension.holds(dimension.default)
        if dimension.default is not None and known.get(name) is not None:
            assert dimension.default == known[name], name


@pytest.mark.parametrize("seed", range(5))
def test_samples_build(spec: ModelSpec, seed: int) -> None:
    values = sample(spec.search_space, Dice(seed))
    assert list(values) == list(spec.search_space)
    assert all(dimension.holds(values[name]) for name, dimension in spec.search_space.items())
    assert build_estimator(spec, {**spec.preset("good").params, **values}, BuildContext(seed)) is not None


def test_records_with_a_space_pickle(spec: ModelSpec) -> None:
    assert dict(pickle.loads(pickle.dumps(spec)).search_space) == dict(spec.search_space)  # noqa: S301


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Int(10, 50, step=10), [10, 30, 50], [15, 60, 0, 10.0, True, "10"]),
        (Float(0.5, 1.0, step=0.25), [0.5, 0.75, 1], [0.6, 1.5, "1", False]),
        (Float(0.1, 10.0, log=True), [0.1, 3, 10.0], [0.0, 11, None]),
        (Choice(([64], [64, 64], "a")), [[64], "a"], [[32], 64]),
    ],
)
def test_bounds(dimension: Dimension, inside: list[Any], outside: list[Any]) -> None:
    assert all(dimension.holds(value) for value in inside)
    assert not any(dimension.holds(value) for value in outside)


@given(st.integers(1, 10_000))
def test_a_widened_dimension_holds_the_value_and_all_before(value: int) -> None:
    for dimension in (Int(100, 1500, log=True), Int(50, 400, step=50), Float(0.5, 2.0), Choice((1, 2))):
        wide = dimension.including(value)
        assert wide.holds(value)
        if not isinstance(dimension, Choice):
            assert wide.holds(dimension.low)
            assert wide.holds(dimension.high)
    assert Int(1, 5).including(3) == Int(1, 5)


@pytest.mark.parametrize("value", ["many", None, True, -1.0, 0])
def test_a_value_of_another_kind_cannot_be_taken_in(value: Any) -> None:
    with pytest.raises(ModelError, match="cannot lie between"):
        Float(0.1, 1.0, log=True).including(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Int(5, 5),
        lambda: Int(0, 5, log=True),
        lambda: Int(1, 5, step=0),
        lambda: Float(0.0, float("inf")),
        lambda: Float(0.0, 1.0, step=-0.1),
        lambda: Float(0.0, 1.0, log=True),
        lambda: Choice(()),
        lambda: Choice((1, 1)),
    ],
)
def test_impossible_spaces_are_refused(make: Any) -> None:
    with pytest.raises(ModelError, match="search space"):
        make()


def test_values_as_a_trial_takes_them() -> None:
    space: dict[str, Dimension] = {"a": Int(1, 3), "b": Choice(([1], [2])), "c": Float(0.0, 1.0)}
    assert to_trial(space, {"a": 2, "b": [2], "other": 1}) == {"a": 2, "b": "[2]"}
