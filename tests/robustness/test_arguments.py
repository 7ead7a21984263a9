"""The Python interface names the argument at fault, whatever its value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import higgsbench
from higgsbench.errors import HiggsbenchError


def untyped(value: Any) -> Any:
    """Return a value that the type checker cannot see to be wrong."""
    return value


NOT = untyped(object())

CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "config": (
        lambda here: higgsbench.run(NOT),
        r"^run: config: expected a YAML file or a mapping, got .* \(a object\)$",
    ),
    "nothing": (lambda here: higgsbench.run(untyped(None)), r"^run: config: expected .* got 'None' \(nothing\)$"),
    "jobs": (
        lambda here: higgsbench.run("c.yaml", jobs=0),
        r"^run: jobs: expected a whole number of at least 1, got '0'",
    ),
    "jobs as text": (lambda here: higgsbench.run("c.yaml", jobs=untyped("2")), r"^run: jobs: .* got '2' \(a str\)$"),
    "one name": (
        lambda here: higgsbench.run("c.yaml", only="lightgbm"),
        r"^run: only: expected a list of names, got 'lightgbm' \(a str\); write \['lightgbm'\]$",
    ),
    "time": (lambda here: higgsbench.run("c.yaml", time_limit=float("nan")), r"^run: time_limit: expected seconds"),
    "output": (lambda here: higgsbench.run("c.yaml", output=NOT), r"^run: output: expected a path"),
    "a run": (
        lambda here: higgsbench.predict(NOT, "test.csv"),
        r"^predict: run: expected a run's folder or what `run`",
    ),
    "data": (lambda here: higgsbench.predict("run", NOT), r"^predict: data: expected a path"),
    "subsets": (
        lambda here: higgsbench.submission("run", "test.csv", subsets="b"),
        r"^submission: subsets: .* \['b'\]$",
    ),
    "truth": (
        lambda here: higgsbench.score("submission.csv", NOT),
        r"^score: truth: expected labelled events or their",
    ),
    "totals": (
        lambda here: higgsbench.score("submission.csv", "truth.csv", totals=untyped((1.0,))),
        r"^score: totals: expected two numbers \(N_s, N_b\)",
    ),
    "sigma": (
        lambda here: higgsbench.stats("run", sigma_b=untyped("x")),
        r"^stats: sigma_b: expected a number or a list",
    ),
    "switch": (
        lambda here: higgsbench.stats("run", fit=untyped("yes")),
        r"^stats: fit: expected True or False, got 'yes'",
    ),
    "runs": (lambda here: higgsbench.compare_models("run", NOT), r"^compare_models: run: expected a run's folder"),
    "results": (lambda here: higgsbench.Leaderboard.read(NOT), r"^results: expected a folder, got"),
    "events": (lambda here: higgsbench.load_events(NOT), r"^path: expected the name of a file, got"),
    "labels": (lambda here: higgsbench.ams_scan(["s", "b"], [1.0, 2.0], [1.0, 1.0]), r"^y_true must hold only 0 and 1"),
    "scores": (lambda here: higgsbench.ams_scan([0, 1], ["a", "b"], [1.0, 1.0]), r"^score must hold numbers"),
    "signal": (lambda here: higgsbench.ams("many", 1.0), r"^s must hold numbers in one array"),
    "name": (lambda here: higgsbench.ModelSpec(name=NOT, build=print), r"^model name .*: use letters, digits"),
    "build": (lambda here: higgsbench.ModelSpec(name="a", build=NOT), r"^model a: build must be a function"),
}


@pytest.mark.parametrize(("call", "message"), CASES.values(), ids=CASES)
def test_arguments_of_the_wrong_kind(call: Callable[[Path], object], message: str, here: Path) -> None:
    with pytest.raises(HiggsbenchError, match=message):
        call(here)


def test_an_unknown_argument_stays_pythons_own_error(here: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'job'"):
        higgsbench.run("c.yaml", **untyped({"job": 2}))
