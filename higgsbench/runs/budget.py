"""Keep a run within its limits of time and memory: which rows fit, with how many seeds, and in which order."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from higgsbench.config.document import format_duration, format_size, parse_size
from higgsbench.config.load import LoadedConfig
from higgsbench.errors import ConfigError, TimeLimitError
from higgsbench.models.spec import BAG
from higgsbench.runs.cost import MeasuredCost, MemoryNeed, bag_size, makespan, memory_need
from higgsbench.runs.environment import available_memory
from higgsbench.runs.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Collection

    from higgsbench.runs.plan import Plan
    from higgsbench.runs.unit import Unit

SHARE = 0.8  # share of the available memory that a run takes where the configuration gives no limit
_JETS_WORTH = 0.8  # worth of a row split by jet number if the run also has the same model's global row
_TOLERANCE = 0.05  # a row in progress may overrun the limit by this share of it; a new one may not
_CALIBRATION_SHARE, _CALIBRATION_SECONDS = 0.05, 10.0
_WORKER_START = 3.0  # seconds until worker processes have imported the libraries


@dataclass(frozen=True)
class RowNeed:
    """What a row needs."""

    name: str
    label: str  # the entry it belongs to; rows of one entry share the size of the bag
    value: float  # what it is worth relative to the other rows
    units: Callable[[int], int]  # number of fits that are not stored yet, by size of the bag
    seconds: float  # predicted seconds of one fit per seed
    bag: int = 1  # configured number of seeds

    def total(self, bag: int) -> float:
        """Predicted seconds of all its fits with `bag` seeds."""
        return self.units(bag) * bag * self.seconds


@dataclass
class Choice:
    """What is planned: rows by their positions, those worth most per second first."""

    bags: dict[str, int]  # size of the bag per label
    kept: list[int]
    left_out: list[int]
    seconds: float  # predicted time of the kept rows


def fit_to_limit(needs: Sequence[RowNeed], limit: float, workers: int, per_row: float) -> Choice:
    """Choose seeds and rows such that the predicted time is within the limit.

    First bags are halved, the most expensive first, down to single seeds; then rows are left out, those worth least per
    second first. The time this frees is given back: to rows that fit after all, then to bags.

    Args:
        needs: the rows.
        limit: seconds for all of them.
        workers: number of workers.
        per_row: seconds beside the fits that each row costs.
    """
    bags = {need.label: need.bag for need in needs}
    kept = set(range(len(needs)))

    def by_worth(rows: Iterable[int]) -> list[int]:
        """Sort by worth per second; infinite where nothing is left to do."""
        totals = {i: needs[i].total(bags[needs[i].label]) for i in rows}
        return sorted(totals, key=lambda i: (-needs[i].value / totals[i] if totals[i] > 0.0 else -math.inf, i))

    def predicted(rows: Iterable[int]) -> float:
        counts = [(needs[i], bags[needs[i].label]) for i in by_worth(rows)]
        fits = [size * need.seconds for need, size in counts for _ in range(need.units(size))]
        return makespan(fits, workers) + per_row * len(counts)

    while predicted(kept) > limit and (large := [label for label, size in bags.items() if size > 1]):
        costs = {label: sum(n.total(bags[label]) for n in needs if n.label == label) for label in large}
        bags[max(large, key=costs.__getitem__)] //= 2
    while kept and predicted(kept) > limit:
        kept.remove(by_worth(kept)[-1])
    for index in by_worth(set(range(len(needs))) - kept):
        if predicted(kept | {index}) <= limit:
            kept.add(index)
    for index in by_worth(kept):
        need, least = needs[index], bags[needs[index].label]
        bags[need.label] = need.bag
        while bags[need.label] > least and predicted(kept) > limit:
            bags[need.label] = max(least, bags[need.label] // 2)
    # Rows that do not fit keep all seeds, in case there is time for them.
    with_room = {needs[index].label for index in kept}
    bags |= {need.label: need.bag for need in needs if need.label not in with_room}
    order = by_worth(range(len(needs)))
    return Choice(bags, [i for i in order if i in kept], [i for i in order if i not in kept], predicted(kept))


@dataclass(frozen=True)
class LeftOut:
    """A row that did not fit into a time limit."""

    name: str
    reason: str
    predicted_seconds: float  # of its fits, on one core


@dataclass
class _Progress:
    """Fits of one row."""

    predicted: float
    pending: list[Unit]
    begun: bool = False
    measured: list[float] = field(default_factory=list)


@dataclass
class TimeBudget:
    """Hands out the units of a run row by row, as long as they fit into what is left of the time.

    The rows come in the order given, those worth most per second first. A prediction is corrected by the finished fits
    of the row itself, or of all rows until it has one. A row is started only if all of it is predicted to end in time;
    one that turns out to be slower is given up.
    """

    limit: float  # seconds
    begin: float  # when the limit began, on `clock`
    order: Sequence[int]  # positions of the rows in the plan
    seconds: Mapping[int, float]  # predicted seconds of one fit of each row
    per_row: float  # predicted seconds beside the fits that each row costs
    workers: int
    clock: Callable[[], float] = lambda: time.monotonic()
    rows: dict[int, _Progress] = field(default_factory=dict, init=False)
    running: dict[str, tuple[Unit, float]] = field(default_factory=dict, init=False)
    given_up: dict[int, str] = field(default_factory=dict, init=False)
    assembled: list[float] = field(default_factory=list, init=False)  # seconds that the evaluation of each row took

    def plan(self, pending: Sequence[Unit]) -> None:
        """Take the units that are not stored yet."""
        by_row = {i: [unit for unit in reversed(pending) if unit.row == i] for i in self.order}
        self.rows = {i: _Progress(self.seconds[i], units) for i, units in by_row.items() if units}

    def next_unit(self) -> Unit | None:
        """Return the unit to start now; None if none fits or all are under way."""
        for index, row in self.rows.items():
            if row.begun and row.pending and index not in self.given_up:
                if row.measured and self._end([]) > self.limit * (1.0 + _TOLERANCE):
                    fits = "1 fit" if len(row.measured) == 1 else f"{len(row.measured)} fits"
                    self.given_up[index] = (
                        f"given up after {fits}: {format_duration(self._predicted(index))} each "
                        f"instead of the predicted {format_duration(row.predicted)}"
                    )
                    continue
                return self._start(index)
        for index, row in self.rows.items():
            if not row.begun and self._end([self._predicted(index)] * len(row.pending), 1) <= self.limit:
                row.begun = True
                return self._start(index)
        return None

    def finished(self, unit: Unit, seconds: float, failed: bool) -> None:
        """Record how long a unit took; the rest of a row that failed is still tried, as without a limit."""
        self.running.pop(unit.key, None)
        if not failed:
            self.rows[unit.row].measured.append(seconds)

    def left_out(self, plan: Plan) -> list[LeftOut]:
        """Return the rows that ran out of time, in the order in which they would have come."""
        out = []
        for index, row in self.rows.items():
            if row.pending:
                total = row.predicted * len(row.pending)
                reason = self.given_up.get(index, f"predicted {format_duration(total)}, which no longer fits")
                out.append(LeftOut(plan.rows[index].name, reason, total))
        return out

    @property
    def left(self) -> float:
        """Seconds until the limit; not negative."""
        return max(0.0, self.limit - (self.clock() - self.begin))

    def _start(self, index: int) -> Unit:
        unit = self.rows[index].pending.pop()
        self.running[unit.key] = (unit, self.clock())
        return unit

    def _predicted(self, index: int) -> float:
        """Seconds of one fit of a row, corrected by what was measured."""
        row = self.rows[index]
        if row.measured:
            return sum(row.measured) / len(row.measured)
        measured = sum(sum(other.measured) for other in self.rows.values())
        predicted = sum(len(other.measured) * other.predicted for other in self.rows.values())
        # Never below the prediction: this row need not be faster because others were.
        return row.predicted * max(1.0, measured / predicted if predicted > 0.0 else 1.0)

    def _end(self, more: Sequence[float], rows: int = 0) -> float:
        """Seconds from the beginning until all running fits and `more` fits of new rows are finished."""
        now = self.clock()
        busy = [max(0.0, self._predicted(u.row) - (now - since)) for u, since in self.running.values()]
        begun = [(i, row) for i, row in self.rows.items() if row.begun and i not in self.given_up]
        fits = [self._predicted(i) for i, row in begun for _ in row.pending]
        open_rows = rows + sum(
            1 for i, row in begun if row.pending or any(u.row == i for u, _ in self.running.values())
        )
        per_row = max(self.assembled, default=self.per_row)
        # With one process, rows are evaluated between fits; with more, in parallel with them except for the last row.
        # The blend of all rows at the end costs about as much as two.
        evaluation = per_row * (2 + (open_rows if self.workers == 1 else min(open_rows, 1)))
        return now - self.begin + makespan([*fits, *more], self.workers, busy) + evaluation


def within_limit(
    loaded: LoadedConfig, plan: Plan, known: Collection[str], jobs: int, limit: float, begin: float
) -> tuple[LoadedConfig, Plan, TimeBudget, list[str]]:
    """Cut a run down to a time limit in seconds, which began at `begin` (`time.monotonic`).

    Returns the configuration and the plan with bags that fit, the budget, and notes for the user. Units whose keys are
    `known` are stored already and cost nothing.

    Raises:
        TimeLimitError: if not even one row fits.
    """
    cost = MeasuredCost(plan, min(_CALIBRATION_SECONDS, _CALIBRATION_SHARE * limit))
    needs = [_need(plan, i, cost, known) for i in range(len(plan.rows))]
    per_row = cost.assembly * len(plan.dataset.train)
    left = limit - (time.monotonic() - begin) - 2 * per_row - (_WORKER_START if jobs > 1 else 0.0)
    choice = fit_to_limit(needs, left, jobs, per_row)
    if not choice.kept:
        first = min(needs, key=lambda need: need.total(1))
        raise TimeLimitError(
            f"--time-limit {format_duration(limit)}: not even one row fits; the cheapest, {first.name}, is predicted "
            f"to take {format_duration(first.total(1))} besides {format_duration(limit - left)} for everything else"
        )
    cut = {need.label: need.bag for need in needs if choice.bags[need.label] < need.bag}
    notes = [f"{label}: a bag of {choice.bags[label]} instead of {bag}" for label, bag in cut.items()]
    if cut:
        models = [
            entry.model_copy(update={"params": {**entry.params, BAG: choice.bags[entry.row_label]}})
            if entry.row_label in cut
            else entry
            for entry in loaded.config.models
        ]
        loaded = LoadedConfig(loaded.config.model_copy(update={"models": models}), loaded.document)
        plan = make_plan(loaded, plan.dataset)
    seconds = {i: need.seconds * choice.bags[need.label] for i, need in enumerate(needs)}
    budget = TimeBudget(limit, begin, [*choice.kept, *choice.left_out], seconds, per_row, jobs)
    out = f", no room for {', '.join(needs[i].name for i in choice.left_out)}" if choice.left_out else ""
    what = f"time limit {format_duration(limit)}: {len(choice.kept)} of {len(needs)} rows are predicted to fit"
    return loaded, plan, budget, [f"{what} (fits {format_duration(choice.seconds)}){out}", *notes]


def _need(plan: Plan, index: int, cost: MeasuredCost, known: Collection[str]) -> RowNeed:
    row, units = plan.rows[index], plan.units_of(index)
    pending = sum(unit.key not in known for unit in units)
    twin = any(other.label == row.label and other.variant == "global" for other in plan.rows)
    worth = row.spec.merit * (_JETS_WORTH if row.variant == "jets" and twin else 1.0)
    full = bag_size(row)
    # Stored fits have the full bag.
    return RowNeed(
        row.name, row.label, worth, lambda bag: pending if bag == full else len(units), cost.seconds(index), full
    )


def fit_to_memory(loaded: LoadedConfig, plan: Plan, jobs: int, known: Collection[str] = ()) -> tuple[Plan, list[str]]:
    """Let rows that do not fit into memory train from disk; call this before anything is trained.

    A row trains from disk if one process that fits it needs more than the limit. How many processes there are does not
    decide it: scores must not depend on that. A row whose units are all `known`, because they are stored, needs none.
    Returns the plan, and notes for the user.

    Raises:
        ConfigError: with the numbers, if a row fits neither way.
    """
    given = loaded.config.memory_limit
    limit = parse_size(given) if given else int(SHARE * available_memory())
    need = memory_need(plan, min(jobs, 1))
    waiting = [i for i in range(len(plan.rows)) if any(u.key not in known for u in plan.units_of(i))]
    disk = dataclasses.replace(plan, rows=tuple(dataclasses.replace(row, from_disk=True) for row in plan.rows))
    less = memory_need(disk, min(jobs, 1))
    large = [i for i in waiting if need.of(i) > limit and less.of(i) < need.of(i)]
    in_memory = loaded.config.data.negative_weights == "resample"  # the search for neighbours uses all events
    able = [] if in_memory else [i for i in large if plan.rows[i].can_train_from_disk]
    chosen = make_plan(loaded, plan.dataset, [plan.rows[i].name for i in able]) if able else plan
    need_then = memory_need(chosen, jobs)
    for i in waiting:
        if need_then.of(i) > limit:
            raise ConfigError(_refusal(chosen, i, need_then, limit))
    notes = [*dict.fromkeys(row.device_note for row in plan.rows if row.device_note)]
    for i in able:
        sizes = f"about {format_size(need.of(i))} of {format_size(limit)}"
        notes.append(f"{plan.rows[i].name}: trained from disk; in memory it needs {sizes}")
    return chosen, notes


def _refusal(plan: Plan, index: int, need: MemoryNeed, limit: int) -> str:
    """Return one line: what is needed, what is available, and what would help."""
    row = plan.rows[index]
    processes = "1 process" if need.processes == 1 else f"{need.processes} processes"
    more = f" and {row.beside:,} simulated ones" if row.beside else ""
    what = f"{len(plan.dataset.train):,} events{more} x {len(row.features.columns)} features x {processes}"
    how = " even from disk" if row.from_disk else ""
    fewer = [k for k in range(1, need.processes) if MemoryNeed(need.main, need.unit, k).of(index) <= limit]
    if fewer:
        advice = f"use --jobs {fewer[-1]}, or fewer events or features"
    elif row.from_disk or need.main > limit:
        advice = "use fewer events or features, or a larger machine"
    elif plan.config.data.negative_weights == "resample" and row.can_train_from_disk:
        advice = "use fewer events or features, or another policy for negative_weights (resample needs all in memory)"
    else:
        advice = "use fewer events or features, or leave this model out"
    source = f"{SHARE:.0%} of the available memory (see memory_limit)"
    if plan.config.memory_limit:
        source, advice = "memory_limit", f"{advice}, or raise --memory-limit"
    size = format_size(need.of(index))
    return f"{row.name}: needs about {size}{how} for {what}; {source} is {format_size(limit)}: {advice}"
