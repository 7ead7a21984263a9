"""Rows over several data sets: statistics with known answers, and how they are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import friedmanchisquare, wilcoxon

from higgsbench.compare.ranks import elo, elo_interval, gains, pareto_front, rank_rows, wins
from higgsbench.compare.suite import SuiteResult, check_target, summarise, write_splits
from higgsbench.errors import ConfigError
from higgsbench.metrics.estimates import METRICS
from higgsbench.runs import Failure, RunResult

# AUC of C4.5 with m, cf, both or none of these tuned, on 14 data sets: Demsar (2006), table 6. On the last but one the
# rounded values of cf and both are equal, but their ranks are not.
TUNED = np.array([
    [.763, .599, .954, .628, .882, .936, .661, .583, .775, 1., .940, .619, .972, .957],
    [.768, .591, .971, .661, .888, .931, .668, .583, .838, 1., .962, .666, .981, .978],
    [.771, .590, .968, .654, .886, .916, .609, .563, .866, 1., .965, .614, .9751, .946],
    [.798, .569, .967, .657, .898, .931, .685, .625, .875, 1., .962, .669, .975, .970],
])  # fmt: skip
NAMES = ["plain", "m", "cf", "both"]


def test_ranks_and_tests_are_those_of_the_literature() -> None:
    found = rank_rows(METRICS["auc"], NAMES, TUNED[:, :, None], np.ones(4))
    assert [s.row for s in found.standings] == ["both", "m", "cf", "plain"]
    assert [s.rank for s in found.standings] == pytest.approx([1.964, 2.0, 2.893, 3.143], abs=5e-4)
    assert found.friedman == pytest.approx(friedmanchisquare(*TUNED).pvalue)
    p = wilcoxon(TUNED[3] - TUNED[0]).pvalue
    assert found.adjusted[0, 3] == found.adjusted[3, 0] >= p
    assert found.picture.ranks == pytest.approx([1.964, 2.0, 2.893, 3.143], abs=5e-4)
    assert "AUC: both has the best mean rank, 1.96; the rows differ (Friedman, p = 0.0" in found.conclusion()
    lower = rank_rows(METRICS["log_loss"], NAMES, 1.0 - TUNED[:, :, None], np.ones(4))
    assert [s[:7] for s in lower.standings] == [pytest.approx(s[:7]) for s in found.standings]


@pytest.mark.parametrize(
    ("datasets", "said"), [(3, "fewer than 7 data sets"), (12, "it is better than b, c (Wilcoxon")]
)
def test_what_can_be_concluded_depends_on_the_data_sets(datasets: int, said: str) -> None:
    steps = np.linspace(0.0, 0.1, datasets)
    values = np.array([3.0 + steps, 2.0 + 2 * steps, 1.0 + 3 * steps])[:, :, None]
    assert said in rank_rows(METRICS["ams"], ["a", "b", "c"], values, np.ones(3)).conclusion()


def test_equal_rows_are_not_told_apart() -> None:
    found = rank_rows(METRICS["ams"], ["a", "b", "c"], np.ones((3, 9, 2)), np.ones(3))
    assert [(s.rank, s.wins, round(s.elo)) for s in found.standings] == [(2.0, 0.5, 1000)] * 3
    assert np.isnan(found.friedman)
    assert (found.adjusted == 1.0).all()
    assert "a has the best mean rank, 2.00 (shared with b, c); it cannot be told apart from b, c" in found.conclusion()


def test_wins_are_paired_by_data_set_and_seed() -> None:
    better = np.array([[[1.0, 4.0]], [[2.0, 3.0]], [[1.0, 5.0]]])
    won = wins(better)
    assert won.shape == (1, 2, 3, 3)
    assert won[0, 0].tolist() == [[0.0, 0.0, 0.5], [1.0, 0.0, 1.0], [0.5, 0.0, 0.0]]
    assert won[0, 1].tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]


def test_elo_recovers_the_strengths_of_the_model() -> None:
    strength = np.array([1400.0, 1050.0, 900.0, 650.0])
    expected = 1.0 / (1.0 + 10.0 ** ((strength[None, :] - strength[:, None]) / 400.0))
    won = 20.0 * expected - 0.25  # half a draw is added
    assert elo(won) == pytest.approx(strength)
    assert elo(np.stack([won, won.T]))[1] == pytest.approx(2000.0 - strength)
    always = np.triu(np.full((3, 3), 30.0), 1)
    assert np.isfinite(elo(always)).all()
    assert elo(np.array([[0.0, 9.0], [1.0, 0.0]])) @ [1.0, -1.0] == pytest.approx(400.0 * np.log10(9.25 / 1.25))


def test_seeds_do_not_count_as_data_sets() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(3, 8, 1)) + np.array([0.5, 0.0, 0.0])[:, None, None]
    width = np.ptp(elo_interval(wins(values)), axis=0)
    assert np.ptp(elo_interval(wins(np.repeat(values, 6, axis=2))), axis=0) == pytest.approx(width, rel=0.15)
    assert (np.ptp(elo_interval(wins(np.tile(values, (1, 6, 1)))), axis=0) < 0.7 * width).all()


def test_gains_are_shares_of_the_distance_to_the_best() -> None:
    means = np.array([[1.0, 3.0], [1.5, 2.0], [3.0, 3.0], [-9.0, 3.0]])
    assert gains(means).tolist() == [[0.0, 0.0], [0.25, -1.0], [1.0, 0.0], [-1.0, 0.0]]


def test_the_front_has_no_better_and_cheaper_row() -> None:
    assert pareto_front(np.array([1.0, 2.0, 2.0, 3.0, 3.0]), np.array([0.1, 0.5, 0.4, 0.5, 0.9])).tolist() == [
        True, True, False, False, True,
    ]  # fmt: skip


def record(name: str, ams: list[float], status: str = "ok") -> dict[str, Any]:
    """A row with two seeds."""
    means = {"ams_cv": float(np.mean(ams)), "auc": 0.9, "log_loss": 0.01}
    errors = {f"{key}_se": 0.1 for key in means}
    each = {"ams_cv_repeats": ams, "auc_repeats": [0.9, 0.9], "log_loss_repeats": [0.01, 0.01]}
    return {"name": name, "status": status, "seed": [4, 7], "fit_seconds": 6.0, **means, **errors, **each}


def made_up(folder: Path) -> SuiteResult:
    """Two models on three data sets with two seeds, and a model that one data set lacks."""
    runs = {}
    for at, name in enumerate(("a", "b", "c")):
        rows = [record("slow", [2.0 + at, 2.5]), record("[fast]", [1.0, 3.0 + at])]
        rows += [record("odd", [1.0, 1.0], "failed" if name == "b" else "ok")]
        failures = [Failure("odd", "ValueError: no", None)] if name == "b" else []
        runs[name] = RunResult(folder / f"{name}-12345678", rows, 0, 0, failures)
    return summarise(runs, ["something else"])


def test_a_result_is_shown_and_written(tmp_path: Path) -> None:
    found = made_up(tmp_path)
    assert repr(found) == "<SuiteResult on a, b, c, best by AMS: slow>"
    assert [f.row for f in found.failures] == ["b: odd"]
    assert found.notes == ("something else", "odd: not ranked, because it has no results on some data set")
    table = found.to_polars()
    assert table.columns == ["dataset", "row", "seed", "ams_cv", "auc", "log_loss", "fit_seconds"]
    assert table.filter(pl.col("row") == "[fast]", dataset="c").rows() == [
        ("c", "[fast]", 4, 1.0, 0.9, 0.01, 3.0), ("c", "[fast]", 7, 5.0, 0.9, 0.01, 3.0)
    ]  # fmt: skip
    ams, auc, _, each = found.as_tables()
    assert [str(cell) for cell in ams.rows[0]][:3] == ["slow", "1.00", "50%"]
    assert [str(cell) for cell in auc.rows[0]][:4] == ["slow", "1.50", "50%", "1000"]
    assert all(sum(part.widths()) < 80 for shown in (ams, auc, each) for part in shown.stacked(80))
    assert each.rows[2] == ["odd", "1.000 ± 0.100", "failed", "1.000 ± 0.100"]
    assert "[fast]" in found._repr_html_()
    assert json.loads(json.dumps(found.as_json()["rankings"]["ams"]["rows"]))[0]["row"] == "slow"
    for suffix, read in ((".csv", pl.read_csv), (".json", pl.read_json), (".parquet", pl.read_parquet)):
        check_target("--splits", tmp_path / f"s{suffix}")
        write_splits(table, tmp_path / f"s{suffix}")
        assert read(tmp_path / f"s{suffix}").equals(table)
    with pytest.raises(ConfigError, match=r"--splits s.xlsx: the name must end in .csv, .json, .parquet"):
        check_target("--splits", Path("s.xlsx"))
    with pytest.raises(ConfigError, match="absent"):
        check_target("--splits", tmp_path / "absent" / "s.csv")


def test_the_page_has_ranks_costs_and_gains_on_each_data_set(tmp_path: Path) -> None:
    pytest.importorskip("mplhep", reason="the extra report is not installed")
    from higgsbench.pages import drawing

    found = made_up(tmp_path)
    page = found.as_page(drawing.Pictures(tmp_path, ["png"]), "plain")
    assert page.count("<img") == 6
    assert page.count(": gain</span>") == 3
    assert "What can be concluded" in page
    assert found.rankings[0].shares.tolist() == [[0.0] * 3, [-1.0] * 3]
    assert found.as_json()["rankings"]["ams"]["gains"][1] == {"a": -1.0, "b": -1.0, "c": -1.0}
    assert (tmp_path / "suite-ranks-ams.png").exists()
    numbers = pl.read_csv(tmp_path / "suite-cost-ams.csv")
    assert "Pareto front" in numbers["series"]


def test_the_errors_for_bencheval_are_positive_and_lower_is_better(tmp_path: Path) -> None:
    table = made_up(tmp_path).to_bencheval()
    assert table.columns == ["task", "method", "seed", "metric", "metric_error", "time_train_s"]
    assert table.height == 3 * 3 * 2 * 2  # metrics, data sets, seeds, and the rows that all data sets have
    found = dict(table.filter(task="c", method="slow", seed=4).select("metric", "metric_error").iter_rows())
    assert found == pytest.approx({"ams": 1 / 4.0, "auc": 0.1, "log_loss": 0.01})


def test_the_elo_of_bencheval_lies_in_our_interval(tmp_path: Path) -> None:
    evaluator = pytest.importorskip("bencheval.evaluator", reason="the extra bencheval is not installed")
    import pandas as pd

    ams = np.random.default_rng(3).normal(3.0, 1.0, size=(8, 4, 2)) + np.array([[0.6], [0.3], [0.0], [-0.3]])
    rows = [[record(name, own.tolist()) for name, own in zip(NAMES, each, strict=True)] for each in ams]
    found = summarise({f"d{at}": RunResult(tmp_path, each, 0, 0, []) for at, each in enumerate(rows)})
    table = found.to_bencheval()
    peer = evaluator.BenchmarkEvaluator(seed_column="seed", columns_to_agg_extra=["time_train_s"])
    for ranking in found.rankings[:2]:  # the wAUC is the same for all
        data = pd.DataFrame(table.filter(metric=ranking.metric.name).to_dict(as_series=False))
        theirs = peer.leaderboard(data)
        for own in ranking.standings:
            assert own.elo_low - 0.05 <= theirs["elo"][own.row] <= own.elo_high + 0.05  # rounded there
            assert theirs["winrate"][own.row] == pytest.approx(own.wins)
            assert theirs["elo"][own.row] == pytest.approx(own.elo, abs=20.0)


def test_one_data_set_has_no_interval(tmp_path: Path) -> None:
    found = summarise({"a": made_up(tmp_path).runs["a"]})
    assert found.as_tables()[0].caption == "AMS over 1 data set"
    assert [str(row[4]) for row in found.as_tables()[0].rows] == ["-"] * 3
    assert "its interval needs several data sets" in " ".join(found.remarks())
    assert np.isnan(found.rankings[0].standings[0].elo_low)


def test_one_row_has_no_ranks(tmp_path: Path) -> None:
    runs = {name: RunResult(run.folder, run.rows[:1], 0, 0, []) for name, run in made_up(tmp_path).runs.items()}
    assert summarise(runs).rankings == ()
