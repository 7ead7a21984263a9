"""What the sections of a report draw from: the stored run, its events and its models."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench.errors import ConfigError, HiggsbenchError, StoreError
from higgsbench.files import printable
from higgsbench.inference import members_of, subsample
from higgsbench.leaderboard import Leaderboard
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.pages.drawing import PAPER, SOFT, row_looks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from higgsbench.config.regions import Systematic
    from higgsbench.inference.events import RunEvents
    from higgsbench.leaderboard import Table
    from higgsbench.pages.drawing import Pictures
    from higgsbench.runs.predictor import FittedRun
    from higgsbench.runs.stored import StoredRun

MOST_DRAWN = 8  # rows, without the stack, that get their own figures: a dozen would take nine tenths of the page
MAX_EVENTS = 20_000  # training events whose in-sample scores are drawn
IN_SAMPLE_SECONDS = 10.0  # limit for the in-sample scores of all rows, by the stored times per event


class Scores(NamedTuple):
    """Scores of labelled events under several rows.

    Attributes:
        y: (n,) truth.
        weight: (n,) evaluation weights at the reference totals.
        by_row: (repeats, n) log-odds by the row's name; held-out scores have one repeat.
    """

    y: NDArray[np.bool_]
    weight: NDArray[np.float64]
    by_row: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Context:
    """All that sections draw from.

    Attributes:
        run: the stored run.
        events: its events, as far as they could be loaded again.
        pictures: takes the figures.
        models: the stored models, or None to leave out what needs them.
        all_rows: whether every row gets its own figures.
        systematics: systematic shifts whose effect is shown.
        shift_events: file of labelled events that are shifted, instead of the run's own.
        style: style of the figures, `atlas`, `cms` or `plain`.
        notes: what the reader should know; a damaged file is added when a section asks for it.
    """

    run: StoredRun
    events: RunEvents
    pictures: Pictures
    models: FittedRun | None = None
    all_rows: bool = False
    systematics: Sequence[Systematic] = ()
    shift_events: Path | None = None
    style: str = "atlas"
    notes: list[str] = field(default_factory=list)

    @cached_property
    def table(self) -> Table:
        """The ranked rows, failed ones last; a `StoreError` if none has numbers."""
        try:
            board = Leaderboard.read(self.run.folder)
            self.notes.extend(board.notes)
            return board.tables[0]
        except ConfigError as error:
            raise StoreError(f"{self.run.folder}: no row of this run has numbers; there is nothing to draw") from error

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Records of the rows that have numbers, best first."""
        return [record for record in self.table.rows if record["status"] == "ok"]

    @cached_property
    def scores(self) -> Scores:
        """Out-of-fold scores."""
        run = self.run
        return Scores(run.y, run.weight, {row.name: row.scores for row in run.rows if row.ok})

    @cached_property
    def held_out(self) -> Scores | None:
        """Scores of the held-out events, where their truth is available."""
        test = self.events.test
        if test is None or not test.labelled:
            return None
        weight = evaluation_weights(test.y, test.weight, *self.run.totals)
        table = self.run.test_score_table
        return Scores(test.y, weight, {name: values[None, :] for name, values in table.items()})

    @cached_property
    def training(self) -> tuple[Scores | None, list[str]]:
        """Scores of training events by the stored models that saw them, and which rows have none, and why.

        Costs follow from the time per event that the run stored, so that the same run always gives the same page.
        """
        models, events, run = self.models, self.events.train, self.run
        if models is None or events is None:
            return None, []
        at = subsample(len(events), MAX_EVENTS)
        frame, event_id = events.frame[at], run.event_id[at]
        # In every repeat there is one model that did not see the event.
        fits = (int(run.comparability.get("folds", 2)) - 1) * run.repeats
        found: dict[str, NDArray[np.float64]] = {}
        reasons: dict[str, list[str]] = {}
        slow, seconds = [], IN_SAMPLE_SECONDS
        for row in members_of(run, [r["name"] for r in self.drawn]):
            if row.record.get("training_events"):  # the models of the other folds did not see all of these events
                continue
            cost = at.size * fits * float(row.record.get("predict_us") or 0.0) / 1e6
            if cost > seconds:
                slow.append(row.name)
                continue
            seconds -= cost
            try:
                found[row.name] = models.in_sample(row.name, frame, event_id)
            except HiggsbenchError as error:
                reasons.setdefault(str(error), []).append(row.name)
        blended = models.blended(found) if found else None
        if blended is not None:
            found["stack"] = blended
        notes = [f"No training scores for {', '.join(names)}: {reason}." for reason, names in reasons.items()]
        if slow:
            notes.append(f"No training scores (they would take too long) for: {', '.join(slow)}.")
        weight = evaluation_weights(run.y[at], run.weight[at], *run.totals)
        scores = Scores(run.y[at], weight, {name: score[None, :] for name, score in found.items()})
        return scores if found else None, notes

    def optional(self, name: str, otherwise: Any) -> Any:
        """Return the run's value, or the other one with a note if its file is damaged."""
        try:
            return getattr(self.run, name)
        except StoreError as error:
            self.notes.append(str(error))
            return otherwise

    @cached_property
    def looks(self) -> dict[str, dict[str, Any]]:
        """Colour, line and marker of every row, the same in all figures."""
        return row_looks(r["name"] for r in self.rows)

    @property
    def drawn(self) -> list[dict[str, Any]]:
        """Records of the rows that get their own figures: the best ones and the stack."""
        trained = [r["name"] for r in self.rows if r["name"] != "stack"]
        best = {"stack", *(trained if self.all_rows else trained[:MOST_DRAWN])}
        return [r for r in self.rows if r["name"] in best]

    @property
    def left_out(self) -> str:
        """A sentence about the rows without their own figures; empty if all have them."""
        rows, drawn = len(self.rows), len(self.drawn)
        return f" Drawn: {drawn} of {rows} rows, the best and the stack; --all-rows draws all." if drawn < rows else ""


def draw_stack(
    ax: Axes, edges: NDArray[np.float64], parts: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    looks: Sequence[tuple[str, str | None]], error: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Stack contents (k,) of bins, given with their variances; return the sum (k,) and the upper end of its error."""
    base, variance = np.zeros(edges.size - 1), np.zeros(edges.size - 1)
    for (name, (content, squares)), (color, hatch) in zip(parts.items(), looks, strict=True):
        ax.stairs(base + content, edges, baseline=base, fill=True, facecolor=color, edgecolor=PAPER, linewidth=0.4,
                  hatch=hatch, label=printable(name))  # fmt: skip
        base, variance = base + content, variance + squares
    low, high = np.maximum(base - np.sqrt(variance), 0.0), base + np.sqrt(variance)
    ax.stairs(high, edges, baseline=low, fill=True, facecolor="none", hatch="xxxx", edgecolor=SOFT, linewidth=0,
              label=error)  # fmt: skip
    return base, high


def histogram(
    values: NDArray[np.float64], weight: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum weights (n,) of values (repeats, n) or (n,) by bins with edges (k + 1,); every repeat gets its equal part.

    Values beyond the edges count in the outermost bins. The (k,) sums come with their variances (k,): repeats share
    their events, so the variance is the mean over repeats.
    """
    rows, bins = np.atleast_2d(values), edges.size - 1
    sums, squares = np.zeros(bins), np.zeros(bins)
    for row in rows:
        place = np.clip(np.searchsorted(edges, row, side="right") - 1, 0, bins - 1)
        sums += np.bincount(place, weight, minlength=bins) / len(rows)
        squares += np.bincount(place, weight**2, minlength=bins) / len(rows)
    return sums, squares
