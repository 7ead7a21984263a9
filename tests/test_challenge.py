"""Submissions are read as strictly as the challenge did and scored as the leaderboard scores."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import higgsbench
from higgsbench.challenge import (
    PUBLISHED,
    SubmissionScore,
    published_note,
    read_submission,
    score_submission,
    standing,
    submission_table,
)
from higgsbench.errors import DataError, HiggsbenchWarning
from higgsbench.events import Events
from higgsbench.metrics import ams
from higgsbench.schema import ATLAS_HIGGS, FEATURES, N_B, N_S
from tests.conftest import Call

SELECT_ALL = 1.079073517320
"""AMS of selecting every event at the challenge's totals."""


def truth(n: int = 40, subsets: str = "") -> Events:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {name: np.zeros(n) for name in FEATURES}
    columns |= {"PRI_jet_num": np.zeros(n, dtype=np.int64)}
    columns |= {"EventId": np.arange(100, 100 + n), "Weight": rng.gamma(2.0, size=n)}
    columns |= {"Label": np.where(np.arange(n) % 3 == 0, "s", "b")}
    if subsets:
        columns |= {"KaggleSet": np.array([subsets[i % len(subsets)] for i in range(n)])}
        columns |= {"KaggleWeight": columns["Weight"] * 2.0}
    return Events(pl.DataFrame(columns), ATLAS_HIGGS, "truth.csv")


def written(tmp_path: Path, lines: list[str], end: str = "\n") -> Path:
    file = tmp_path / "sub.csv"
    file.write_text(end.join(["EventId,RankOrder,Class", *lines]) + end, newline="")
    return file


def everything(events: Events, tmp_path: Path, letter: str = "s") -> Path:
    return written(tmp_path, [f"{e},{i + 1},{letter}" for i, e in enumerate(events.event_id)])


def test_selecting_everything_or_nothing(tmp_path: Path) -> None:
    events = truth()
    (score,) = score_submission(read_submission(everything(events, tmp_path)), events)
    assert score.ams == pytest.approx(SELECT_ALL, abs=1e-12)
    assert [score.s, score.b] == pytest.approx([N_S, N_B])
    assert ams(N_S, N_B) == pytest.approx(SELECT_ALL, abs=1e-12)
    (score,) = score_submission(read_submission(everything(events, tmp_path, "b")), events)
    assert (score.ams, score.s, score.b, score.selected) == (0.0, 0.0, 0.0, 0)


def test_public_and_private_apart(tmp_path: Path) -> None:
    events = truth(80, "tbvu")
    tested = events.take(events.in_subsets(("b", "v")))
    scores = score_submission(read_submission(everything(tested, tmp_path)), events)
    assert [(s.name, s.events) for s in scores] == [("all", 40), ("public", 20), ("private", 20)]
    for score in scores:  # each set stands for the whole expectation
        assert score.ams == pytest.approx(SELECT_ALL, abs=1e-12)
    events = truth(40, "t")  # training events put aside
    assert len(score_submission(read_submission(everything(events, tmp_path)), events)) == 1


@pytest.mark.parametrize(
    ("ams", "place"),
    [
        (3.9, "above Melis, winner of the challenge 3.80581 (PMLR 42 (2015) 19)"),
        (3.788, "below Salimans, second place 3.78913 (PMLR 42 (2015) 19), above Courtiol"),
        (3.6, "below Chen and He, XGBoost 3.71885 (PMLR 42 (2015) 69)"),
    ],
)
def test_a_score_on_the_full_private_set_is_placed_among_published_ones(ams: float, place: str) -> None:
    found = SubmissionScore("private", 450_000, 1000, 1.0, 1.0, ams, 0.05, 0.9)
    assert place in standing(found)
    assert not standing(replace(found, events=449_999))
    assert not standing(replace(found, name="all"))
    assert [entry.ams for entry in PUBLISHED] == sorted((entry.ams for entry in PUBLISHED), reverse=True)


def test_published_scores_belong_to_the_challenges_events_only() -> None:
    rows = [{}, {"ams_private": 3.5}]
    shared = {"layout": ATLAS_HIGGS.name, "simulated": False, "n_s": N_S, "n_b": N_B, "b_reg": 10.0}
    assert "Strong 2020 (± 0.011) 3.803 (arXiv:2002.01427)" in published_note(shared, rows)
    assert not published_note(shared, [{"ams_private": None}, {}])
    for change in ({"simulated": True}, {"layout": "mine"}, {"n_s": 1.0}, {"b_reg": 0.0}):
        assert not published_note({**shared, **change}, rows)


def test_chosen_subsets(tmp_path: Path) -> None:
    events = truth(80, "tbvu")
    chosen = events.take(events.in_subsets(("v",)))
    submission = read_submission(everything(chosen, tmp_path))
    (score,) = score_submission(submission, events, subsets=["v"])
    assert score.events == 20
    with pytest.raises(DataError, match=r"20 of the 40 test events are missing, e.g. EventId 101$"):
        score_submission(submission, events)


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    events = truth()
    rng = np.random.default_rng(1)
    table = submission_table(events.event_id, rng.normal(size=40), 0.3)
    table.write_csv(tmp_path / "a.csv")
    table.sample(fraction=1.0, shuffle=True, seed=2).write_csv(tmp_path / "b.csv")
    a, b = (score_submission(read_submission(tmp_path / f"{n}.csv"), events) for n in "ab")
    assert a[0].ams == pytest.approx(b[0].ams, abs=1e-12)
    assert a[0].auc == pytest.approx(b[0].auc, abs=1e-12)


@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=30))
def test_ranks_are_a_permutation_that_agrees_with_scores_and_class(values: list[float]) -> None:
    ids = np.random.default_rng(len(values)).permutation(np.arange(1000, 1000 + len(values)))
    score = np.array(values)
    table = submission_table(ids, score, 0.5)
    rank, selected = table["RankOrder"].to_numpy(), (table["Class"] == "s").to_numpy()
    assert sorted(rank) == list(range(1, len(values) + 1))
    by_rank = np.argsort(rank)
    assert (np.diff(score[by_rank][np.isfinite(score[by_rank])]) >= 0).all()
    assert (selected == (score >= 0.5)).all()
    if selected.any() and not selected.all():
        assert rank[selected].min() > rank[~selected].max()
    mixed = np.random.default_rng(0).permutation(len(values))
    again = submission_table(ids[mixed], score[mixed], 0.5)
    assert again.sort("EventId").equals(table.sort("EventId")), "the order of the file does not matter"


def test_an_event_twice_is_no_submission_and_no_truth() -> None:
    with pytest.raises(DataError, match="EventId 5 occurs twice"):
        submission_table(np.array([4, 5, 5]), np.zeros(3), 0.0)
    events = truth()
    submission = read_submission(submission_table(events.event_id, np.arange(40.0), 0.5))
    with pytest.raises(DataError, match=r"submission: 40 lines, but truth.csv has 41 test events"):
        score_submission(submission, events.take(np.append(np.arange(40), 7)))


def test_windows_line_ends_and_gzip(tmp_path: Path) -> None:
    file = written(tmp_path, ["100,2,s", "101,1,b", "102,3,s"], end="\r\n")
    assert read_submission(file).rank.tolist() == [2, 1, 3]
    (tmp_path / "sub.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert read_submission(tmp_path / "sub.csv.gz").event_id.tolist() == [100, 101, 102]


def test_truth_has_3_columns_and_reversed_ranks_are_told(tmp_path: Path, call: Call) -> None:
    """The Python function warns, and the command shows the warning beside the score."""
    events = truth(60)
    events.frame.select("EventId", "Label", "Weight").write_csv(tmp_path / "truth.csv")
    good = submission_table(events.event_id, np.where(events.y, 1.0, -1.0), 0.0)
    turned = good.with_columns(RankOrder=61 - pl.col("RankOrder"))
    (score,) = higgsbench.score(good, tmp_path / "truth.csv")
    with pytest.warns(HiggsbenchWarning, match=r"submission: RankOrder seems to be reversed \(wAUC 0.000\)"):
        (again,) = higgsbench.score(turned, tmp_path / "truth.csv")
    assert (again.ams, again.auc) == pytest.approx((score.ams, 1.0 - score.auc))
    turned.write_csv(tmp_path / "turned.csv")
    code, out, err = call("score", "turned.csv", "truth.csv")
    assert code == 0
    assert "all: AMS" in out
    assert "turned.csv: RankOrder seems to be reversed" in err


def test_ranks_by_chance_are_not_called_reversed(tmp_path: Path) -> None:
    events = truth(60)
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=60)
        score_submission(read_submission(submission_table(events.event_id, values, 0.5)), events)
