"""Categorical features in every registered model: gain, unknown and missing categories, jet groups, storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench import BuildContext, JetSplitClassifier, ModelSpec, PhysicalClassifier
from higgsbench.errors import StoreError
from higgsbench.metrics import roc_auc
from higgsbench.models import registered_models
from higgsbench.models.building import build_estimator, log_odds_reader
from higgsbench.models.builtin.lightgbm_trees import checked_text
from higgsbench.models.parts import FlaggedMedians
from higgsbench.models.storage import read_model, write_model
from higgsbench.runs.predictor import tree_contributions
from higgsbench.validation.physical import unit_codecs

from .test_builtin import SMALLER

COUNTS = (8, 3)
SIGNAL_LIKE = (0, 3, 4, 7)
"""Categories of the first feature in which signal is frequent; not ordered, so that their numbers say little."""


def events(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Two categorical features, of which the first decides, two others, and a group number."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 8, n).astype(np.float64), rng.integers(0, 3, n).astype(np.float64)
    y = (rng.random(n) < np.where(np.isin(first, SIGNAL_LIKE), 0.8, 0.2)).astype(np.int64)
    group = rng.integers(0, 2, n)
    second[group == 0] = 1.0  # constant in one group
    first[rng.random(n) < 0.05] = np.nan
    X = np.column_stack([first, second, rng.normal(size=n) + 0.3 * y, rng.normal(size=n), group])
    X[rng.random(n) < 0.1, 2] = np.nan
    return X.astype(np.float32), y, rng.gamma(4.0, size=n)


TRAIN, FRESH = events(800, 0), events(800, 1)


def fitted(spec: ModelSpec, *, split: bool = False, categories: tuple[int, ...] = COUNTS, **more: Any) -> Any:
    params = {**spec.preset("quick").params, "bag": 1, **SMALLER.get(spec.name, {}), **more}
    context = BuildContext(3, 1, ("c", "d", "x", "z"), split, categories=categories)
    inner, reader = build_estimator(spec, params, context), log_odds_reader(spec, params)
    if not split:
        return PhysicalClassifier(inner, log_odds=reader).fit(TRAIN[0][:, :4], *TRAIN[1:])
    how: dict[str, Any] = {"group_feature": -1, "groups": ((0,), (1,)), "keep_group_feature": False}
    return JetSplitClassifier(inner, log_odds=reader, categories=len(categories), **how).fit(*TRAIN)


@pytest.fixture(scope="module", params=registered_models(), ids=lambda s: s.name)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    found: ModelSpec = request.param
    if not found.reproducible:
        pytest.skip("it takes the numbers of the categories for numbers")
    for module in found.imports:
        pytest.importorskip(module)
    return found


@pytest.mark.parametrize("split", [False, True], ids=["global", "jets"])
def test_a_category_that_decides_is_used(spec: ModelSpec, split: bool) -> None:
    X, y, w = FRESH
    model, seen = fitted(spec, split=split), X if split else X[:, :4]
    score = model.decision_function(seen)
    assert roc_auc(y, score, w).value > 0.72
    # Missing is neither the first category nor the mean of all.
    alike = np.tile(X[:1], (9, 1))
    alike[:, 0] = [*range(8), np.nan]
    found = model.decision_function(alike if split else alike[:, :4])
    signal, other = found[list(SIGNAL_LIKE)], found[[1, 2, 5, 6]]
    assert np.isfinite(found).all()
    if spec.name not in ("random_forest", "xgboost"):  # these see numbers
        assert signal.min() > other.max()
        assert other.mean() - 1.0 < found[8] < signal.mean() + 1.0


@pytest.mark.parametrize(("split", "bag"), [(False, 1), (True, 2)])
def test_same_bits_after_reading(spec: ModelSpec, split: bool, bag: int, tmp_path: Path) -> None:
    stopped: dict[str, Any] = (
        {"early_stopping_rounds": 2, "learning_rate": 0.5} if bag > 1 and spec.contributions else {}
    )
    model, X = fitted(spec, split=split, bag=bag, **stopped), FRESH[0] if split else FRESH[0][:, :4]
    again = model
    for _ in range(2):
        write_model(again, tmp_path / "m.zip", unit_codecs(spec))
        again = read_model(tmp_path / "m.zip", unit_codecs(spec))
        np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    if spec.contributions is not None:
        parts = tree_contributions(again, X)
        assert parts.shape == (len(X), X.shape[1] + 1)
        np.testing.assert_allclose(parts.sum(axis=1), model.decision_function(X), atol=1e-4)
        assert np.abs(parts[:, 0]).mean() > 2 * np.abs(np.delete(parts[:, :-1], 0, axis=1)).mean(axis=0).max()


def test_one_column_per_category() -> None:
    X = np.array([[0.0, 1.0, 5.0], [2.0, np.nan, np.nan], [np.nan, 0.0, 7.0]], dtype=np.float32)
    found = FlaggedMedians((3, 2)).fit_transform(X)
    expected = [[1, 0, 0, 0, 1, 5, 0], [0, 0, 1, 0, 0, 6, 1], [0, 0, 0, 1, 0, 7, 0]]
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("cat_boundaries=", "cat_boundaries=0 9"),
        ("cat_boundaries=", "cat_boundaries=1 2"),
        ("cat_threshold=", "cat_threshold=99999999999"),
        ("num_cat=", "num_cat=0"),
        ("num_cat=", "num_cat=7"),
        ("threshold=", None),
    ],
)
def test_damaged_sets_of_categories_are_refused(line: str, other: str | None) -> None:
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(n_estimators=1, verbosity=-1, cat_feature=[0, 1], n_jobs=1)
    lines = model.fit(TRAIN[0], TRAIN[1]).booster_.model_to_string().splitlines()
    assert checked_text("\n".join(lines)).count("num_cat=")
    at = next(i for i, text in enumerate(lines) if text.startswith(line))
    lines[at] = lines[at].replace("threshold=0", "threshold=3") if other is None else other
    with pytest.raises(StoreError, match="LightGBM tree 0"):
        checked_text("\n".join(lines))
