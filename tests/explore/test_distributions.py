from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from higgsbench.explore.counts import (
    QUANTILES,
    bin_numbers,
    binned_auc,
    display_edges,
    fine_edges,
    histogram,
    ks_distance,
    quantiles,
)

from . import reference

values = st.one_of(st.integers(-5, 5).map(float), st.floats(-100.0, 100.0, width=32))
events = st.lists(st.tuples(values, st.floats(0.01, 10.0)), min_size=1, max_size=40)


def filled(pairs: list[tuple[float, float]], edges: np.ndarray) -> np.ndarray:
    """Bins of present values, as the second pass fills them."""
    x, w = (np.array(v) for v in zip(*pairs, strict=True))
    at, size = bin_numbers(x, edges), 2 * edges.size + 2
    columns = [np.bincount(at, weights=v, minlength=size) for v in (np.ones_like(w), w, w**2)]
    return np.stack(columns, axis=1)[:-1]


def split(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


some_edges = st.lists(values, min_size=1, max_size=8, unique=True).map(lambda v: np.unique(np.array(v) + 0.0))


@given(events, events, some_edges)
def test_binned_auc_is_within_its_stated_error(
    signal: list[tuple[float, float]], background: list[tuple[float, float]], edges: np.ndarray
) -> None:
    found = binned_auc(filled(background, edges), filled(signal, edges))
    assert found is not None
    exact = reference.auc(*split(signal), *split(background))
    assert abs(found[0] - exact) <= found[2] + 1e-12


@given(events, events, some_edges)
def test_ks_distance_is_within_its_stated_error(
    first: list[tuple[float, float]], second: list[tuple[float, float]], edges: np.ndarray
) -> None:
    found = ks_distance(filled(first, edges)[:, 1], filled(second, edges)[:, 1])
    assert found is not None
    exact = reference.ks(*split(first), *split(second))
    assert found[0] - 1e-12 <= exact <= found[0] + found[1] + 1e-12


@given(events, some_edges)
def test_quantiles_lie_in_the_bin_of_the_exact_ones(pairs: list[tuple[float, float]], edges: np.ndarray) -> None:
    x = [a for a, _ in pairs]
    low, high = min(x), max(x)
    found = quantiles(filled(pairs, edges)[:, 1], edges, low, high)
    ordered = sorted(pairs)
    total = math.fsum(w for _, w in pairs)
    walls = np.array([low, *edges[(edges > low) & (edges < high)], high])
    for level, value in zip(QUANTILES, found, strict=True):
        reached = np.cumsum([w for _, w in ordered])
        # Rounding may decide between two neighbours where the level is met exactly.
        near = [
            ordered[min(int(np.searchsorted(reached, level * total * f)), len(x) - 1)][0] for f in (1 - 1e-9, 1 + 1e-9)
        ]
        left = near[0] if near[0] in edges else walls[walls < max(near[0], np.nextafter(low, np.inf))].max()
        right = near[1] if near[1] in edges else walls[walls > min(near[1], np.nextafter(high, -np.inf))].min()
        assert left - 1e-9 <= value <= right + 1e-9


@given(events, st.integers(1, 12))
def test_histogram_equals_numpy(pairs: list[tuple[float, float]], bins: int) -> None:
    x, w = (np.array(v) for v in zip(*pairs, strict=True))
    label = np.zeros(x.size, np.int64)
    display = display_edges(x, label, integer=False, bins=bins)
    fine = fine_edges(x, label, display, bins=5)
    contents = np.concatenate([filled(pairs, fine), np.zeros((1, 3))])
    found = histogram(contents, fine, display, scale=2.0)
    expected, _ = np.histogram(x + 0.0, display, weights=w)
    np.testing.assert_allclose(found.values, 2.0 * expected, atol=1e-12)
    np.testing.assert_allclose(sum(found.values) + found.below + found.above, 2.0 * w.sum())


def test_display_edges_are_round() -> None:
    x = np.random.default_rng(1).normal(90.0, 10.0, 10_000)
    edges = display_edges(x, np.zeros(x.size, np.int64), integer=False)
    step = edges[1] - edges[0]
    assert step == pytest.approx(1.0)
    np.testing.assert_allclose(edges / step, np.round(edges / step))


def test_integers_get_a_bin_each() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0] * 100)
    np.testing.assert_array_equal(display_edges(x, np.zeros(400, np.int64), integer=True), np.arange(-0.5, 4.0))
