from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.inference import subsample
from higgsbench.inference.events import reload_events
from higgsbench.pages.drawing import Pictures
from higgsbench.report.context import Context
from higgsbench.report.importance import Judge, contribution_figure, permutation_importance
from higgsbench.runs import find_run

from .conftest import Make, Sum, ToyModels, draw

pytest.importorskip("mplhep", reason="needs the extra 'report'")
pytestmark = pytest.mark.usefixtures("undrawn")


def test_what_matters_comes_first_and_what_is_not_used_costs_nothing() -> None:
    rng = np.random.default_rng(6)
    y = rng.random(2000) < 0.5
    frame = pl.DataFrame({"weak": rng.normal(size=y.size) + 0.3 * y, "strong": rng.normal(size=y.size) + 2.0 * y,
                          "unused": rng.normal(size=y.size)})  # fmt: skip
    scorer = Sum(strong=2.0, weak=0.3)
    judge = Judge(y, rng.uniform(0.5, 1.5, y.size), 3.0, 10.0)
    found = permutation_importance(scorer.scores, frame, judge, ["unused", "weak", "strong"])
    assert [entry.feature for entry in found] == ["strong", "weak", "unused"]
    assert (found[-1].auc, found[-1].ams) == (0.0, 0.0)
    assert found[0].auc > 0.2
    assert found[0].ams > 10 * found[0].ams_se > 0.0
    assert found == permutation_importance(scorer.scores, frame, judge, ["unused", "weak", "strong"])


def test_the_judge_cuts_and_weighs() -> None:
    judge = Judge(np.array([True, True, False, False]), np.array([3.0, 5.0, 7.0, 11.0]), 0.5, 2.0)
    auc, ams = judge(np.array([0.5, 0.1, 0.9, 0.2]))
    assert auc == pytest.approx((3 * 11) / (8 * 18))  # of the pairs, only the first signal above the last background
    s, b = 3.0, 7.0 + 2.0
    assert ams == pytest.approx(np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s)))


def test_a_subsample_is_ordered_without_repetition_and_always_the_same() -> None:
    assert subsample(5, 9).tolist() == [0, 1, 2, 3, 4]
    found = subsample(1000, 100)
    assert found.size == 100
    assert (np.diff(found) > 0).all()
    assert np.array_equal(found, subsample(1000, 100))


def test_training_scores_stop_where_the_time_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = find_run(make())
    events = reload_events(run)
    # The members of the stack are asked for, drawn or not.
    monkeypatch.setattr("higgsbench.report.context.MOST_DRAWN", 0)
    monkeypatch.setattr("higgsbench.report.context.MAX_EVENTS", 700)
    whole, notes = Context(run, events, Pictures(), ToyModels()).training
    assert notes == []
    assert whole is not None
    assert set(whole.by_row) == {"alpha", "alpha [jets]", "stack"}
    assert {s.shape for s in whole.by_row.values()} == {(1, 700)}
    assert whole.weight[whole.y].sum() == pytest.approx(run.totals[0])
    # 3 us per event, (3 - 1) models in each of 2 repeats, 700 events: 8.4 ms for each row.
    monkeypatch.setattr("higgsbench.report.context.IN_SAMPLE_SECONDS", 0.012)
    models = ToyModels()
    short, notes = Context(run, events, Pictures(), models).training
    assert short is not None
    assert models.asked == list(short.by_row) == ["alpha"]
    assert notes == ["No training scores (they would take too long) for: alpha [jets]."]
    monkeypatch.setattr("higgsbench.report.context.IN_SAMPLE_SECONDS", 0.0)
    assert Context(run, events, Pictures(), ToyModels()).training[0] is None


def test_importance_comes_from_events_that_the_model_has_not_seen(make: Make) -> None:
    text = draw(make(), models=ToyModels())
    assert "What features add to the log-odds of alpha [jets] (TreeSHAP); largest mean magnitudes: DER_mass_vis" in text
    assert "each scored by a model that did not see it; largest losses of weighted AUC: DER_mass_MMC" in text
    refitted = draw(make("b"), models=ToyModels(refit=True))
    assert "held-out events; largest losses of weighted AUC: DER_mass_vis" in refitted
    last = draw(make("c", test=False), models=ToyModels(refit=True, trees=""))
    assert "Permutation importance is not drawn: have seen all training events." in last
    assert "(TreeSHAP) is not drawn: alpha is not boosted trees." in last


def test_a_row_too_slow_to_shuffle_is_passed_over(make: Make) -> None:
    def slow(content: dict[str, Any]) -> None:
        for row in content["rows"]:
            row["predict_us"] = 1e6 if row["name"] == "alpha" else 3.0

    text = draw(make(change=slow), models=ToyModels())
    assert "Permutation importance of alpha [jets] on" in text
    assert "Better rows that would take too long: alpha." in text


def test_a_swarm_spreads_what_lies_together_and_shades_by_rank() -> None:
    parts = np.concatenate([np.full(9, 0.5), [0.0, 1.0]])
    values = np.concatenate([[5.0, 1.0, np.nan, 1.0, 9.0], np.full(6, np.nan)])
    shown, added = np.column_stack([values, np.full(11, np.nan)]), np.column_stack([parts, np.zeros(11)])
    figure = contribution_figure(["a", "b"], np.ones(2), shown, added)
    (swarm,) = figure.axes[1].collections
    places, shades = np.asarray(swarm.get_offsets()), np.array(swarm.get_array(), dtype=float).reshape(-1, 2)
    np.testing.assert_allclose(shades[:5, 0], [0.625, 0.25, np.nan, 0.25, 0.875])
    assert np.isnan(shades[:, 1]).all()
    first, second = places[0::2, 1], places[1::2, 1]
    assert first[9:].tolist() == [0.0, 0.0]
    assert len(set(first[:9])) == 9
    assert 0.3 < np.abs(first).max() <= 0.4
    assert second.tolist() == [1.0] * 11
