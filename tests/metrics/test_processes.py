"""Processes in a selection against slow definitions, and as parts of the totals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgsbench.metrics import (
    Processes,
    ProcessMetrics,
    effective_sample_size,
    measure_processes,
    process_names,
    roc_auc,
)

NAMES = ("ttbar", "W", "ggF", "VBF")


def drawn(seed: int, n: int = 300, repeats: int = 2) -> tuple[Any, ...]:
    """Events of four processes, two of each class, with tied scores and weights of either sign."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 4, n)
    y = code >= 2
    weight = rng.gamma(1.0, size=n) * np.where(rng.random(n) < 0.05, -0.5, 1.0)
    score = np.round(rng.normal(size=(repeats, n)) + y, 1)
    return Processes.of(NAMES, code, y, weight), y, weight, score, score > 0.5


@given(st.integers(0, 10_000))
@settings(max_examples=30, derandomize=True)
def test_processes_add_up_to_signal_and_background(seed: int) -> None:
    processes, y, weight, score, selected = drawn(seed)
    found = measure_processes(processes, score, selected, weight)
    for signal, members in ((True, y), (False, ~y)):
        own = [p for p in found.values() if p.signal == signal]
        assert sum(p.total for p in own) == pytest.approx(weight[members].sum())
        kept = np.mean([weight[members & keep].sum() for keep in selected])
        assert sum(p.selected.value for p in own) == pytest.approx(kept)
        whole = np.mean([roc_auc(y, s, weight).value for s in score])
        parts = [(p.auc.value, p.total) for p in own if p.auc is not None]
        assert sum(a * t for a, t in parts) / sum(t for _, t in parts) == pytest.approx(whole)


def test_numbers_of_a_process_are_those_of_its_events() -> None:
    processes, y, weight, score, selected = drawn(1, repeats=1)
    for name, p in measure_processes(processes, score, selected, weight).items():
        own = processes.by_event == name
        kept = own & selected[0]
        w = weight[kept]
        assert p.selected.value == pytest.approx(w.sum())
        assert p.selected.se == pytest.approx(np.sqrt((w**2).sum()))
        assert p.effective == pytest.approx(effective_sample_size(w))
        assert p.efficiency is not None
        assert p.efficiency.value == pytest.approx(w.sum() / weight[own].sum())
        against = own | (y != p.signal)
        assert p.auc is not None
        assert p.auc.value == pytest.approx(roc_auc(y[against], score[0, against], weight[against]).value)
        assert ProcessMetrics.from_record(p.record(name), name).numbers == pytest.approx(p.numbers)


def test_errors_of_efficiency_are_binomial_for_equal_weights_and_match_a_bootstrap() -> None:
    processes, _, weight, score, selected = drawn(2, n=2000, repeats=1)
    equal = measure_processes(processes, score, selected, np.ones(2000))
    for name, p in equal.items():
        own = processes.by_event == name
        share = selected[0, own].mean()
        assert p.efficiency is not None
        assert p.efficiency.se == pytest.approx(np.sqrt(share * (1 - share) / own.sum()))
    found = measure_processes(processes, score, selected, weight)["W"].efficiency
    own = processes.by_event == "W"
    draws = np.random.default_rng(3).poisson(1.0, (2000, own.sum())) * weight[own]
    assert found is not None
    assert found.se == pytest.approx(float(np.std((draws @ selected[0, own]) / draws.sum(axis=1))), rel=0.1)


def test_order_of_processes_and_names_of_both_classes() -> None:
    y = np.array([True, False, False, True, False])
    found = Processes.of(["VV", "top"], np.array([0, 0, 1, 0, 1]), y, np.array([1.0, 1.0, 2.0, 1.0, 2.0]))
    assert found.names == ("VV (signal)", "top", "VV (background)")
    assert found.signal == (True, False, False)
    assert found.by_event.tolist() == ["VV (signal)", "VV (background)", "top", "VV (signal)", "top"]
    assert found.at(np.array([2, 0])).by_event.tolist() == ["top", "VV (signal)"]


def test_a_process_without_positive_weight_has_neither_efficiency_nor_auc() -> None:
    y, weight = np.array([True, True, False, False]), np.array([1.0, 1.0, 5.0, -1.0])
    processes = Processes.of(["s", "b", "odd"], np.array([0, 0, 1, 2]), y, weight)
    score = np.array([[2.0, 1.0, 0.0, 3.0]])
    odd = measure_processes(processes, score, score > 0.5, weight)["odd"]
    assert (odd.selected.value, odd.efficiency, odd.auc) == (-1.0, None, None)
    assert ProcessMetrics.from_record(odd.record("odd"), "odd").numbers == odd.numbers


def test_names_of_a_record_are_in_order_whatever_they_are() -> None:
    processes, _, weight, score, selected = drawn(5)
    record: dict[str, Any] = {}
    for name, found in measure_processes(processes, score, selected, weight).items():
        record |= found.record(f"{name}_se:x")
    assert process_names(dict(sorted(record.items()))) == [f"{name}_se:x" for name in processes.names]
