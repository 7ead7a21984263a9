"""What the records of the built-in models say: presets, memory, names of parameters."""

from __future__ import annotations

from typing import Any

import pytest

from higgsbench.errors import ModelError
from higgsbench.features import resolve_features
from higgsbench.models import PRESETS, BuildContext, ModelSpec, get_model, registered_models
from higgsbench.models.building import build_estimator
from higgsbench.models.builtin.scikit_learn import smallest_leaf
from higgsbench.schema import ATLAS_HIGGS
from higgsbench.validation import TRAINING_WEIGHTS

OURS = [spec for spec in registered_models() if spec.reproducible]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("spec", OURS, ids=lambda s: s.name)
def test_each_preset_says_all_three(spec: ModelSpec, preset: str) -> None:
    assert preset in spec.presets
    found = spec.preset(preset)
    assert found.params
    assert found.training_weights in TRAINING_WEIGHTS
    assert found.features is not None
    assert resolve_features(ATLAS_HIGGS, name=found.features).columns


def test_quick_and_good_are_on_a_common_footing() -> None:
    six = [spec for spec in OURS if spec.extra is None]
    assert len(six) == 6
    for preset in ("quick", "good"):
        assert {(s.preset(preset).features, s.preset(preset).training_weights) for s in six} == {("raw", "balanced")}


def memory(name: str, params: Any, events: int = 1000) -> float:
    found = get_model(name).memory
    assert callable(found)
    return found(params, events, 30)


@pytest.mark.parametrize(
    ("events", "leaf"), [(None, 5), (100, 5), (59_999, 5), (60_000, 6), (200_000, 20), (400_000, 20), (10**8, 30)]
)
def test_leaves_of_a_forest_grow_with_the_events_until_they_are_large_enough(events: int | None, leaf: int) -> None:
    assert smallest_leaf(events) == leaf
    build = get_model("random_forest").build
    assert build({}, BuildContext(1, events=events)).min_samples_leaf == leaf
    assert build({"min_samples_leaf": 3}, BuildContext(1, events=events)).min_samples_leaf == 3


def test_trees_of_many_events_stay_a_fixed_multiple_of_the_matrix() -> None:
    good = get_model("random_forest").preset("good").params
    small, large, huge = (memory("random_forest", good, events) for events in (12_000, 200_000, 10**7))
    assert huge < large < small < 20.0
    assert memory("random_forest", {**good, "min_samples_leaf": 5}, 10**7) > large


def test_products_of_columns_and_double_precision_take_more_memory() -> None:
    assert memory("logistic", {}) < 5.0 < 40.0 < memory("logistic", {"degree": 2, "C": 0.1, "bag": 2})
    assert memory("mlp", {"scaling": "clip"}) > memory("mlp", {}) + 1.0


@pytest.mark.parametrize("spec", OURS, ids=lambda s: s.name)
def test_an_alias_stands_for_a_known_parameter_and_replaces_what_a_preset_sets(spec: ModelSpec) -> None:
    """Regression: both names reached the library, which refused them or took the preset's value."""
    assert spec.parameters is not None
    assert set(spec.aliases.values()) <= spec.parameters() | set(spec.harness)
    assert not set(spec.aliases) & set(spec.aliases.values())
    for alias, name in spec.aliases.items():
        if name in spec.harness:
            with pytest.raises(ModelError, match=f"the run sets '{alias}' itself"):
                spec.check_parameters({alias: 1})
            continue
        spec.check_parameters({alias: 1})
        for preset in PRESETS:
            merged = {**spec.preset(preset).params, **spec.canonical({alias: 1})}
            assert (merged[name], alias in merged) == (1, False), "presets use the one name"
        with pytest.raises(ModelError, match=f"'{name}' and '{alias}' are the same parameter"):
            spec.canonical({name: 1, alias: 2})


@pytest.mark.parametrize(
    ("model", "given", "name", "value"),
    [
        ("xgboost", {"eta": 0.2, "lambda": 3.0, "num_boost_round": 7}, "learning_rate", 0.2),
        ("lightgbm", {"num_iterations": 7, "bagging_fraction": 0.5, "min_data_in_leaf": 9}, "subsample", 0.5),
        ("catboost", {"n_estimators": 7, "max_depth": 3, "reg_lambda": 2.0, "max_bin": 32}, "border_count", 32),
    ],
)
def test_libraries_get_the_value_given_by_an_alias(model: str, given: dict[str, Any], name: str, value: Any) -> None:
    spec = get_model(model)
    params = {**spec.preset("good").params, **spec.canonical(given)}
    built = build_estimator(spec, params, BuildContext(1))
    assert built.get_params()[name] == value
