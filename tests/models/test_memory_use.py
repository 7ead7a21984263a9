"""What the adapters know of the memory of a fit."""

from __future__ import annotations

from typing import Any

import pytest

from higgsbench.models import get_model
from higgsbench.models.memory_use import forest_leaf, forest_memory, logistic_memory, mlp_memory
from higgsbench.models.spec import BuildContext


@pytest.mark.parametrize(
    ("events", "leaf"), [(None, 5), (100, 5), (59_999, 5), (60_000, 6), (200_000, 20), (400_000, 20), (10**8, 30)]
)
def test_leaves_of_a_forest_grow_with_the_events_until_they_are_large_enough(events: int | None, leaf: int) -> None:
    assert forest_leaf(events) == leaf
    build = get_model("random_forest").build
    assert build({}, BuildContext(1, events=events)).min_samples_leaf == leaf
    assert build({"min_samples_leaf": 3}, BuildContext(1, events=events)).min_samples_leaf == 3


def test_trees_of_many_events_stay_a_fixed_multiple_of_the_matrix() -> None:
    good = get_model("random_forest").preset("good").params
    small, large, huge = (forest_memory(good, events, 30) for events in (12_000, 200_000, 10**7))
    assert huge < large < small < 5.0
    assert forest_memory({**good, "min_samples_leaf": 5}, 10**7, 30) > large


@pytest.mark.parametrize(
    ("params", "wide"),
    [({}, False), ({"degree": 2, "C": 0.1, "bag": 2}, False), ({"degree": 2, "solver": "newton-cholesky"}, True)],
)
def test_only_tables_of_products_make_a_regression_large(params: dict[str, Any], wide: bool) -> None:
    assert (logistic_memory(params, 1000, 30) > 50.0) == wide


def test_clipped_inputs_of_networks_are_of_double_precision() -> None:
    assert mlp_memory({"scaling": "clip"}, 1000, 30) > mlp_memory({}, 1000, 30) + 1.0
