"""Presets carry parameters, training weights and features for every built-in model."""

from __future__ import annotations

import pytest

from higgsbench.features import resolve_features
from higgsbench.models import PRESETS, ModelSpec, registered_models
from higgsbench.schema import ATLAS_HIGGS
from higgsbench.validation.folds import TRAINING_WEIGHTS

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
