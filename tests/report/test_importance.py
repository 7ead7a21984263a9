from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.inference.events import reload_events
from higgsbench.inference.shifts import subsample
from higgsbench.pages.drawing import Pictures
from higgsbench.report import context
from higgsbench.report.context import Context, affordable_events, training_scores
from higgsbench.report.importance import Contributions, Judge, _offsets, _ranks, permutation_importance
from higgsbench.runs import find_run

from .conftest import Make, Sum, ToyModels, draw


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


@pytest.mark.parametrize(("each", "expected"), [(10.0, 5000), (100.0, 1000), (None, 5000), (0.0, 5000)])
def test_slow_rows_are_asked_for_fewer_events(each: float | None, expected: int) -> None:
    assert affordable_events({"predict_us": each}, 1.0, 10, 5000) == expected


def subject(folder: Path, models: ToyModels | None = None) -> Context:
    run = find_run(folder)
    return Context(run, reload_events(run), Pictures(), models or ToyModels())


def test_training_scores_stop_where_the_time_ends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make()
    monkeypatch.setattr(context, "MAX_EVENTS", 700)
    asked = subject(folder)
    names = [r["name"] for r in asked.rows]
    whole = training_scores(asked, names)
    assert whole.notes == ()
    assert whole.scores is not None
    assert set(whole.scores.by_row) == set(names)
    assert {s.shape for s in whole.scores.by_row.values()} == {(1, 700)}
    assert whole.scores.weight[whole.scores.y].sum() == pytest.approx(asked.run.totals[0])
    # 3 us per event, (3 - 1) models in each of 2 repeats, 700 events: 8.4 ms for each row.
    models = ToyModels()
    short = training_scores(subject(folder, models), names, seconds=0.012)
    assert short.scores is not None
    assert models.asked == list(short.scores.by_row) == [n for n in names if n != "stack"][:1]
    assert "would take too long) for: " in short.notes[0]
    assert training_scores(subject(folder), names, seconds=0.0).scores is None


def test_the_stack_asks_for_its_members_beside_the_rows_drawn(make: Make) -> None:
    folder = make()
    found = training_scores(subject(folder), ["stack"])
    assert found.scores is not None
    assert set(found.scores.by_row) == {"alpha", "alpha [jets]", "stack"}
    models = ToyModels()
    training_scores(subject(folder, models), ["alpha"])
    assert models.asked == ["alpha"]


@pytest.fixture
def page(make: Make, undrawn: None) -> Any:
    pytest.importorskip("mplhep", reason="needs the extra 'report'")

    def render(models: ToyModels, **how: Any) -> str:
        return draw(make(**how), models=models)

    return render


def test_importance_comes_from_events_that_the_model_has_not_seen(page: Any) -> None:
    text = page(ToyModels())
    assert "each judged by a model that did not see it; largest losses of weighted AUC: DER_mass_MMC" in text
    assert "held-out events; largest losses of weighted AUC: DER_mass_vis" in page(ToyModels(refit=True), folder="b")
    last = page(ToyModels(refit=True), folder="c", test=False)
    assert "Permutation importance is not drawn: have seen all training events." in last


def test_the_best_trees_are_explained(page: Any) -> None:
    text = page(ToyModels())
    assert "What features add to the log-odds of alpha [jets] (TreeSHAP); largest mean magnitudes: DER_mass_vis" in text
    assert "(TreeSHAP) is not drawn: alpha is not boosted trees." in page(ToyModels(trees=""), folder="b")


def test_a_row_too_slow_to_shuffle_is_passed_over(page: Any) -> None:
    def slow(content: dict[str, Any]) -> None:
        for row in content["rows"]:
            if row["name"] == "alpha":
                row["predict_us"] = 1e6

    text = page(ToyModels(), change=slow)
    assert "Permutation importance of alpha [jets] on" in text
    assert "Better rows that would take too long: alpha." in text


def test_the_sizes_of_contributions_weigh_events() -> None:
    found = Contributions(("a", "b"), np.zeros((2, 2)), np.array([[1.0, -4.0], [-3.0, 0.0]]), np.array([0.25, 0.75]))
    np.testing.assert_allclose(found.size, [2.5, 1.0])


def test_a_swarm_spreads_what_lies_together_and_shades_by_rank() -> None:
    parts = np.concatenate([np.full(9, 0.5), [0.0, 1.0]])
    offsets = _offsets(parts)
    assert offsets[9:].tolist() == [0.0, 0.0]
    assert len(set(offsets[:9])) == 9
    assert 0.3 < np.abs(offsets).max() <= 0.4
    assert _offsets(np.zeros(4)).tolist() == [0.0] * 4
    shades = _ranks(np.array([5.0, 1.0, np.nan, 1.0, 9.0]))
    np.testing.assert_allclose(shades, [0.625, 0.25, np.nan, 0.25, 0.875])
