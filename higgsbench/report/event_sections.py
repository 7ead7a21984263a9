"""The section that needs the events themselves: where selected ones lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.leaderboard.columns import printable
from higgsbench.pages.html import Cell, grid, paragraph, table
from higgsbench.pages.text import count, number, percent
from higgsbench.report.draw_events import Selected, edges_of, selection_figure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.report.events import Feature
    from higgsbench.report.sight import Sight

__all__ = ["selection"]


def selection(sight: Sight) -> list[str]:
    """Selected events of the best row by jet number and mass."""
    if not sight.events.features:
        return []
    run, record = sight.run, sight.run.rows[0]
    name = record["name"]
    share = np.mean(run.scores.by_row[name] >= record["threshold"], axis=0)
    weight = run.scores.weight * share
    chosen = Selected(sight.events.process, weight)
    figures = []
    for feature in sight.events.features:
        figure = selection_figure(feature, chosen, edges_of(feature, weight))
        alt, caption = _selection_words(feature, chosen)
        figures.append(sight.pictures.add(f"selected-{feature.name}", figure, alt, caption))
    rows = [_process_row(sight, process, weight, share) for process in dict.fromkeys(sight.events.process.tolist())]
    intro = (
        f"Events that {printable(name)}, the best row, selects at its frozen cut, out of fold; stacked expected events "
        "with their standard error (hatched), signal on top and once more enlarged (dashed)."
    )
    headings = [("process", True)]
    headings += [(h, False) for h in ("expected", "selected", "share", "events in the file")]
    return [paragraph(intro), grid(figures), table("Selected by process", headings, rows, sortable=True)]


def _process_row(
    sight: Sight, process: str, weight: NDArray[np.float64], share: NDArray[np.float64]
) -> tuple[str | Cell, ...]:
    members = sight.events.process == process
    kept, total = float(weight[members].sum()), float(sight.run.scores.weight[members].sum())
    events = float(np.sum(share[members] > 0.0))
    ratio = kept / total if total else None
    cells = ((number(total), total), (number(kept), kept), (percent(ratio), ratio), (count(events), events))
    return (process, *(Cell(text, value) for text, value in cells))


def _selection_words(feature: Feature, chosen: Selected) -> tuple[str, str]:
    unit = f" {feature.unit}" if feature.unit else ""
    parts = []
    present = np.isfinite(feature.values)
    for label, members in (("signal", chosen.process == "signal"), ("background", chosen.process != "signal")):
        weight = chosen.weight[members & present]
        if not weight.sum() > 0.0:
            continue
        values = feature.values[members & present]
        if feature.whole:
            shares = [(v, float(weight[values == v].sum() / weight.sum())) for v in np.unique(values)]
            parts.append(f"{label} " + ", ".join(f"{v:g}: {percent(s)}" for v, s in shares))
        else:
            mean = float(np.average(values, weights=weight))
            spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))
            parts.append(f"{label} mean {number(mean)}{unit}, standard deviation {number(spread)}{unit}")
    missing = float(chosen.weight[~present].sum() / max(chosen.weight.sum(), 1e-300))
    caption = f"Missing in {percent(missing)} of the selected expected events." if missing > 0.0 else ""
    return f"{feature.name} of selected events; {'; '.join(parts)}.", caption
