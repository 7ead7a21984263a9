"""Predict the time and the memory of a run; the time from a few short fits."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.ensemble import Truth, evaluate_row
from higgsbench.features import feature_matrix
from higgsbench.files import canonical_digest
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.models.spec import BAG, EARLY
from higgsbench.runs.pretrain import starts_to_train
from higgsbench.runs.store import RunStore
from higgsbench.runs.unit import make_estimator
from higgsbench.validation import fold_assignments

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.runs.plan import Plan, Row
    from higgsbench.runs.unit import Unit

_EVENTS, _SMALL_SHARE, _ROUNDS_SHARE, _MIN_SHARE = 4000, 0.25, 20, 0.5
_STOP_EVENTS, _STOP_RATE_ROUNDS, _STOP_GROWTH = 12_000, 6.0, 0.6
"""Early stopping at a learning rate of 0.03 ended after 150 to 200 rounds on 12,000 simulated events, 440 to 580 on
50,000: about 6 / rate rounds, growing with the 0.6th power of the events."""


def makespan(seconds: Sequence[float], workers: int, busy: Sequence[float] = ()) -> float:
    """Time until all fits are done when each worker takes the next as soon as it is free.

    Args:
        seconds: predicted seconds in the order of starting.
        workers: number of workers.
        busy: seconds for which workers are still occupied.
    """
    free = sorted(busy, reverse=True)[:workers]
    free += [0.0] * (workers - len(free))
    heapq.heapify(free)
    for duration in seconds:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


@dataclass(frozen=True)
class FitCost:
    """Seconds of one unit of a row, of one seed, linear in the events."""

    fixed: float  # of a submodel, whatever the number of events
    per_event: float  # for a training event
    predict: float  # for a scored event
    stopping: tuple[float, float] | None = None
    """Share of all rounds after which early stopping probably ends a fit of `_STOP_EVENTS` events, and share that it
    waits without improvement; None where all rounds are trained."""

    def seconds(self, train: float, scored: float, submodels: int = 1) -> float:
        """Predict one seed: `train` events to fit, `scored` to score, `submodels` of a jet split."""
        share = 1.0
        if self.stopping is not None:
            useful, waited = self.stopping
            share = min(1.0, useful * (train / submodels / _STOP_EVENTS) ** _STOP_GROWTH + waited)
        return share * (submodels * self.fixed + self.per_event * train + self.predict * scored)


class MeasuredCost:
    """The cost of a plan's rows on this machine, measured by short fits on a few thousand events.

    Each distinct model is fitted with a twentieth of its rounds (`ModelSpec.rounds`) at two sizes of sample and two
    numbers of rounds. Submodels per jet number and bags are not measured: they follow from the same constants.

    Args:
        plan: the rows.
        allowance: seconds after which no further model is measured; `ModelSpec.cost` scales the others.
    """

    def __init__(self, plan: Plan, allowance: float = float("inf")) -> None:
        begin = time.perf_counter()
        self.plan, y = plan, plan.dataset.y
        # Both classes in proportion, in the sample and in its small part.
        rng, share = np.random.default_rng(0), min(1.0, _EVENTS / y.size)
        classes = [rng.permutation(np.flatnonzero(y == label)) for label in (False, True)]
        self.sample = rng.permutation(np.concatenate([c[: max(2, round(share * c.size))] for c in classes]))
        self.y, self.frame = y[self.sample], plan.dataset.train.part(self.sample)
        classes = [np.flatnonzero(self.y == label) for label in (False, True)]
        self.small = np.sort(np.concatenate([c[: max(1, round(_SMALL_SHARE * c.size))] for c in classes]))
        measured: dict[str, FitCost] = {}
        keys = []
        for row in plan.rows:
            own = {name: value for name, value in row.params.items() if name != BAG}
            also = [row.features.digest, row.training_weights, row.robust.decorrelated is not None]
            keys.append(canonical_digest([row.spec.name, own, *also]))
        for index in sorted(range(len(keys)), key=lambda i: (plan.rows[i].spec.cost, i)):
            if keys[index] not in measured and time.perf_counter() - begin < allowance:
                with contextlib.suppress(Exception):  # the run itself reports what is wrong with the model
                    measured[keys[index]] = self._measured(index)
        known = [(row.spec.cost, measured[key]) for key, row in zip(keys, plan.rows, strict=True) if key in measured]
        self.rows = [measured.get(key) or _scaled(row, known) for key, row in zip(keys, plan.rows, strict=True)]
        self.assembly = self._assembly()
        """Seconds to evaluate one row, per event."""
        self.spent = time.perf_counter() - begin
        """Seconds that the measurement took."""

    def seconds(self, index: int, events: int | None = None) -> float:
        """Predict the mean unit of a row, per seed; with `events` training events instead of those of the data."""
        plan, dataset = self.plan, self.plan.dataset
        n = len(dataset.train)
        scale = 1.0 if events is None else events / n
        submodels = len(dataset.groups) if plan.rows[index].variant == "jets" else 1
        units, total = plan.units_of(index), 0.0
        for unit in units:
            test = len(dataset.test) if unit.test_matrix is not None and dataset.test is not None else 0
            held_out = 0.0 if unit.fold < 0 else n / dataset.folds
            train = _limited(scale * (n - held_out), plan.rows[index])
            total += self.rows[index].seconds(train, scale * (held_out + test), submodels=submodels)
        return total / len(units)

    def _measured(self, index: int) -> FitCost:
        """Time a model at two sizes and two numbers of rounds."""
        row, unit = self.plan.rows[index], dataclasses.replace(self.plan.units_of(index)[0], groups=None)
        X = feature_matrix(self.frame, row.features)
        small, large = self.small, np.arange(self.y.size)
        rounds = [name for name in row.spec.rounds if isinstance(row.params.get(name), int) and row.params[name] > 1]
        full = min((row.params[name] for name in rounds), default=1)
        few = max(1, full // _ROUNDS_SHARE)
        twice = min(full, 2 * few)

        def timed(events: NDArray[np.int64], number: int) -> tuple[float, float]:
            fewer = {name: max(1, row.params[name] * number // full) for name in rounds}
            params = {name: value for name, value in row.params.items() if name not in EARLY} | fewer | {BAG: 1}
            return self._fit(dataclasses.replace(unit, params=params), X, events)

        timed(small, few)  # imports and warms up
        at_small, _ = timed(small, twice)
        at_large, predict = timed(large, twice)
        per_round = at_large / twice
        if twice > few:  # not below half of the mean round: a difference of two short times is noisy
            per_round = max((at_large - timed(large, few)[0]) / (twice - few), _MIN_SHARE * per_round)
        setup = max(0.0, at_large - twice * per_round) / large.size
        per_round_small = max(0.0, at_small - setup * small.size) / twice
        # Neither is negative, even with noisy times.
        slope = (per_round - per_round_small) / (large.size - small.size) if large.size > small.size else 0.0
        slope = min(max(0.0, slope), per_round / large.size)
        fixed = per_round - slope * large.size
        patience, rate = row.params.get("early_stopping_rounds"), row.params.get("learning_rate", 0.1)
        stopping = None
        if isinstance(patience, int) and isinstance(rate, float):
            stopping = _STOP_RATE_ROUNDS / rate / full, patience / full
        return FitCost(full * fixed, full * slope + setup, predict / large.size * (full / twice), stopping)

    def _fit(self, unit: Unit, X: NDArray[np.float32], events: NDArray[np.int64]) -> tuple[float, float]:
        """Return the seconds of a fit on some events of the sample and of scoring them."""
        from threadpoolctl import threadpool_limits

        y = self.y[events]
        weight = evaluation_weights(y, self.plan.dataset.weight[self.sample[events]], *unit.totals)
        with threadpool_limits(limits=unit.threads):
            estimator: Any = make_estimator(unit, events.size)
            spectator = None if unit.decorrelate is None else X[events, 0]  # any column takes as long
            begin = time.perf_counter()
            estimator.fit(X[events], y.astype(np.int64), weight, spectator=spectator)
            fitted = time.perf_counter()
            estimator.decision_function(X[events])
        return fitted - begin, time.perf_counter() - fitted

    def _assembly(self) -> float:
        """Measure the seconds per event to evaluate one row: cuts, metrics, bootstrap."""
        dataset, config, y = self.plan.dataset, self.plan.config, self.y
        folds = min(dataset.folds, int(y.sum()), int((~y).sum()))
        if folds < 2:
            return 0.0
        weight = evaluation_weights(y, dataset.weight[self.sample], *dataset.totals)
        fold = fold_assignments(y, None, folds, 1, 0)
        truth = Truth(y, weight, fold, dataset.totals, config.cut.b_reg, config.cut.rule)
        score = np.random.default_rng(0).normal(size=y.size) + 2.0 * y
        begin = time.perf_counter()
        evaluate_row(score[None, :], truth)
        return float((time.perf_counter() - begin) / y.size * len(config.seeds))


def _scaled(row: Row, known: Sequence[tuple[float, FitCost]]) -> FitCost:
    """Scale a model that was not measured by `ModelSpec.cost`; if none was measured, guess."""
    scaled = [
        [number * row.spec.cost / relative for number in (cost.fixed, cost.per_event, cost.predict)]
        for relative, cost in known or [(1.0, FitCost(0.1, 1e-4, 1e-6))]
    ]
    fixed, per_event, predict = np.median(scaled, axis=0).tolist()
    return FitCost(fixed, per_event, predict)


PARENT, WORKER = 300e6, 260e6
"""Bytes of a process that has imported everything and holds no events (results/reference/memory.md)."""

_PER_EVENT, _PER_SCORE = 300.0, 24.0
"""Bytes of the main process, per event: number, label, weight, subset, group, fold and what they are made from; and per
event, repeat and row: the score, and copies while rows are written."""

_DISK_PER_EVENT, _DISK_BLOCK = 80.0, 8e6
"""Training from disk: bytes per event for labels, weights, gradients and positions; bytes per column for the blocks of
rows on their way from the matrix to the library, and its sample for the bins."""


@dataclass(frozen=True)
class MemoryNeed:
    """Predicted peak of the processes of a run, in bytes."""

    main: float  # the process that plans and collects
    unit: tuple[float, ...]  # a process that fits a unit, for each row
    processes: int  # how many of them there are at a time; 1 fits in the main process, 0 where others fit

    def of(self, row: int) -> float:
        """All processes together while every one of them fits the row."""
        if self.processes == 1:
            return self.main + self.unit[row] - WORKER
        return self.main + self.processes * self.unit[row]

    @property
    def total(self) -> float:
        """The most that the processes need together."""
        return max(self.of(row) for row in range(len(self.unit)))


def memory_need(plan: Plan, jobs: int, events: int | None = None) -> MemoryNeed:
    """Predict the memory of a run with `jobs` processes on this machine, for the given number of training events."""
    dataset, config = plan.dataset, plan.config
    n = len(dataset.train) if events is None else events
    test = (0 if dataset.test is None else len(dataset.test)) * n / len(dataset.train)
    rows = len(plan.rows) + 1
    beside = max(row.beside for row in plan.rows)  # the main process makes these once for all rows
    main = PARENT + _PER_EVENT * (n + test + beside) + _PER_SCORE * rows * (n * len(config.seeds) + test)
    train = n if config.test_prediction == "refit" else n - n // dataset.folds
    # A worker holds the scores that it sends back, and copies of labels and weights.
    unit = tuple(
        WORKER
        + 60.0 * (n + row.beside)
        + 16.0 * test
        + 4.0 * row.beside * len(row.features.columns)  # as they are stored, besides the copies of a fit
        + _fit_bytes(row, int(_limited(train, row)))
        for row in plan.rows
    )
    return MemoryNeed(main, unit, min(jobs, len(plan.units)))


def _limited(events: float, row: Row) -> float:
    """Return the training events of a fit, up to the limit of the row, with their copies and any simulated ones."""
    own = events if row.training_events is None else min(events, row.training_events[0])
    return own * (1 + len(row.robust.shifts)) + row.beside


def _fit_bytes(row: Row, events: int) -> float:
    """Bytes of one fit besides what the process holds anyway."""
    columns = len(row.features.columns) + (0 if row.spec.missing else sum(row.features.categories))
    if row.from_disk:
        values = row.spec.disk_bytes * events * columns
        return _DISK_PER_EVENT * events + _DISK_BLOCK * columns + values
    spec = row.spec
    copies = spec.memory(row.params, events, columns) if callable(spec.memory) else spec.memory
    return copies * 4.0 * events * columns


@dataclass(frozen=True)
class RowForecast:
    """Prediction for one row."""

    name: str
    units: int  # number of its fits
    stored: int  # how many of them are already there
    bag: int  # seeds per fit
    seconds: float  # predicted seconds of one fit
    total: float  # predicted seconds of those that are not stored, on one core


@dataclass(frozen=True)
class Forecast:
    """Prediction for a run."""

    rows: tuple[RowForecast, ...]  # in the order of the configuration
    events: int  # number of training events
    seconds: float  # predicted wall time
    memory_mb: float  # predicted peak memory of all processes together, in MB
    calibration_seconds: float  # how long the measurement took
    pretraining: tuple[tuple[str, int], ...] = ()  # rows first trained on simulated events, and how many; not predicted


def summed(name: str, rows: Sequence[RowForecast]) -> RowForecast:
    """Add up what is predicted for several rows."""
    units, total = sum(row.units for row in rows), sum(row.total for row in rows)
    mean = sum(row.units * row.seconds for row in rows) / units
    return RowForecast(name, units, sum(row.stored for row in rows), 1, mean, total)


def forecast(plan: Plan, known: Collection[str], jobs: int, events: int | None = None) -> Forecast:
    """Predict a run from a few short fits; nothing is stored.

    Args:
        plan: rows and units.
        known: keys of units that are stored and cost nothing.
        jobs: number of worker processes.
        events: number of training events to predict for; those of the data by default. With another number nothing
            counts as stored, and held-out events grow in proportion.
    """
    cost = MeasuredCost(plan)
    known = known if events is None else ()
    rows, fits = [], []
    for index, row in enumerate(plan.rows):
        units = plan.units_of(index)
        seconds = cost.seconds(index, events) * bag_size(row)
        stored = sum(unit.key in known for unit in units)
        left = [seconds] * (len(units) - stored)
        rows.append(RowForecast(row.name, len(units), stored, bag_size(row), seconds, sum(left)))
        fits += left
    n = len(plan.dataset.train) if events is None else events
    wall = makespan(sorted(fits, reverse=True), jobs) + cost.assembly * n * (len(rows) + 2)
    first = starts_to_train(unit for unit in plan.units if unit.key not in known)
    pretraining = tuple((plan.rows[start.unit.row].name, start.events) for start in first)
    return Forecast(tuple(rows), n, wall, memory_need(plan, jobs, n).total / 1e6, cost.spent, pretraining)


def stored_keys(*outputs: Path) -> set[str]:
    """Return the keys of all finished units in folders of runs."""
    folders = [folder for output in outputs if output.is_dir() for folder in output.iterdir() if folder.is_dir()]
    return set().union(*(RunStore(folder).keys() for folder in folders))


def bag_size(row: Row) -> int:
    """Return how many seeds each fit of a row averages."""
    return int(row.params.get(BAG, 1))
