"""Which rows fit a time limit, and with how many seeds; pure arithmetic on predicted seconds."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Choice", "RowNeed", "fit_to_limit", "makespan"]


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
