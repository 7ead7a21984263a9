"""Time limits: arithmetic on predictions, the hand-out of units, whole runs with models that sleep."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

import higgsbench
from higgsbench.config.document import format_duration, format_size, parse_duration, parse_size
from higgsbench.errors import ConfigError
from higgsbench.models import get_model
from higgsbench.runs.budget import RowNeed, TimeBudget, fit_to_limit
from higgsbench.runs.cost import FitCost, makespan
from higgsbench.runs.unit import Unit

from .conftest import Config, Register


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        *((parse_duration, "90", 90), (parse_duration, "90s", 90), (parse_duration, "30m", 1800)),
        *((parse_duration, "30 min", 1800), (parse_duration, "2h", 7200), (parse_duration, "1.5H", 5400)),
        *((parse_size, "4GB", 4e9), (parse_size, "500 mb", 5e8), (parse_size, "1.5GiB", 3 << 29)),
        *((parse_size, "123", 123), (parse_size, "0.5 tb", 5e11)),
    ],
)
def test_durations_and_sizes_are_read(read: Callable[[str], float], text: str, value: float) -> None:
    assert read(text) == value


NO_DURATION = r"is not a duration; write 90, 90s, 30m or 2h"
NO_SIZE = r"is not an amount of memory; write 500MB, 4GB or 1\.5GiB"


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        *((parse_duration, text, NO_DURATION) for text in ("", "m", "-5", "0", "0s", "5 weeks", "1e3", "nan", "5m3")),
        *((parse_size, text, NO_SIZE) for text in ("", "GB", "-1GB", "0", "0.1", "4 apples", "1e9", "9" * 99, "nan")),
    ],
)
def test_what_is_no_duration_or_size_is_refused(read: Callable[[str], float], text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(text)


DURATIONS = {0.04: "0.0 s", 9.96: "10 s", 59.4: "59 s", 59.6: "1 min", 3599.6: "1 h", 24_000: "6 h 40 min"}
SIZES = {1: "1 bytes", 1e3: "1.0 kB", 2.5e6: "2.5 MB", 8.12e8: "812 MB", 4e9: "4.00 GB", 12.34e9: "12.3 GB"}


def test_durations_and_sizes_are_written() -> None:
    assert {value: format_duration(value) for value in DURATIONS} == DURATIONS
    assert {value: format_size(value) for value in SIZES} == SIZES


@given(st.lists(st.floats(0.0, 100.0), max_size=12), st.integers(1, 4), st.lists(st.floats(0.0, 50.0), max_size=3))
def test_makespan_against_its_bounds(seconds: list[float], workers: int, busy: list[float]) -> None:
    busy = busy[:workers]
    found = makespan(seconds, workers, busy)
    mean = (sum(seconds) + sum(busy)) / workers
    longest = max([*seconds, *busy], default=0.0)
    assert max(mean, longest) - 1e-9 <= found <= mean + longest + 1e-9
    if workers == 1:
        assert found == pytest.approx(sum(seconds) + sum(busy))


def need(name: str, seconds: float, value: float = 1.0, bag: int = 1, units: int = 5) -> RowNeed:
    return RowNeed(name, name, value, lambda _: units, seconds, bag)


FITS: dict[str, tuple[list[RowNeed], float, list[int], dict[str, int]]] = {
    "everything fits": ([need("a", 1.0, bag=4), need("b", 2.0)], 30.0, [1, 0], {"a": 4}),
    "bags go first": ([need("a", 1.0, bag=8), need("b", 2.0)], 30.0, [1, 0], {"a": 4}),
    "then rows of the least worth per second": (
        [need("cheap", 0.1, 0.5), need("dear", 10.0), need("good", 2.0)], 20.0, [0, 2], {},
    ),
    "room is given back": ([need("a", 1.0, bag=8), need("dear", 100.0)], 45.0, [0], {"a": 8}),
    "rows without room keep all seeds": (
        [need("a", 1.0, bag=4), need("b", 1.0, 0.1, bag=4)], 6.0, [0], {"a": 1, "b": 4},
    ),
    "stored rows cost nothing": ([need("a", 100.0, units=0), need("b", 1.0)], 1.0, [0], {}),
}  # fmt: skip


class TestFitting:
    @pytest.mark.parametrize("case", FITS)
    def test_what_fits(self, case: str) -> None:
        rows, limit, kept, bags = FITS[case]
        choice = fit_to_limit(rows, limit, 1, 0.0)
        assert choice.kept == kept
        assert sorted(choice.left_out + kept) == list(range(len(rows)))
        assert bags.items() <= choice.bags.items()

    @given(
        st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.1, 1), st.integers(1, 8)), min_size=1, max_size=6),
        st.floats(0.1, 200),
        st.integers(1, 3),
    )
    def test_the_limit_is_kept_and_every_row_accounted_for(
        self, rows: list[tuple[float, float, int]], limit: float, workers: int
    ) -> None:
        needs = [need(f"r{i}", seconds, value, bag) for i, (seconds, value, bag) in enumerate(rows)]
        choice = fit_to_limit(needs, limit, workers, 0.05)
        assert sorted([*choice.kept, *choice.left_out]) == list(range(len(needs)))
        assert not choice.kept or choice.seconds <= limit
        assert all(1 <= choice.bags[n.label] <= n.bag for n in needs)
        for index in choice.left_out:  # none of them would have fitted besides
            alone = [choice.bags[needs[i].label] * needs[i].seconds for i in [*choice.kept, index] for _ in range(5)]
            assert sum(alone) / workers + 0.05 * (len(choice.kept) + 1) + max(alone) > limit


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def units(rows: int, folds: int = 3) -> list[Unit]:
    base = Unit("", "", 0, 0, 0, 0, get_model("logistic"), {}, (), "X", None, None, "none", None, (1.0, 1.0), 1)
    return [dataclasses.replace(base, key=f"{r}-{k}", row=r, fold=k) for r in range(rows) for k in range(folds)]


class TestHandOut:
    def budget(self, limit: float, predicted: dict[int, float], workers: int = 1) -> TimeBudget:
        found = TimeBudget(limit, 0.0, list(predicted), predicted, 0.0, workers, Clock())
        found.plan(units(len(predicted)))
        return found

    def carried_out(
        self, budget: TimeBudget, true: dict[int, float], failing: frozenset[int] = frozenset()
    ) -> tuple[list[str], float]:
        """Run units one after the other, each as long as it truly takes; return their order and the time."""
        order, clock = [], cast("Clock", budget.clock)
        while (unit := budget.next_unit()) is not None:
            clock.now += true[unit.row]
            order.append(unit.key)
            budget.finished(unit, true[unit.row], unit.row in failing)
        return order, clock.now

    def test_row_by_row_in_order(self) -> None:
        order, _ = self.carried_out(self.budget(100.0, {1: 1.0, 0: 1.0}), {0: 1.0, 1: 1.0})
        assert order == ["1-0", "1-1", "1-2", "0-0", "0-1", "0-2"]

    def test_a_row_that_does_not_fit_is_passed_over_for_one_that_does(self) -> None:
        budget = self.budget(10.0, {0: 2.0, 1: 5.0, 2: 1.0})
        order, now = self.carried_out(budget, {0: 2.0, 1: 5.0, 2: 1.0})
        assert ({key[0] for key in order}, now) == ({"0", "2"}, 9.0)
        assert [row for row, progress in budget.rows.items() if progress.pending] == [1]

    def test_slow_fits_shed_what_has_not_begun(self) -> None:
        order, now = self.carried_out(self.budget(10.0, {0: 1.0, 1: 1.0, 2: 1.0}), {0: 2.0, 1: 2.0, 2: 2.0})
        assert ({key[0] for key in order}, now) == ({"0"}, 6.0)  # the second row would have ended at 12

    def test_a_row_that_turns_out_too_slow_is_given_up_whole(self) -> None:
        budget = self.budget(10.0, {0: 1.0, 1: 1.0})
        assert self.carried_out(budget, {0: 9.0, 1: 0.1})[0] == ["0-0"]
        assert "given up after 1 fit: 9.0 s each instead of the predicted 1.0 s" in budget.given_up[0]

    def test_a_failing_row_is_tried_to_its_end(self) -> None:
        budget = self.budget(100.0, {0: 1.0, 1: 1.0})
        assert len(self.carried_out(budget, {0: 1.0, 1: 1.0}, frozenset({0}))[0]) == 6

    def test_two_workers_have_twice_the_room(self) -> None:
        budget = self.budget(6.5, {0: 2.0, 1: 2.0}, workers=2)
        assert all(budget.next_unit() for _ in range(6))

    @given(
        st.dictionaries(st.integers(0, 5), st.tuples(st.floats(0.1, 5), st.floats(0.3, 3)), min_size=1),
        st.floats(1.0, 60.0),
    )
    def test_the_overrun_is_at_most_one_fit(self, rows: dict[int, tuple[float, float]], limit: float) -> None:
        predicted = {i: seconds for i, (seconds, _) in enumerate(rows.values())}
        true = {i: seconds * factor for i, (seconds, factor) in enumerate(rows.values())}
        _, now = self.carried_out(self.budget(limit, predicted), true)
        assert now <= limit * 1.05 + max(true.values()) + 1e-9


class Sleeper(BaseEstimator):  # type: ignore[misc]
    """A classifier that takes its time, on a clock that nothing else moves.

    A sly one does so from the fourth fit on: a calibration makes three.
    """

    clock = Clock()
    fits = 0

    def __init__(self, seconds: float = 0.0, sly: bool = False) -> None:
        self.seconds, self.sly = seconds, sly

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Sleeper:
        Sleeper.fits += self.sly
        if not self.sly or Sleeper.fits > 3:
            self.clock.now += self.seconds
        self.mean = np.nanmean(X[y == 1], axis=0)
        return self

    def decision_function(self, X: Any) -> Any:
        return -np.nan_to_num(np.abs(X - self.mean)).mean(axis=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(Sleeper, "clock", found)
    monkeypatch.setattr(Sleeper, "fits", 0)
    monkeypatch.setattr(time, "monotonic", found)
    monkeypatch.setattr(time, "perf_counter", found)
    return found


@pytest.fixture
def sleepers(registered: Register) -> None:
    for name, cost in (("quicker", 1.0), ("slower", 10.0), ("deceiver", 1.0)):
        registered(name, lambda params, context: Sleeper(**params), missing=True, cost=cost, rounds=("none",))


SLEEP = """
data: {{path: {data}}}
models:
  - {{model: quicker, params: {{seconds: 1.0}}}}
  - {{model: slower, params: {{seconds: 10.0}}}}
folds: 3
"""


@pytest.mark.usefixtures("sleepers")
class TestRuns:
    def test_rows_are_whole_or_left_out_and_said(self, config: Config, tmp_path: Path, clock: Clock) -> None:
        path = config(SLEEP)
        result = higgsbench.run(path, output=tmp_path / "out", jobs=1, time_limit="30s")
        assert clock.now <= 30
        assert [row["name"] for row in result.rows] == ["quicker"]
        (left_out,) = result.left_out
        assert left_out.name == "slower"
        assert left_out.predicted_seconds == pytest.approx(30.0)
        stored = json.loads((result.folder / "rows.json").read_text())["left_out"]
        assert [row["name"] for row in stored] == ["slower"]
        assert any(
            "a time limit left out slower" in note for note in higgsbench.Leaderboard.read(tmp_path / "out").notes
        )
        # The same without a limit adds what was left out, and changes nothing of what was there.
        before = pl.read_parquet(result.folder / "scores.parquet")
        whole = higgsbench.run(path, output=tmp_path / "out", jobs=1)
        assert (whole.folder, whole.reused, whole.trained, whole.left_out) == (result.folder, 3, 3, [])
        assert before.equals(pl.read_parquet(whole.folder / "scores.parquet").select(before.columns))
        assert not json.loads((whole.folder / "rows.json").read_text())["left_out"]

    @pytest.mark.usefixtures("clock")
    def test_a_smaller_bag_shows_in_the_parameters(self, config: Config, tmp_path: Path) -> None:
        options = ["models.quicker.params.bag=8"]
        run: dict[str, Any] = {"output": tmp_path, "jobs": 1, "only": ["quicker"]}
        result = higgsbench.run(config(SLEEP), time_limit=18, settings=options, **run)
        (row,) = result.rows
        assert row["params"]["bag"] == 4, "8 seeds of 3 folds are 24 s"
        again = higgsbench.run(config(SLEEP), settings=["models.quicker.params.bag=4"], **run)
        assert (again.folder, again.trained) == (result.folder, 0)

    def test_slower_than_predicted(self, config: Config, tmp_path: Path, clock: Clock) -> None:
        """A row whose fits take longer than its `cost` said is given up, not finished late or in part."""
        path = config(SLEEP.replace("slower", "deceiver"))
        result = higgsbench.run(path, output=tmp_path / "out", jobs=1, time_limit=20)
        assert clock.now <= 20 * 1.1
        assert [row["name"] for row in result.rows] == ["quicker"]
        assert [row.name for row in result.left_out] == ["deceiver"]
        assert result.left_out[0].reason == "given up after 1 fit: 10 s each instead of the predicted 1.0 s"

    def test_no_row_is_complete_in_time(self, config: Config, tmp_path: Path, clock: Clock) -> None:
        path = config(SLEEP.replace("seconds: 10.0", "seconds: 10.0, sly: true"))
        with pytest.raises(ConfigError, match="no row was complete in time: slower: given up after 1 fit: 10 s each"):
            higgsbench.run(path, output=tmp_path / "out", jobs=1, time_limit=20, only=["slower"])
        assert clock.now <= 20 * 1.1

    @pytest.mark.usefixtures("clock")
    def test_no_row_fits(self, config: Config, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="not even one row fits; the cheapest, quicker, is predicted to take 3"):
            higgsbench.run(config(SLEEP), output=tmp_path / "out", jobs=1, time_limit=2)
        assert not (tmp_path / "out").exists()


def test_early_stopping_is_predicted_to_end_early() -> None:
    """Rounds grow with the 0.6th power of the events until all are trained."""
    every = FitCost(0.0, 1.0, 0.0)
    stopped = dataclasses.replace(every, stopping=(0.05, 0.01))
    assert stopped.seconds(12_000, 0) == pytest.approx(0.06 * every.seconds(12_000, 0))
    assert stopped.seconds(384_000, 0) == pytest.approx((0.05 * 8 + 0.01) * every.seconds(384_000, 0))
    assert stopped.seconds(1e9, 0) == every.seconds(1e9, 0)
    assert stopped.seconds(24_000, 0, submodels=2) == pytest.approx(0.06 * every.seconds(24_000, 0))
