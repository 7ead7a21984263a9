"""Learning curves: every row at growing numbers of training events, always evaluated on the same held-out folds."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench.ensemble import estimates, evaluate_row, paired
from higgsbench.ensemble.blend import cross_fitted_blend
from higgsbench.errors import StoreError
from higgsbench.files import ROWS, file_digest, parse_sealed, printable, told_plainly, write_sealed
from higgsbench.metrics.estimates import METRICS
from higgsbench.pages import Shown, Table
from higgsbench.pages.drawing import WIDTH, log_axis, new_figure, row_looks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from higgsbench.ensemble import RowMetrics
    from higgsbench.ensemble.cut import Truth
    from higgsbench.metrics.estimates import Metric
    from higgsbench.metrics.weights import Floats
    from higgsbench.pages import Picture
    from higgsbench.pages.drawing import Pictures
    from higgsbench.runs import Failure
    from higgsbench.runs.curve import CurvePlan, Point
    from higgsbench.runs.stored import StoredRun

CURVE_FILE = "learning_curve.json"
"""The file that keeps a curve for reports, in the folder of the run with its configuration."""

SHOWN = tuple(metric for metric in METRICS.values() if metric.headline)
"""The metrics of a curve."""

Measured = dict[str, tuple[float, float]]
"""Value and standard error by name of the metric."""


class CurvePoint(NamedTuple):
    """A row trained on a number of events: means over draws, with their standard errors."""

    row: str
    events: int
    draws: int
    values: Measured


class Gain(NamedTuple):
    """What a row gains from the last doubling of its training events: above minus below, with paired errors."""

    row: str
    below: int
    above: int
    values: Measured

    @property
    def improved(self) -> list[Metric]:
        """The metrics that improve by more than two standard errors."""
        signs = {metric: -1.0 if metric.lower_is_better else 1.0 for metric in SHOWN}
        gains = {metric: self.values[metric.name] for metric in SHOWN}
        return [metric for metric, (gain, error) in gains.items() if signs[metric] * gain > 2 * error]

    def __str__(self) -> str:
        """The gain in one sentence, and whether the curve still rises."""
        gains = ", ".join(f"{metric.heading} {metric.shown(*self.values[metric.name], '+')}" for metric in SHOWN)
        better = ", ".join(metric.heading for metric in self.improved)
        verdict = f"the curve still improves in {better}" if better else "no improvement above two standard errors"
        return f"{printable(self.row)}, from {self.below:,} to {self.above:,} training events: {gains}; {verdict}."


@dataclass(frozen=True, repr=False)
class LearningCurve(Shown):
    """Rows at growing numbers of training events, and their last gains.

    Attributes:
        folder: folder of the run whose configuration it belongs to.
        points: by row, ascending in events; the stack last.
        gains: one for each row with two or more sizes.
        failures: fits that failed; not known for a curve that was read from its file.
    """

    folder: Path
    points: tuple[CurvePoint, ...]
    gains: tuple[Gain, ...]
    failures: tuple[Failure, ...] = ()

    def __repr__(self) -> str:
        """Name the folder and the size."""
        rows = len({point.row for point in self.points})
        return f"<LearningCurve {self.folder.name}: {rows} rows, {len(self.points)} points>"

    def as_tables(self) -> list[Table]:
        """Return the table of all points."""
        cells = [[printable(p.row), f"{p.events:,}", *(m.shown(*p.values[m.name]) for m in SHOWN)] for p in self.points]
        ends = [i for i, (a, b) in enumerate(pairwise(self.points)) if a.row != b.row]
        head = ["row", "events", *(metric.heading for metric in SHOWN)]
        return [Table(f"Learning curve of {printable(self.folder.name)}", head, cells, rules=ends)]

    def records(self) -> list[dict[str, Any]]:
        """Return one record per row and number of training events, with the keys of leaderboards."""
        return [{"row": p.row, "training_events": p.events, "draws": p.draws, **_flat(p.values)} for p in self.points]

    def remarks(self) -> list[str]:
        """Return the gain of the last doubling of each row, and what the errors contain."""
        draws = max(point.draws for point in self.points)
        what = f"the means of {draws} draws of the training events" if draws > 1 else "one draw of the training events"
        errors = "evaluated events and draws" if draws > 1 else "evaluated events only"
        return [*map(str, self.gains), f"Sizes below all training events are {what}; ± from the {errors}."]

    def as_json(self) -> dict[str, Any]:
        """Return points and gains in full precision."""
        gains = [{"row": g.row, "below": g.below, "above": g.above, **_flat(g.values)} for g in self.gains]
        return {"run": self.folder.name, "points": self.records(), "gains": gains}


def _flat(values: Measured) -> dict[str, float]:
    out = {}
    for metric in SHOWN:
        out[metric.key], out[f"{metric.key}_se"] = values[metric.name]
    return out


@dataclass(frozen=True)
class _Size:
    """A row at one number of training events: all draws together, and the metrics of each."""

    events: int
    whole: RowMetrics
    draws: dict[int, dict[str, float]]


def measure_curve(run: StoredRun, plan: CurvePlan, failures: Sequence[Failure] = ()) -> LearningCurve:
    """Measure a learning curve.

    The error of a point has two independent parts: that of the metric on the evaluated events, and the scatter between
    draws of the training events over the square root of their number. Differences are paired in both: the same events
    are evaluated, and a draw is part of the larger draw of the same number.

    Args:
        run: the run of all points.
        plan: its plan.
        failures: fits that failed.
    """
    found: dict[str, dict[Point, Floats]] = {}
    for row in plan.rows:
        names = {point: plan.named(row, point) for point in plan.points}
        found[row] = {point: run.score_table[name] for point, name in names.items() if name in run.score_table}
    truth = replace(next(row for row in run.rows if row.ok).truth, processes=None)
    if run.stack is not None:
        blended = {member.name for member in run.stack.members}
        members = {row: found[row] for row in plan.rows if plan.named(row, plan.points[-1]) in blended}
        complete = [point for point in plan.points if all(point in scores for scores in members.values())]
        found["stack"] = {
            point: _stacked(run.stack.method, {row: scores[point] for row, scores in members.items()}, truth)
            for point in complete
        }
    points, gains = [], []
    for row, scores in found.items():
        sizes = [_size(events, scores, truth) for events in sorted({point.events for point in scores})]
        points += [_point(row, size) for size in sizes]
        if len(sizes) > 1:
            half = sizes[-1].events / 2
            gains.append(_gain(row, min(sizes[:-1], key=lambda size: abs(math.log(size.events / half))), sizes[-1]))
    return LearningCurve(plan.folder, tuple(points), tuple(gains), tuple(failures))


def _stacked(method: str, members: Mapping[str, Floats], truth: Truth) -> Floats:
    """Blend the scores (repeats, n) of rows, as a run does."""
    names, repeats = tuple(members), zip(np.stack([*members.values()], axis=2), truth.fold, strict=True)
    blended = (cross_fitted_blend(method, names, F, truth.y, truth.weight, fold, truth.totals) for F, fold in repeats)
    return np.stack([scores for scores, _ in blended])


def _size(events: int, scores: Mapping[Point, Floats], truth: Truth) -> _Size:
    own = {point.draw: values for point, values in scores.items() if point.events == events}
    draws = {
        draw: {name: found.value for name, found in estimates(values, truth, SHOWN).items()}
        for draw, values in own.items()
    }
    whole = evaluate_row(np.concatenate(list(own.values())), replace(truth, fold=np.tile(truth.fold, (len(own), 1))))
    return _Size(events, whole, draws)


def _point(row: str, size: _Size) -> CurvePoint:
    values = {
        m.name: (
            size.whole.value(m.name),
            math.hypot(size.whole.se(m.name), _scatter([d[m.name] for d in size.draws.values()])),
        )
        for m in SHOWN
    }
    return CurvePoint(row, size.events, len(size.draws), values)


def _gain(row: str, below: _Size, above: _Size) -> Gain:
    """Return what the row gains; all training events are one draw, of which every smaller draw is a part."""
    values = {}
    for metric in SHOWN:
        value, error = paired(above.whole, below.whole, metric.name)
        # Failed fits may leave draws that only one of the sizes has.
        pairs = [
            (larger[metric.name], smaller[metric.name])
            for draw, smaller in below.draws.items()
            if (larger := above.draws.get(draw, above.draws[0] if len(above.draws) == 1 else None)) is not None
        ]
        values[metric.name] = value, math.hypot(error, _scatter([a - b for a, b in pairs]))
    return Gain(row, below.events, above.events, values)


def _scatter(values: Sequence[float]) -> float:
    """Return the standard error of a mean over draws; 0 for a single one, whose scatter is not known."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def keep_curve(run: StoredRun, plan: CurvePlan, failures: Sequence[Failure] = ()) -> LearningCurve:
    """Return the curve kept beside the run of its configuration; measure it first if a row has changed.

    Raises:
        StoreError: if the run lacks scores, or writing fails.
    """
    file, rows = plan.folder / CURVE_FILE, file_digest(run.folder / ROWS)
    with suppress(StoreError):  # a damaged file is replaced
        if (kept := read_curve(plan.folder, rows)) is not None:
            return replace(kept, failures=tuple(failures))
    curve = measure_curve(run, plan, failures)
    with told_plainly(StoreError, file):
        write_sealed(file, {"rows": rows, **curve.as_json()})
    return curve


def read_curve(folder: Path, rows: str | None = None) -> LearningCurve | None:
    """Read the curve that belongs to a run; None if there is none, or if it was not measured from the given rows.

    Args:
        folder: folder of the run.
        rows: digest of the rows of the run of all points; None for any.

    Raises:
        StoreError: if the file is damaged.
    """
    file = folder / CURVE_FILE
    if not file.is_file():
        return None
    try:
        content = parse_sealed(file.read_bytes(), required=True)
        if rows is not None and content.get("rows") != rows:
            return None
        points = tuple(
            CurvePoint(str(r["row"]), int(r["training_events"]), int(r["draws"]), _nested(r)) for r in content["points"]
        )
        gains = tuple(Gain(str(r["row"]), int(r["below"]), int(r["above"]), _nested(r)) for r in content["gains"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{file}: damaged or not made by higgsbench; run learning-curve again") from error
    return LearningCurve(folder, points, gains)


def _nested(record: Mapping[str, Any]) -> Measured:
    return {m.name: (float(record[m.key]), float(record[f"{m.key}_se"])) for m in SHOWN}


def curve_pictures(
    curve: LearningCurve, pictures: Pictures, looks: Mapping[str, dict[str, Any]] | None = None
) -> list[Picture]:
    """Draw each metric of all rows against the number of training events; `looks` are the styles of other figures."""
    rows = list(dict.fromkeys(point.row for point in curve.points))
    own = {**row_looks(rows), **(looks or {})}
    text = f"of {len(rows)} rows against the number of training events. {' '.join(curve.remarks())}"
    return [
        pictures.add(f"learning-curve-{m.name}", _figure(curve, m, rows, own), f"{m.heading} {text}") for m in SHOWN
    ]


def _figure(curve: LearningCurve, metric: Metric, rows: list[str], looks: Mapping[str, dict[str, Any]]) -> Figure:
    figure, ax = new_figure(WIDTH, 3.4 + 0.07 * len(rows))
    for row in rows:
        points = [(point.events, *point.values[metric.name]) for point in curve.points if point.row == row]
        events, values, errors = zip(*points, strict=True)
        y, spread = ([metric.scale * value for value in of] for of in (values, errors))
        ax.errorbar(
            events, y, yerr=spread, markersize=4, linewidth=1.0, capsize=2.0, label=printable(row), **looks[row]
        )
    log_axis(ax, "x", narrow=True)
    ax.set(xlabel="training events of a fit", ylabel=metric.heading)
    figure.legend(loc="outside upper right", ncols=3, fontsize=7)
    return figure
