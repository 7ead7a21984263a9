"""What the sections of a report draw from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from higgsbench.report.draw_board import row_looks
from higgsbench.report.fitted import TrainingScores, training_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from higgsbench.compare.contest import RankPicture
    from higgsbench.inference.systematics import Systematic
    from higgsbench.pages.pictures import Pictures
    from higgsbench.report.events import Reloaded
    from higgsbench.report.fitted import FittedModels
    from higgsbench.report.stored import StoredReport

__all__ = ["Sight"]

MOST_DRAWN = 8
"""Rows, beside the stack, that get figures of their own: with a dozen they would be nine tenths of the page."""


@dataclass(frozen=True)
class Sight:
    """All that sections draw from.

    Attributes:
        run: the stored run.
        events: its events, as far as they could be loaded again.
        pictures: takes the figures.
        average_ranks: pictures of average ranks, one per metric.
        models: the stored models, or None where none may be asked.
        all_rows: whether every row gets figures of its own.
        systematics: systematic shifts whose effect is shown.
        shift_events: file of labelled events that are shifted, instead of the run's own.
    """

    run: StoredReport
    events: Reloaded
    pictures: Pictures
    average_ranks: Sequence[RankPicture] = ()
    models: FittedModels | None = None
    all_rows: bool = False
    systematics: Sequence[Systematic] = ()
    shift_events: Path | None = None

    @cached_property
    def looks(self) -> dict[str, dict[str, Any]]:
        """Colour, line and marker of every row, the same in all figures."""
        return row_looks(self.run.rows)

    @property
    def drawn(self) -> list[dict[str, Any]]:
        """Records of the rows that get figures of their own: the best ones and the stack."""
        rows = self.run.rows
        best = {
            r["name"] for r in [r for r in rows if r["name"] != "stack"][: len(rows) if self.all_rows else MOST_DRAWN]
        }
        return [r for r in rows if r["name"] in best or r["name"] == "stack"]

    @property
    def left_out(self) -> str:
        """A sentence on the rows without figures of their own; empty where all have them."""
        rows, drawn = len(self.run.rows), len(self.drawn)
        return f" Drawn: {drawn} of {rows} rows, the best and the stack; --all-rows draws all." if drawn < rows else ""

    @cached_property
    def training(self) -> TrainingScores:
        """Scores of training events by the stored models that saw them."""
        if self.models is None or self.events.train is None:
            return TrainingScores(None, ())
        return training_scores(self.run, self.events.train, self.models, [r["name"] for r in self.drawn])
