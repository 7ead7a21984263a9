"""Sections that show all rows of the run together, each with its figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.compare import load_contenders
from higgsbench.compare.contest import rank_pictures
from higgsbench.leaderboard.columns import choose_columns, printable
from higgsbench.leaderboard.render import LEGEND
from higgsbench.pages import number, with_error
from higgsbench.pages.html import Cell, paragraph, table, wide
from higgsbench.report import context as draw_board
from higgsbench.report.context import correlation, efficiency

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from higgsbench.compare.contest import RankPicture
    from higgsbench.leaderboard.columns import Column
    from higgsbench.report.context import Efficiency, Sight

__all__ = ["average_ranks", "blend", "costs", "leaderboard", "learning", "ranks", "roc"]


_WANTED = (0.2, 0.3, 0.5, 0.7)
"""Signal efficiencies at which the background rejection stands in the table."""


_RANKED = {"ams": "AMS at each row's own honest cut", "auc": "weighted AUC"}


def leaderboard(sight: Sight) -> list[str]:
    """The table of all rows, and its picture."""
    run = sight.run
    chosen = sorted(
        (c for c in choose_columns(None, run.table.rows) if c.name != "run"), key=lambda c: c.name != "model"
    )
    cells = [[_leaderboard_cell(column, record) for column in chosen] for record in run.table.rows]
    ok = run.rows
    best = ", ".join(f"{r['name']} {with_error(r['ams_cv'], r['ams_cv_se'])}" for r in ok[:3])
    alt = f"Cross-validated AMS and weighted AUC of {len(ok)} rows with standard errors; highest AMS: {best}."
    caption = (
        "Bars: one standard error. Rows share their events, so their errors move together; the paired differences in "
        "the table are sharper than they look here."
    )
    drawn = sight.pictures.add("leaderboard", draw_board.board_figure(ok), alt, caption)
    headings = [(c.title, c.text) for c in chosen]
    return [drawn, paragraph(LEGEND), table("Rows of the run", headings, cells, sortable=True)]


def _leaderboard_cell(column: Column, record: dict[str, Any]) -> str | Cell:
    shown = printable(column.show(record)).strip()
    if column.text:
        return shown
    value = record.get(column.keys[0])
    if isinstance(value, (int, float)) and np.isfinite(value):
        return Cell(shown, float(value))
    return Cell(shown, None)


def ranks(sight: Sight) -> list[str]:
    """Average ranks, where a comparison has found them."""
    figures = []
    for found in sight.average_ranks:
        title = _RANKED.get(found.metric, found.metric)
        words = ", ".join(f"{name} {rank:.2f}" for name, rank in zip(found.names, found.ranks, strict=True))
        alike = [" ≈ ".join(found.names[i] for i in group) for group in found.groups if len(group) > 1]
        alt = f"Average ranks by {title}: {words}. Not told apart: {'; '.join(alike) if alike else 'none'}."
        figure = draw_board.rank_figure([printable(n) for n in found.names], found.ranks.tolist(), found.groups)
        figures.append(sight.pictures.add(f"average-ranks-{found.metric}", figure, alt, f"By {title}."))
    if not figures:
        return []
    intro = (
        "Ranks of the rows, mean over bootstrap replicas of the events. Bars join neighbours of which no two differ at "
        f"the level {sight.average_ranks[0].alpha:g}, after Holm's correction over all pairs; higgsbench compare shows "
        "the pairs."
    )
    return [paragraph(intro), wide(figures)]


def roc(sight: Sight) -> list[str]:
    """Weighted ROC curves and background rejection."""
    run = sight.run
    found = {r["name"]: efficiency(run.scores, r["name"]) for r in run.rows}
    aucs = {r["name"]: float(r["auc"]) for r in run.rows}
    best = run.rows[0]["name"]
    first = sorted(aucs, key=lambda n: -aucs[n])[:3]
    alt = f"Weighted ROC curves; highest areas: {', '.join(f'{n} {aucs[n]:.4f}' for n in first)}."
    figure = draw_board.roc_figure(found, sight.looks, aucs)
    left = sight.pictures.add("roc", figure, alt, "Colours: models; dashes: variants.")
    words = ", ".join(f"{v:,.0f} at {share:.0%}" for v, share in zip(_rejections(found[best]), _WANTED, strict=True))
    alt = f"Background rejection against signal efficiency; {best} keeps one background event in {words} of the signal."
    caption = (
        f"Below: background that {best} keeps, over that of the row (above 1: the row keeps less); grey: standard "
        "error. Drawn from ten effective background events on."
    )
    figure = draw_board.rejection_figure(found, sight.looks, best)
    right = sight.pictures.add("rejection", figure, alt, caption)
    rows = [(name, *(Cell(number(v), v) for v in _rejections(curve))) for name, curve in found.items()]
    headings = [("row", True), *((f"1 / ε_b at ε_s = {share:.0%}", False) for share in _WANTED)]
    return [wide([left, right]), table("Background rejection, weighted, out of fold", headings, rows, sortable=True)]


def _rejections(curve: Efficiency) -> list[float]:
    """Background rejection at the wanted signal efficiencies; infinite where no background is left."""
    at = [int(np.argmin(np.abs(curve.signal - share))) for share in _WANTED]
    with np.errstate(divide="ignore"):
        values: list[float] = (1.0 / curve.background[at]).tolist()
    return values


def blend(sight: Sight) -> list[str]:
    """Weights of the blend, and how alike the rows are."""
    figures, tables = [], []
    if sight.run.stack is not None:
        members = sorted(sight.run.stack["members"], key=lambda m: -abs(m["weight"]))
        words = ", ".join(f"{m['name']} {m['weight']:.2f}" for m in members[:4])
        alt = f"Weights of {len(members)} members in the blend; largest: {words}."
        figures.append(sight.pictures.add("blend-weights", draw_board.weights_figure(members), alt))
        rows = [(printable(m["name"]), Cell(f"{m['weight']:.3f}", m["weight"]), _over_folds(m)) for m in members]
        headings = [("member", True), ("weight", False), ("mean ± s.d. over folds", False)]
        method = printable(sight.run.stack.get("method", "?"))
        tables.append(table(f"Blend by the method {method}", headings, rows, sortable=True))
    names = [r["name"] for r in sight.run.rows]
    matrix = correlation(sight.run.scores, names)
    off = np.where(np.eye(len(names), dtype=np.bool_), np.nan, matrix)
    if np.isfinite(off).any():
        low, high = (divmod(int(at), len(names)) for at in (np.nanargmin(off), np.nanargmax(off)))
        alt = (
            f"Correlations of scores of {len(names)} rows; least alike: {names[low[0]]} and {names[low[1]]}, "
            f"{off[low]:.3f}; most: {names[high[0]]} and {names[high[1]]}, {off[high]:.3f}."
        )
        caption = "Weighted, inside a class, mean of both classes. A blend gains from members that are good and unlike."
        figure = draw_board.correlation_figure(matrix, [printable(n) for n in names])
        figures.append(sight.pictures.add("correlation", figure, alt, caption))
    return [wide(figures), *tables] if figures else []


def _over_folds(member: dict[str, Any]) -> Cell:
    mean, spread = member["weight_mean_over_folds"], member["weight_sd_over_folds"]
    return Cell(f"{mean:.3f} ± {spread:.3f}", mean)


def learning(sight: Sight) -> list[str]:
    """The learning curve, where one was measured."""
    points = sight.run.learning_curve
    if not points:
        return []
    last = max(points, key=lambda p: float(p["train_events"]))
    alt = f"Quality against training events; with {last['train_events']:,}: {last['name']} AMS "
    alt += f"{with_error(last['ams_cv'], last['ams_cv_se'])}."
    return [sight.pictures.add("learning-curve", draw_board.learning_figure(points, sight.looks), alt)]


def costs(sight: Sight) -> list[str]:
    """Quality against fitting time."""
    rows = [r for r in sight.run.rows if isinstance(r.get("fit_seconds"), (int, float)) and r["fit_seconds"] > 0.0]
    if not rows:
        return []
    ends = [min(rows, key=lambda r: float(r["fit_seconds"])), max(rows, key=lambda r: float(r["fit_seconds"]))]
    words = " and ".join(f"{r['name']} {number(r['fit_seconds'], 3)} s, AMS {r['ams_cv']:.2f}" for r in ends)
    alt = f"AMS and weighted AUC against the time of all fits; fastest and slowest: {words}."
    caption = "Bars: one standard error; hollow: a variant of the model. A busy machine takes longer."
    return [sight.pictures.add("cost", draw_board.cost_figure(rows, sight.looks), alt, caption)]


_REPLICAS = (50, 200)
"""Fewest and most bootstrap replicas; the standard error of a standard error is 10% with 50 of them."""

_DRAWS = 40_000_000
"""Events times rows times replicas that take a few seconds; above, there are fewer replicas."""


def average_ranks(folder: Path) -> tuple[RankPicture, ...]:
    """Rank the rows of a run by AMS and by weighted AUC; nothing where there is one row only.

    Args:
        folder: the run's folder.

    Raises:
        StoreError: if the run is damaged.
    """
    contenders, _ = load_contenders([str(folder)])
    if len(contenders) < 2:
        return ()
    size = sum(c.scores.size for c in contenders)
    found = rank_pictures(contenders, replicas=min(max(_DRAWS // size, _REPLICAS[0]), _REPLICAS[1]))
    return tuple(found[metric] for metric in ("ams", "auc") if metric in found)
