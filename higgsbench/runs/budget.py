"""Run inside a time limit: choose rows and bag sizes that fit, and hand out the units row by row."""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from higgsbench.runs.durations import format_duration

if TYPE_CHECKING:
    from higgsbench.runs.plan import Plan, Unit

__all__ = ["Choice", "LeftOut", "RowNeed", "TimeBudget", "fit_to_limit", "makespan"]


@dataclass(frozen=True)
class RowNeed:
    """What a row asks for.

    Attributes:
        name: the row.
        label: the entry it belongs to; rows of one entry share the size of the bag.
        value: what it is worth, in units of one another.
        units: number of fits that are not stored yet, by size of the bag.
        seconds: predicted seconds of one fit per seed.
        bag: configured number of seeds.
    """

    name: str
    label: str
    value: float
    units: Callable[[int], int]
    seconds: float
    bag: int = 1

    def total(self, bag: int) -> float:
        """Predicted seconds of all its fits with `bag` seeds."""
        return self.units(bag) * bag * self.seconds

    def density(self, bag: int) -> float:
        """Worth per second; infinite where nothing is left to do."""
        total = self.total(bag)
        return self.value / total if total > 0.0 else float("inf")


@dataclass
class Choice:
    """What is planned.

    Attributes:
        bags: size of the bag per label.
        kept: positions of the rows that fit, worth most per second first.
        left_out: positions of the others, worth most per second first.
        seconds: predicted time of the kept rows.
    """

    bags: dict[str, int]
    kept: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    seconds: float = 0.0


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


def fit_to_limit(needs: Sequence[RowNeed], limit: float, workers: int, per_row: float) -> Choice:
    """Choose seeds and rows such that the predicted time is within the limit.

    First bags are halved, the one that costs most time first, down to single seeds; then rows are left out, worth
    least per second first. What room that makes is given back: to rows that fit after all, then to bags.

    Args:
        needs: the rows.
        limit: seconds for all of them.
        workers: number of workers.
        per_row: seconds beside the fits that each row costs.
    """
    bags = {need.label: need.bag for need in needs}
    kept = set(range(len(needs)))

    def by_worth(rows: Iterable[int], sizes: Mapping[str, int]) -> list[int]:
        return sorted(rows, key=lambda i: (-needs[i].density(sizes[needs[i].label]), i))

    def predicted(rows: set[int], sizes: Mapping[str, int]) -> float:
        order = by_worth(rows, sizes)
        fits = [
            sizes[needs[i].label] * needs[i].seconds
            for i in order
            for _ in range(needs[i].units(sizes[needs[i].label]))
        ]
        return makespan(fits, workers) + per_row * len(rows)

    def time_of(label: str) -> float:
        return sum(need.total(bags[label]) for need in needs if need.label == label)

    while predicted(kept, bags) > limit and any(size > 1 for size in bags.values()):
        dearest = max((label for label, size in bags.items() if size > 1), key=time_of)
        bags[dearest] //= 2
    while kept and predicted(kept, bags) > limit:
        kept.remove(by_worth(kept, bags)[-1])
    for index in by_worth(set(range(len(needs))) - kept, bags):
        if predicted(kept | {index}, bags) <= limit:
            kept.add(index)
    for index in by_worth(kept, bags):
        need = needs[index]
        size = need.bag
        while size > bags[need.label]:
            if predicted(kept, {**bags, need.label: size}) <= limit:
                bags[need.label] = size
            size //= 2
    # Who has no room anyhow keeps all seeds, to be trained so when there is time.
    with_room = {needs[index].label for index in kept}
    bags |= {need.label: need.bag for need in needs if need.label not in with_room}
    order = by_worth(range(len(needs)), bags)
    return Choice(bags, [i for i in order if i in kept], [i for i in order if i not in kept], predicted(kept, bags))


_TOLERANCE = 0.05
"""A row that was begun may end this share of the limit too late; a new one may not be begun so."""


@dataclass(frozen=True)
class LeftOut:
    """A row that a time limit had no room for.

    Attributes:
        name: the row.
        reason: why.
        predicted_seconds: predicted time of its fits, on one core.
    """

    name: str
    reason: str
    predicted_seconds: float


@dataclass
class _Progress:
    """Fits of one row."""

    predicted: float
    pending: list[Unit]
    begun: bool = False
    measured: list[float] = field(default_factory=list)


class TimeBudget:
    """Hands out the units of a run row by row, as long as they fit into what is left of the time.

    The rows come in the order given, worth most per second first. A prediction is corrected by the fits of the row
    itself as soon as one is there, before that by those of all rows. A row is begun only if all of it is predicted to
    end in time; one that turns out slower is given up.

    Args:
        limit: seconds.
        begin: when they began, on `clock`.
        order: positions of the rows in the plan.
        seconds: predicted seconds of one fit of each row.
        per_row: predicted seconds beside the fits that each row costs.
        workers: number of processes.
        clock: seconds that only grow; `time.monotonic` by default.
    """

    def __init__(
        self,
        limit: float,
        begin: float,
        order: Sequence[int],
        seconds: Mapping[int, float],
        per_row: float,
        workers: int,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.limit = limit
        self.begin = begin
        self.order = order
        self.seconds = seconds
        self.per_row = per_row
        self.workers = workers
        self.clock = clock or time.monotonic
        self.rows: dict[int, _Progress] = {}
        self.running: dict[str, tuple[Unit, float]] = {}
        self.given_up: dict[int, str] = {}
        self.assembled: list[float] = []

    def plan(self, pending: Sequence[Unit]) -> None:
        """Take the units that are not stored yet."""
        by_row: dict[int, list[Unit]] = defaultdict(list)
        for unit in pending:
            by_row[unit.row].append(unit)
        self.rows = {i: _Progress(self.seconds[i], by_row[i][::-1]) for i in self.order if by_row[i]}

    def next_unit(self) -> Unit | None:
        """Return the unit to start now; None if none fits or all are under way."""
        for index, row in self.rows.items():
            if row.begun and row.pending and index not in self.given_up:
                if row.measured and self._end([]) > self.limit * (1.0 + _TOLERANCE):
                    self._give_up(index)
                    continue
                return self._start(index)
        for index, row in self.rows.items():
            if not row.begun and self._end([self._predicted(index)] * len(row.pending), 1) <= self.limit:
                row.begun = True
                return self._start(index)
        return None

    def finished(self, unit: Unit, seconds: float, failed: bool) -> None:
        """Note how long a unit took; the rest of a row that failed is still tried, as without a limit."""
        self.running.pop(unit.key, None)
        if not failed:
            self.rows[unit.row].measured.append(seconds)

    def row_assembled(self, seconds: float) -> None:
        """Note how long the evaluation of a row took."""
        self.assembled.append(seconds)

    def left_out(self, plan: Plan) -> list[LeftOut]:
        """Return the rows that are not complete for want of time, in the order in which they would have come."""
        out = []
        for index, row in self.rows.items():
            if not row.pending:
                continue
            total = row.predicted * len(row.pending)
            reason = self.given_up.get(index, f"predicted {format_duration(total)}, which did not fit any more")
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

    def _give_up(self, index: int) -> None:
        row = self.rows[index]
        mean = sum(row.measured) / len(row.measured)
        self.given_up[index] = (
            f"given up after {len(row.measured)} fits: {format_duration(mean)} each where "
            f"{format_duration(row.predicted)} were predicted"
        )

    def _predicted(self, index: int) -> float:
        """Seconds of one fit of a row, corrected by what was measured."""
        row = self.rows[index]
        if row.measured:
            return sum(row.measured) / len(row.measured)
        measured = sum(sum(other.measured) for other in self.rows.values())
        predicted = sum(len(other.measured) * other.predicted for other in self.rows.values())
        # Never below the prediction: that others were faster than predicted need not hold for this one.
        return row.predicted * max(1.0, measured / predicted if predicted > 0.0 else 1.0)

    def _end(self, more: Sequence[float], rows: int = 0) -> float:
        """When all that was begun and `more` fits of new rows will be over, in seconds since the beginning."""
        now = self.clock()
        busy = [max(0.0, self._predicted(u.row) - (now - since)) for u, since in self.running.values()]
        begun = [(i, row) for i, row in self.rows.items() if row.begun and i not in self.given_up]
        fits = [self._predicted(i) for i, row in begun for _ in row.pending]
        open_rows = rows + sum(
            1 for i, row in begun if row.pending or any(u.row == i for u, _ in self.running.values())
        )
        per_row = max(self.assembled, default=self.per_row)
        # With one process rows are evaluated between fits; with more, beside them but for the last one. The blend of
        # all rows at the end costs about as much as two.
        evaluation = per_row * (2 + (open_rows if self.workers == 1 else min(open_rows, 1)))
        return now - self.begin + makespan([*fits, *more], self.workers, busy) + evaluation
