"""What the sections of a report draw from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from higgsbench.report.draw_board import row_looks

if TYPE_CHECKING:
    from higgsbench.pages.pictures import Pictures
    from higgsbench.report.events import Reloaded
    from higgsbench.report.importance import Scorer
    from higgsbench.report.stored import Scores, StoredReport

__all__ = ["AverageRanks", "Sight"]


@dataclass(frozen=True)
class AverageRanks:
    """What a comparison of all rows found.

    Attributes:
        names: rows, best average rank first.
        ranks: their average ranks.
        groups: positions of rows that cannot be told apart.
    """

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sight:
    """All that sections draw from.

    Attributes:
        run: the stored run.
        events: its events, as far as they could be loaded again.
        pictures: takes the figures.
        train_scores: scores of the training events by models that saw them, or None.
        average_ranks: average ranks, or None.
        scorer: a stored model whose features are weighed, or None.
    """

    run: StoredReport
    events: Reloaded
    pictures: Pictures
    train_scores: Scores | None = None
    average_ranks: AverageRanks | None = None
    scorer: Scorer | None = None

    @cached_property
    def looks(self) -> dict[str, dict[str, Any]]:
        """Colour, line and marker of every row, the same in all figures."""
        return row_looks(self.run.rows)
