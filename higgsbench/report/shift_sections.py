"""The section of systematic shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.errors import StoreError
from higgsbench.inference.render import change_of_ams
from higgsbench.leaderboard.columns import printable
from higgsbench.pages.html import Cell, paragraph, table
from higgsbench.pages.text import number
from higgsbench.report.draw_shifts import shift_figure
from higgsbench.report.shifted import shift_results

if TYPE_CHECKING:
    from higgsbench.inference.shifts import ShiftRow
    from higgsbench.inference.systematics import Systematic
    from higgsbench.report.sight import Sight

__all__ = ["shifts"]


def shifts(sight: Sight) -> list[str]:
    """Selected counts and AMS under systematic shifts, where some are asked for."""
    if not sight.systematics:
        return []
    if sight.models is None:
        raise StoreError(f"{sight.run.folder}: --shift needs the run's stored models")
    names = [r["name"] for r in sight.drawn]
    found = shift_results(sight.run, sight.events, sight.systematics, sight.models, names, sight.shift_events)
    out = [paragraph(printable(_words(sight, found.where)))]
    out += [paragraph(printable(note)) for note in found.notes]
    if not found.rows:
        return out
    worst = {name: min(rows[1:], key=lambda r: r.ams_change) for name, rows in found.rows.items()}
    first = ", ".join(f"{name} {row.name} {change_of_ams(row)}" for name, row in list(worst.items())[:4])
    alt = printable(f"Change of the AMS of {len(found.rows)} rows under systematic shifts; lowest: {first}.")
    caption = "Bars: one standard error of the change, from the finite number of simulated events."
    out.append(sight.pictures.add("shifts", shift_figure(found.rows, sight.looks), alt, caption))
    headings = [("row", True), ("shift", True)]
    headings += [(h, False) for h in ("s selected", "Δs", "b selected", "Δb", "AMS", "ΔAMS")]
    lines = [(printable(name), *_cells(row)) for name, rows in found.rows.items() for row in rows]
    out.append(table("Selection at the frozen cut under systematic shifts", headings, lines, sortable=True))
    return out


def _cells(row: ShiftRow) -> tuple[str | Cell, ...]:
    same = row.name == "nominal"
    return (
        printable(row.name),
        Cell(number(row.s, 4), row.s),
        Cell("" if same else f"{100 * row.s_change:+.2f}%", None if same else row.s_change),
        Cell(number(row.b, 4), row.b),
        Cell("" if same else f"{100 * row.b_change:+.2f}%", None if same else row.b_change),
        Cell(f"{row.ams:.3f}", row.ams),
        Cell("" if same else change_of_ams(row), None if same else row.ams_change),
    )


def _words(sight: Sight, where: str) -> str:
    what = "; ".join(_said(systematic) for systematic in sight.systematics)
    return (
        f"Shifts: {what}. The stored models score {where}, as they are and moved; each row selects at its frozen cut. "
        "Weights keep the factors of the nominal events, so that events which a shift moves out of the selection are "
        "lost and not scaled away. ± of a change: both selections are on the same simulated events."
    )


def _said(systematic: Systematic) -> str:
    if systematic.files is not None:
        return f"{systematic.name} from {' and '.join(file.name for file in systematic.files)}"
    if systematic.name == "soft_met":
        return f"{systematic.name} ± {systematic.size:g} GeV"
    return f"{systematic.name} ± {100 * (systematic.size or 0.0):g}%"
