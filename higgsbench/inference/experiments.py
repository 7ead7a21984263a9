"""Pseudo-experiments: events drawn for a random signal strength and random nuisance parameters.

The nuisance parameters theta come from their priors. With probability |theta|, an event moves to the values that it has
after a shift by one standard deviation. If |theta| exceeds 1, some moved events count more than once, and the surplus
is subtracted at their nominal values. So the expected contents change in proportion to |theta|, also beyond the shifts,
as they do if events are really shifted (docs/intervals.md); scores moved along a line would spread into sparse bins.
Weights are multiplied by (w_k / w)^|theta_k|. The finite number of simulated events is part of the truth: each event
counts a Poisson number of times. All rows see the same events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from higgsbench.runs.regions import placed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from higgsbench.inference.regions import ModelEvents, RowModel


class Drawn(NamedTuple):
    """Events of a pseudo-experiment.

    Attributes:
        at: (m,) positions among the events of the model; an event may occur twice, moved and not moved.
        number: (m,) how often each is drawn, negative for negative weights and for draws that are subtracted.
        moved: by name of the shift, its side (1 is down) and whether it moves each event (m,).
    """

    at: NDArray[np.intp]
    number: NDArray[np.int64]
    moved: Mapping[str, tuple[int, NDArray[np.bool_]]]


class Drawing:
    """Pseudo-experiments, each with its own seed, so that all rows see the same events."""

    def __init__(self, found: ModelEvents, mu: tuple[float, float], seed: int) -> None:
        self._found, self._range, self._seed = found, mu, seed
        self._names = tuple(dict.fromkeys(entry.name for entry in found.systematics if not entry.free))
        self._shifts = tuple(dict.fromkeys(entry.name for entry in found.systematics if entry.shift or entry.files))
        self._signal = found.events.y

    def parameters(self, toy: int) -> tuple[float, dict[str, float]]:
        """Return the true signal strength and nuisance parameters."""
        rng = np.random.default_rng([self._seed, toy])
        return float(rng.uniform(*self._range)), dict(zip(self._names, rng.normal(size=len(self._names)), strict=True))

    def _counts(self, toy: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return how often each event is drawn, negative for negative weights."""
        found = self._found
        strength, theta = self.parameters(toy)
        mean = found.weight * np.where(self._signal, strength, 1.0)
        if found.rules.mc_stat:
            mean = mean * rng.poisson(1.0, mean.size)
        for at, entry in enumerate(found.systematics):
            if entry.free:
                continue
            step, touched = theta[entry.name], found.affected(entry)[found.processes.index]
            size, side = abs(step), int(step < 0.0)
            if entry.norm is not None:
                mean = np.where(touched, mean * entry.norm[side] ** size, mean)
                continue
            moved = found.sides[at][side].weight
            ratio = np.divide(moved, found.weight, out=np.ones_like(mean), where=(found.weight != 0.0) & touched)
            if not np.allclose(ratio, 1.0, rtol=1e-9):
                mean = mean * np.where(ratio > 0.0, np.abs(ratio) ** size, max(0.0, 1.0 - size))
        drawn: NDArray[np.int64] = np.sign(mean).astype(np.int64) * rng.poisson(np.abs(mean))
        return drawn

    def events(self, toy: int) -> Drawn:
        """Draw the events of a pseudo-experiment, and which of them each shift moves."""
        _, theta = self.parameters(toy)
        rng = np.random.default_rng([self._seed, toy, 1])
        counts = self._counts(toy, rng)
        at = np.flatnonzero(counts)
        number = counts[at]
        moved: dict[str, NDArray[np.bool_]] = {}
        for name in self._shifts:
            whole = int(abs(theta[name]))
            further = number * whole + np.sign(number) * rng.binomial(np.abs(number), abs(theta[name]) - whole)
            number = np.concatenate([number - further, further])
            kept = number != 0
            moved = {other: np.tile(where, 2)[kept] for other, where in moved.items()}
            moved[name] = np.repeat([False, True], further.size)[kept]
            at, number = np.tile(at, 2)[kept], number[kept]
        return Drawn(at, number, {name: (int(theta[name] < 0.0), where) for name, where in moved.items()})

    def data(self, model: RowModel, drawn: Drawn) -> NDArray[np.float64]:
        """Return the contents (bins,) of all regions of a row, in the order of pyhf's channels (by name)."""
        columns = {}
        for name, nominal in model.columns.items():
            value = base = nominal[drawn.at]
            for entry, pair in model.moved.items():
                side, moved = drawn.moved.get(self._found.systematics[entry].name, (0, None))
                if moved is not None and name in pair[side]:
                    shifted = pair[side][name][drawn.at]
                    value = np.where(moved, value + shifted - base, value)
                    value = np.where(moved & np.isnan(value), shifted, value)
            columns[name] = value
        out = {}
        for region in model.regions:
            value, inside = placed(region.config, columns)
            contents = np.bincount(region.index(value[inside]), drawn.number[inside], region.edges.size)
            out[region.config.name] = np.maximum(contents, 0.0)
        return np.concatenate([out[name] for name in sorted(out)])
