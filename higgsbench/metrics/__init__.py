"""AMS and its scan, weighted metrics as records, paired statistics: numpy in, numbers out.

It also measures the processes in a selection: yield, efficiency, effective number of events, and the AUC of one against
many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.metrics.ams import AMSCurve, ams, ams_gradient, ams_scan
from higgsbench.metrics.estimates import (
    METRICS,
    Estimate,
    Metric,
    Scored,
    ams_estimate,
    log_loss,
    mean_estimate,
    paired_difference,
    roc_auc,
)
from higgsbench.metrics.weights import effective_sample_size, evaluation_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.metrics.weights import Bools, Floats, Ints

__all__ = ["METRICS", "AMSCurve", "Estimate", "Metric", "Scored", "ams", "ams_estimate", "ams_gradient", "ams_scan",
           "effective_sample_size", "evaluation_weights", "log_loss", "mean_estimate", "paired_difference",
           "roc_auc"]  # fmt: skip


@dataclass(frozen=True)
class Processes:
    """The physics process of each event.

    Attributes:
        names: unique names; signal first, in each class the largest sum of weights first.
        signal: whether each process is signal.
        index: (n,) position in `names` of each event's process.
    """

    names: tuple[str, ...]
    signal: tuple[bool, ...]
    index: NDArray[np.int32]

    @classmethod
    def of(cls, names: Sequence[str], code: Ints, y: Bools, weight: Floats) -> Processes:
        """Sort processes by class and sum of weights.

        Args:
            names: names of processes; one that has events of both classes becomes two, e.g. `VV (signal)`.
            code: (n,) position in `names` of each event's process.
            y: (n,) truth.
            weight: (n,) evaluation weights.

        Example:
            >>> Processes.of(["W", "ggF"], np.array([0, 1, 0]), np.array([False, True, False]), np.ones(3)).names
            ('ggF', 'W')
        """
        cell = 2 * code + y
        count, total = (np.bincount(cell, w, 2 * len(names)).reshape(-1, 2) for w in (None, weight))
        order = sorted(np.argwhere(count > 0).tolist(), key=lambda at: (-at[1], -total[*at], names[at[0]]))
        place = np.zeros(count.shape, dtype=np.int32)
        place[tuple(np.transpose(order))] = np.arange(len(order))
        kinds = (" (background)", " (signal)")
        titles = tuple(names[name] + (kinds[kind] if count[name].min() > 0 else "") for name, kind in order)
        return cls(titles, tuple(kind == 1 for _, kind in order), place.ravel()[cell])

    @property
    def by_event(self) -> NDArray[np.str_]:
        """(n,) name of each event's process."""
        return np.array(self.names)[self.index]

    def at(self, positions: NDArray[np.intp]) -> Processes:
        """Return the processes of some of the events, in another order."""
        return replace(self, index=self.index[positions])


def processes_of(names: pl.Series | None, y: Bools, weight: Floats) -> Processes | None:
    """Return the processes of events (n,) from their names, None if these are not known."""
    if names is None:
        return None
    known = names.unique().sort().to_list()
    code = names.replace_strict(known, list(range(len(known)))).to_numpy()
    return Processes.of(known, code, y, weight)


@dataclass(frozen=True)
class ProcessMetrics:
    """Yield of one process in a selection, and how well its events are ranked; means over repeats.

    A process whose weights do not sum to a positive number has neither efficiency nor AUC.

    Attributes:
        signal: whether it is signal.
        total: expected events before the selection.
        selected: expected events in the selection; its variance is the sum of the squared weights.
        efficiency: selected over all expected events, with the influence (m,) of the events of the process.
        effective: effective number of selected events, (sum w)^2 / sum w^2.
        auc: weighted AUC of a signal process against all background, or of all signal against a background process.
    """

    signal: bool
    total: float
    selected: Estimate
    efficiency: Estimate | None
    effective: float
    auc: Estimate | None

    @property
    def numbers(self) -> dict[str, Any]:
        """All numbers by name; None if the process has no such number."""
        out: dict[str, Any] = {"signal": self.signal, "total": self.total, "n_eff": self.effective}
        for quantity, found in (("yield", self.selected), ("efficiency", self.efficiency), ("auc", self.auc)):
            out |= {quantity: found and found.value, f"{quantity}_se": found and found.se}
        return out

    def record(self, name: str) -> dict[str, Any]:
        """Return all numbers by the keys that rows and leaderboards use, e.g. `efficiency:W`, `efficiency_se:W`."""
        return {f"{quantity}:{name}": value for quantity, value in self.numbers.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], name: str) -> ProcessMetrics:
        """Return the numbers of a process in a row; a KeyError, TypeError or ValueError if it lacks one."""

        def estimate(quantity: str) -> Estimate:
            return Estimate(float(record[f"{quantity}:{name}"]), np.array([float(record[f"{quantity}_se:{name}"])]))

        known = {key: None if record[f"{key}:{name}"] is None else estimate(key) for key in ("efficiency", "auc")}
        total, effective = (float(record[f"{quantity}:{name}"]) for quantity in ("total", "n_eff"))
        return cls(bool(record[f"signal:{name}"]), total, estimate("yield"), effective=effective, **known)


def process_names(record: Mapping[str, Any]) -> list[str]:
    """Return the processes that a row has numbers of: signal first, in each class the largest first."""
    names = [key.removeprefix("signal:") for key in record if key.startswith("signal:")]
    return sorted(names, key=lambda name: (not record[f"signal:{name}"], -record[f"total:{name}"], name))


def measure_processes(
    processes: Processes, score: Floats, selected: Bools, weight: Floats
) -> dict[str, ProcessMetrics]:
    """Measure every process in a selection; errors are those at fixed cut, from the finite number of events.

    Args:
        processes: the process of each event.
        score: (repeats, n) scores that grow with signal likeness.
        selected: (repeats, n) the selection.
        weight: (n,) evaluation weights.
    """
    y = np.array(processes.signal)[processes.index]
    out = {}
    for at, (name, signal) in enumerate(zip(processes.names, processes.signal, strict=True)):
        members = processes.index == at
        own, kept = weight[members], selected[:, members]
        total = float(np.sum(own))
        sums = mean_estimate([Estimate(float(np.sum(own[keep])), own * keep) for keep in kept])
        efficiency = auc = None
        if total > 0.0:
            value = sums.value / total
            efficiency = Estimate(value, (sums.influence - value * own) / total)
            rows = members | (y != signal)
            auc = mean_estimate([roc_auc(y[rows], s[rows], weight[rows]) for s in score]).without_events()
        effective = float(np.mean([effective_sample_size(own[keep]) for keep in kept]))
        out[name] = ProcessMetrics(signal, total, sums.without_events(), efficiency, effective, auc)
    return out
