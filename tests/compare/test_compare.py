"""Models of stored runs against each other: what is found, what is refused, what is concluded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import higgsbench
from higgsbench.challenge import TOY
from higgsbench.cli.main import cli
from higgsbench.compare import compare, conclusions, load_contenders, render
from higgsbench.ensemble import bootstrap_rows, evaluate_row, paired_error
from higgsbench.ensemble.cut import cross_validated_selection
from higgsbench.errors import ConfigError, DataError, HiggsbenchError, StoreError
from higgsbench.metrics import METRICS, Estimate, Metric, Scored, ams, log_loss, paired_difference, roc_auc
from higgsbench.metrics.estimates import selected_share
from higgsbench.schema import N_B

MakeRun = Callable[..., Path]


def test_numbers_are_those_of_the_definitions(make_run: MakeRun) -> None:
    found, notes = load_contenders([str(make_run("a", {"good": 0.2, "poor": 1.2}))])
    result = compare(found, notes, replicas=60)
    pair = result.pair("good", "poor")
    y, w = found[0].truth.y, found[0].truth.weight
    auc, loss = pair.differences["auc"], pair.differences["log_loss"]
    assert (auc.value, auc.se) == pytest.approx(paired_difference(*(roc_auc(y, c.scores[0], w) for c in found)))
    first, second = (log_loss(y, c.scores[0], w).value for c in found)
    assert loss.value == pytest.approx(first - second)
    mine, theirs = (cross_validated_selection(c.scores[0], c.truth, 0) for c in found)
    assert result.models[0].value("ams") == pytest.approx(ams(w[mine & y].sum(), w[mine & ~y].sum()))
    replicas = [bootstrap_rows([(c.scores, c.truth)], 60)[0] for c in found]
    assert pair.differences["ams"].se == pytest.approx(paired_error(replicas[0], replicas[1]))
    only = mine & ~theirs
    assert pair.overlap.only_a.events == only.sum()
    assert pair.overlap.only_a.s == pytest.approx(w[only & y].sum())
    assert pair.overlap.both.b + pair.overlap.only_b.b == pytest.approx(w[theirs & ~y].sum())
    assert pair.overlap.either.events == (mine | theirs).sum()
    assert 0.5 < pair.overlap.rank_correlation["signal"] < 1.0
    assert set(pair.over_folds) == {"ams", "auc", "log_loss"}
    assert (result.pictures["auc"].names, result.pictures["auc"].groups) == (("good", "poor"), ())
    assert "good is better than poor in wAUC" in conclusions(result)[0]


def test_equal_models_are_called_equal(make_run: MakeRun) -> None:
    run = make_run("a", {"one": 0.5, "two": 0.5})
    found, _ = load_contenders(["one", "two"], run=str(run))
    result = compare(found, replicas=40)
    assert "cannot be told apart" in conclusions(result)[0]
    assert result.pictures["ams"].groups == ((0, 1),)
    (conclusion,) = conclusions(compare([found[0], replace(found[0], name="clone")], replicas=10))
    assert conclusion == "one and clone order the events in the same way: there is no difference."


def test_numbers_of_toys_are_labelled(make_run: MakeRun) -> None:
    for simulated in (True, False):
        run = make_run(f"run-{simulated}", {"x": 0.2, "y": 0.3}, simulated=simulated)
        for found in (
            higgsbench.compare_models(run, replicas=9), higgsbench.blend(run, replicas=9), higgsbench.stats(run)
        ):  # fmt: skip
            assert (TOY in " ".join(found.remarks())) == simulated


def test_runs_are_aligned_by_event_and_the_order_of_the_file_does_not_matter(make_run: MakeRun) -> None:
    a, b = make_run("a", {"m": 0.3}), make_run("b", {"m": 0.3}, repeats=2)
    frame = pl.read_parquet(b / "scores.parquet")
    frame.sort("repeat", "signal", maintain_order=True).write_parquet(b / "scores.parquet")
    found, notes = load_contenders([str(a), f"{b}:m"])
    assert notes == []
    assert [c.name for c in found] == ["a:m", "b:m"]
    np.testing.assert_array_equal(found[0].event_id, found[1].event_id)
    np.testing.assert_array_equal(found[0].scores[0], found[1].scores[1])
    pair = compare(found, replicas=10).pairs[0]
    assert pair.differences["auc"].value == pytest.approx(0.0)
    assert pair.over_folds == {}


def test_other_events_are_refused_and_the_common_ones_compared_on_request(make_run: MakeRun) -> None:
    runs = [str(make_run("a", {"m": 0.3})), str(make_run("b", {"m": 0.3}, first=1100))]
    with pytest.raises(DataError, match=r"different events \(2,000 of up to 3,000 events in common\); train both on"):
        load_contenders(runs)
    found, notes = load_contenders(runs, common=True)
    assert "2,000 events" in notes[0]
    assert found[0].truth.weight[found[0].truth.y].sum() == pytest.approx(found[0].truth.totals[0])
    far = str(make_run("c", {"m": 0.3}, first=9000))
    with pytest.raises(DataError, match="no event in common"):
        load_contenders([runs[0], far], common=True)


def test_the_same_numbers_with_other_contents_are_refused(make_run: MakeRun) -> None:
    a, b = make_run("a", {"m": 0.3}), make_run("b", {"m": 0.3}, data="other")
    with pytest.raises(DataError, match="same event numbers but different contents"):
        load_contenders([str(a), str(b)])
    frame = pl.read_parquet(b / "scores.parquet").with_columns(~pl.col("signal"))
    frame.write_parquet(b / "scores.parquet")
    with pytest.raises(DataError, match="labels or weights differ"):
        load_contenders([str(a), str(b)], common=True)
    with pytest.raises(DataError, match=r"not comparable: b_reg is 10.0 in one, 0.0"):
        load_contenders([str(a), str(make_run("c", {"m": 0.3}, b_reg=0.0))])


@pytest.mark.parametrize(
    ("specs", "run", "match"),
    [([], None, "name a run"), (["nowhere"], None, "nowhere: no finished run"),
     (["a:god"], None, r"a: no model 'god' \(did you mean 'good'"), (["good"], "zzz", "zzz: no finished run")],
)  # fmt: skip
def test_unknown_names(make_run: MakeRun, specs: list[str], run: str | None, match: str) -> None:
    results = make_run("a", {"good": 0.2}).parent
    with pytest.raises(HiggsbenchError, match=match):
        load_contenders(specs, run=run, results=results)


def test_a_comparison_needs_two_models_and_events_once(make_run: MakeRun) -> None:
    run = make_run("a", {"x": 0.2, "x [jets]": 0.4})
    found, _ = load_contenders(["x"], run=str(run))
    assert [c.name for c in found] == ["x"]
    assert [c.name for c in load_contenders([f"{run}:x [jets]"])[0]] == ["x [jets]"]
    with pytest.raises(ConfigError, match="needs two models; there is x"):
        compare(found)
    path = run / "scores.parquet"
    pl.read_parquet(path).with_columns(pl.lit(1).alias("EventId").cast(pl.Int64)).write_parquet(path)
    with pytest.raises(StoreError, match=r"scores\.parquet: an event number occurs twice"):
        load_contenders([str(run)])


def test_selections_of_a_share_never_cut_inside_ties() -> None:
    score = np.array([3.0, 2.0, 2.0, 2.0, 1.0])
    np.testing.assert_array_equal(selected_share(score, 0.4), score >= 2.0)
    np.testing.assert_array_equal(selected_share(score, 0.01), score >= 3.0)


def test_json_holds_every_number_and_markdown_escapes(make_run: MakeRun) -> None:
    run = make_run("a", {"x": 0.2, "<b>|": 0.3})
    result = compare(load_contenders([str(run)])[0], replicas=10)
    content = json.loads(render(result, "json"))
    assert set(content["pairs"][0]["differences"]) == set(METRICS)
    assert content["pairs"][0]["differences"]["auc"]["value"] == result.pairs[0].differences["auc"].value
    text = render(result, "markdown")
    assert ("<b>" in text, "&lt;b>\\|" in text) == (False, True)
    text = render(result, "html")
    assert ("<b>" in text, text.index("Rank correlation of x") < text.index("<table")) == (False, True)


def test_command_line(make_run: MakeRun, tmp_path: Path) -> None:
    results = make_run("a", {"x": 0.2, "y": 0.3}).parent
    target = tmp_path / "who.parquet"
    common = ["compare", "--results", str(results), "--replicas", "10"]
    done = CliRunner().invoke(cli, [*common, "a", "--events", str(target)])
    assert done.exit_code == 0, done.output
    assert "x against y" in done.output
    who = pl.read_parquet(target)
    assert who.columns == ["EventId", "signal", "weight", "selected:x", "selected:y"]
    assert isinstance(CliRunner().invoke(cli, [*common, "a", "--events", "who.txt"]).exception, ConfigError)


def test_a_metric_is_one_record(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is all that rows, comparisons and tests over folds need."""
    found, _ = load_contenders([str(make_run("a", {"good": 0.2, "poor": 1.2}))])

    def brier(events: Scored) -> Estimate:
        loss = (1.0 / (1.0 + np.exp(-events.score)) - events.y) ** 2
        return Estimate(float(np.average(loss, weights=events.weight)), events.weight * (loss - loss.mean()) / N_B)

    record = Metric("brier", "brier", "Brier x10³", "Weighted squared error.", brier, scale=1e3, lower_is_better=True)
    monkeypatch.setitem(METRICS, "brier", record)
    row = evaluate_row(found[0].scores, found[0].truth).record()
    assert row["brier_se"] > 0.0
    result = compare(found, replicas=10)
    pair = result.pair("good", "poor")
    assert pair.differences["brier"].value < 0.0
    assert result.models[0].value("brier") == pytest.approx(row["brier"])
    assert "brier" in pair.over_folds
    assert "Brier x10³" in render(result, "markdown")
