"""The search for a blend: its scores see no label of their fold, and its gain is judged against each member."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import higgsbench
from higgsbench.cli.main import cli
from higgsbench.compare import load_contenders
from higgsbench.compare.portfolio import nested_blend, search_blend
from higgsbench.ensemble import paired
from higgsbench.ensemble.blend import fit_blend
from higgsbench.errors import ConfigError, DataError
from higgsbench.metrics import roc_auc

MakeRun = Callable[..., Path]
NOISES = {"one": 0.6, "two": 0.6, "poor": 3.0}


def test_rows_of_two_runs_blend_to_more_than_the_best(make_run: MakeRun) -> None:
    runs = [make_run("a", {"one": 0.6, "poor": 3.0}), make_run("b", {"two": 0.6, "three": 0.6})]
    found = higgsbench.blend(*runs, replicas=50)
    assert {row.name for row in found.members} == {"a:one", "a:poor", "b:two", "b:three"}
    assert found.weights["a:poor"][0] < 0.1 < found.weights["b:two"][0]
    best = found.best("auc")
    gain = found.gains[best.name]["auc"]
    assert gain.value > 3.0 * gain.se > 0.0
    assert (gain.value, gain.se) == pytest.approx(paired(found.blend, best, "auc"))
    assert sum(found.methods.values()) == 3
    assert found.best("log_loss").value("log_loss") == min(row.value("log_loss") for row in found.members)
    assert f"wAUC: {gain.value:+.4f}" in " ".join(found.remarks())
    assert "Δ wAUC" in found._repr_html_()
    assert str(found).startswith("Blend of 4 rows on 3,000 events\n")
    assert found.to_polars()["gain_auc"].null_count() == 1
    assert repr(found).startswith("<Portfolio of 4 rows on 3,000 events, AMS ")


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_fold_is_scored_without_its_labels(make_run: MakeRun, repeats: int) -> None:
    """With other labels in a fold, the scores of its events stay the same, bit for bit."""
    members, _ = load_contenders([str(make_run("a", NOISES, repeats=repeats))])
    names = tuple(member.name for member in members)
    last = repeats - 1
    F = np.column_stack([member.scores[last] for member in members])
    scores, blends = nested_blend(names, F, members[0], last)
    own = members[0].truth.fold[last] == 1
    truth = replace(members[0].truth, y=np.where(own, ~members[0].truth.y, members[0].truth.y))
    others, _ = nested_blend(names, F, replace(members[0], truth=truth), last)
    np.testing.assert_array_equal(others[own], scores[own])
    assert (others[~own] != scores[~own]).any()
    assert len(blends) == 3


def test_members_without_information_bring_no_gain(make_run: MakeRun) -> None:
    """A search on the same events would gain by fitting their noise."""
    noise = {f"noise{i}": 12.0 for i in range(12)}
    members, _ = load_contenders([str(make_run("a", {"good": 0.5, **noise}, n=400))])
    found = search_blend(members, replicas=20)
    gain = found.gains["good"]["auc"]
    assert gain.value <= gain.se
    everything = np.column_stack([member.scores[0] for member in members])
    truth = members[0].truth
    names = tuple(member.name for member in members)
    fit = fit_blend("logistic", names, everything, truth.y, truth.weight, truth.totals)
    assert roc_auc(truth.y, fit(everything), truth.weight).value > found.blend.value("auc")


def test_the_same_fits_and_stacks_are_left_out(make_run: MakeRun) -> None:
    runs = make_run("a", NOISES), make_run("b", {"one": 0.6, "stack": 0.6})
    found = higgsbench.blend(*runs, replicas=10)
    assert found.notes == (
        "b:one is left out: it has the same fits as a:one", "b:stack is left out: a stack has seen all folds"
    )  # fmt: skip
    assert len(found.members) == 3


def test_what_cannot_be_blended_is_refused(make_run: MakeRun) -> None:
    run, other = make_run("a", NOISES), make_run("b", {"x": 0.5}, repeats=2)
    with pytest.raises(ConfigError, match=r"a blend needs two rows that are not stacks; there is only one$"):
        higgsbench.blend(run, models=["one"])
    stacked = make_run("c", {"one": 0.6, "stack": 0.6})
    with pytest.raises(ConfigError, match="there is only one; stack is left out: a stack has seen all folds"):
        higgsbench.blend(stacked)
    with pytest.raises(DataError, match=r"different events .* train both on the same `data`"):
        higgsbench.blend(run, make_run("d", {"y": 0.3}, first=1100))
    with pytest.raises(ConfigError, match="a:one and b:x have different folds; train both with the same `folds`"):
        higgsbench.blend(run, other)
    with pytest.raises(ConfigError, match="at least 2 replicas, not 1"):
        higgsbench.blend(run, replicas=1)
    members, _ = load_contenders([str(run)])
    two = [replace(m, truth=replace(m.truth, fold=m.truth.fold % 2)) for m in members]
    with pytest.raises(ConfigError, match="needs at least 3 folds, not 2"):
        search_blend(two)


def test_the_command_shows_the_blend_first(make_run: MakeRun) -> None:
    run = make_run("a", NOISES)
    command = ["blend", "a", "--results", str(run.parent), "--replicas", "20", "--model", "one", "--model", "two"]
    shown = CliRunner().invoke(cli, command)
    assert shown.exit_code == 0, shown.output
    assert "Blend of 2 rows on 3,000 events" in shown.output
    assert "against the best member" in shown.output
    content = json.loads(CliRunner().invoke(cli, [*command, "--format", "json"]).stdout)
    assert (content["rows"][0]["row"], content["rows"][0]["gain_auc"]) == ("blend", None)
    assert content["rows"][1]["gain_auc_se"] > 0.0
    assert sum(content["methods"].values()) == 3
    refused = CliRunner().invoke(cli, ["blend", "a:one", "--results", str(run.parent)])
    assert isinstance(refused.exception, ConfigError)
