"""Sections that need the run's events: where selected events lie, and how systematic shifts change the selections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from higgsbench.ensemble.cut import cross_validated_selection
from higgsbench.errors import StoreError
from higgsbench.files import printable
from higgsbench.inference import change_of_ams, score_shifts
from higgsbench.inference.statistics import estimate_cell, processes_table
from higgsbench.metrics.estimates import suffixed
from higgsbench.metrics.spectators import spectator_metrics
from higgsbench.pages import Cell, Gallery, Table, number, percent
from higgsbench.pages.drawing import SERIES, SIGNAL, SOFT, WIDTH, name_quantity, new_figure
from higgsbench.report.context import draw_stack, histogram
from higgsbench.schema import ATLAS_HIGGS, UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.events import Events
    from higgsbench.inference import ShiftRow
    from higgsbench.metrics import Metric
    from higgsbench.pages import Part
    from higgsbench.report.context import Context
    from higgsbench.runs.stored import StoredRun

_MASSES = ("DER_mass_MMC", "DER_mass_vis")
LOOKS = ((SERIES[0], None), (SERIES[3], "...."), (SERIES[2], "////"), (SERIES[1], "++++"), (SOFT, None))
"""Colour and hatching of the background processes in figures, the largest first; the last is that of all others."""
_NAMES = {"W": "W + jets", "Z": "Z → ττ", "ttbar": "top pairs"}
_OTHER = "other background"
_SHIFT_SECONDS = 15.0  # limit for scoring nominal and shifted events, by the stored times per event
_ROUND = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_RECOGNISED = (
    "The challenge's files do not name processes; they are recognised by the weights, because events that were "
    "generated together share one weight. Signal has four values (one for ggF, one for VBF, two for VH), Z → ττ has "
    "thirteen, ttbar one, and the weights of W + jets are continuous; the ratios of these values are known. "
)
_NAMED = "The data name the process of each event. "
_MEANING = (
    "Expected: the sum of the evaluation weights of a process; selected: the part in the cross-validated selection; "
    "effective events: (Σw)² / Σw² of the selected ones. The wAUC of a signal process is against all background, that "
    "of a background process against all signal. Errors come from the finite number of events, at fixed cuts."
)

_SPECTATORS = (
    "A selection should not change the shape of a spectator. dCor: weighted distance correlation of score and "
    "spectator in signal (s) and background (b), 0 if they are independent. JSD: Jensen-Shannon divergence, in bits, "
    "between the background's shapes before and after the cut, which is chosen on the other folds."
)


def selection(context: Context) -> list[Part]:
    """Show the events that the best row selects, by jet number and mass."""
    events = context.events.train
    features = () if events is None else features_of(events)
    if events is None or not features:
        return []
    record = context.rows[0]
    share = np.mean(context.scores.by_row[record["name"]] >= record["threshold"], axis=0)
    weight = context.scores.weight * share
    parts = stacked(context.run)
    pictures = []
    for feature in features:
        figure = selection_figure(feature, parts, weight)
        words = _selection_words(feature, context.run.y, weight)
        pictures.append(context.pictures.add(f"selected-{feature.name}", figure, *words))
    intro = (
        f"Events that {printable(record['name'])}, the best row, selects at its frozen cut, out of fold; stacked "
        "expected events with their standard error (hatched), signal on top and again, enlarged (dashed)."
    )
    return [intro, Gallery(pictures)]


def processes(context: Context) -> list[Part]:
    """Show each process in the selection of the best row, and the efficiencies and AUCs of all rows."""
    complete = {row.name: row for row in context.run.rows if row.ok}
    found = {r["name"]: complete[r["name"]].processes for r in context.rows}
    best, names = next(iter(found)), list(dict.fromkeys(name for own in found.values() for name in own))
    if not names:
        return []
    how = _RECOGNISED if context.run.comparability.get("layout") == ATLAS_HIGGS.name else _NAMED
    out: list[Part] = [how + _MEANING, processes_table({best: found[best]}, f"Processes in the selection of {best}")]
    for caption, scale in (("efficiency [%]", 100.0), ("wAUC", 1.0)) if len(found) > 1 else ():
        rows: list[list[str | Cell]] = []
        for row, own in found.items():
            known = (own[name].efficiency if scale > 1.0 else own[name].auc for name in names)
            rows.append([printable(row), *(estimate_cell(estimate, scale) for estimate in known)])
        headings = ["row", *map(printable, names)]
        out.append(Table(f"All rows: {caption} of each process", headings, rows, sortable=True))
    return out


class Feature(NamedTuple):
    """A measured quantity: column, unit (empty for a number, None if unknown), values (n,), whether it is a count."""

    name: str
    unit: str | None
    values: NDArray[np.float64]
    whole: bool


def features_of(events: Events) -> tuple[Feature, ...]:
    """Return the quantities by which selected events are shown: the jet number and masses."""
    schema = events.schema
    names = [] if schema.group is None else [schema.group]
    names += [name for name in _MASSES if name in schema.features]
    units = UNITS if schema.name == ATLAS_HIGGS.name else {}
    columns = {name: events.frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in names}
    return tuple(Feature(name, units.get(name), values, name == schema.group) for name, values in columns.items())


def stacked(run: StoredRun) -> dict[str, NDArray[np.bool_]]:
    """Return the stacked parts of figures from the bottom (background processes, signal), and their events (n,)."""
    known = run.processes
    if known is None:
        return {"background": ~run.y, "signal": run.y}
    names = [name for name, signal in zip(known.names, known.signal, strict=True) if not signal]
    own, most = known.by_event, len(LOOKS) - (len(names) > len(LOOKS))
    parts = {_NAMES.get(name, name): own == name for name in names[:most]}
    if names[most:]:
        parts[_OTHER] = np.isin(own, names[most:])
    return dict(reversed(parts.items())) | {"signal": run.y}


def edges_of(feature: Feature, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bin edges: one bin per number of a count, otherwise 25 bins that hold the selected events except the last 1%."""
    values = feature.values[(weight > 0.0) & np.isfinite(feature.values)]
    if not values.size:
        return np.array([0.0, 1.0])
    if feature.whole:
        return np.arange(np.min(values) - 0.5, np.max(values) + 1.0)
    low, high = np.quantile(values, [0.005, 0.99])
    return np.linspace(low, high if high > low else low + 1.0, 26)


def selection_figure(feature: Feature, parts: dict[str, NDArray[np.bool_]], weight: NDArray[np.float64]) -> Figure:
    """Draw selected events stacked by process, signal on top, and the signal alone again, enlarged.

    `parts` are those of `stacked`; `weight` (n,) is zero outside the selection.
    """
    figure, ax = new_figure(3.6, 2.6)
    edges = edges_of(feature, weight)
    inside = (feature.values >= edges[0]) & (feature.values <= edges[-1])
    found = {name: histogram(feature.values[inside & of], weight[inside & of], edges) for name, of in parts.items()}
    looks = [*LOOKS[: len(parts) - 1][::-1], (SIGNAL, None)]
    base, high = draw_stack(ax, edges, found, looks, "standard error")
    signal = found["signal"][0]
    if signal.max(initial=0.0) > 0.0:
        factor = max((f for f in _ROUND if f * signal.max() <= base.max()), default=1)
        ax.stairs(factor * signal, edges, color=SIGNAL, linewidth=1.6, linestyle="--", label=f"signal × {factor}")
    ax.set(xlim=(float(edges[0]), float(edges[-1])), ylim=(0.0, max(1.45 * float(np.max(high)), 1e-9)))
    name_quantity(ax, feature.name, feature.unit)
    ax.set_ylabel("expected events")
    if not feature.whole:
        ax.set_ylabel(f"expected events / {edges[1] - edges[0]:.3g} {feature.unit or ''}".rstrip())
    else:
        ax.set_xticks(np.arange(np.ceil(edges[0]), edges[-1]))
    ax.legend(loc="upper right", ncols=3, fontsize=6.5, columnspacing=1.0, handlelength=1.6)
    return figure


def _selection_words(feature: Feature, signal: NDArray[np.bool_], weight: NDArray[np.float64]) -> tuple[str, str]:
    """Return a figure's description, with the essential numbers, and its caption."""
    unit = f" {feature.unit}" if feature.unit else ""
    parts = []
    present = np.isfinite(feature.values)
    for label, members in (("signal", signal & present), ("background", ~signal & present)):
        values, w = feature.values[members], weight[members]
        if not w.sum() > 0.0:
            continue
        if feature.whole:
            shares = [(v, float(w[values == v].sum() / w.sum())) for v in np.unique(values)]
            parts.append(f"{label} " + ", ".join(f"{v:g}: {percent(s)}" for v, s in shares))
        else:
            mean = float(np.average(values, weights=w))
            spread = float(np.sqrt(np.average((values - mean) ** 2, weights=w)))
            parts.append(f"{label} mean {number(mean)}{unit}, standard deviation {number(spread)}{unit}")
    missing = float(weight[~present].sum() / max(weight.sum(), 1e-300))
    caption = f"Missing in {percent(missing)} of the selected expected events." if missing > 0.0 else ""
    return f"{feature.name} of selected events; {'; '.join(parts)}.", caption


def spectators(context: Context) -> list[Part]:
    """Show how scores depend on the spectators, and the shape of each in background before and after the cut."""
    out: list[Part] = []
    for name, values in context.run.spectators.items():
        metrics = spectator_metrics(name)
        rows = [[printable(r["name"]), *(_measured(r, metric) for metric in metrics)] for r in context.rows]
        figure = _shape_figure(context, name, values)
        first = ", ".join(f"{row[0]} {row[-1]}" for row in rows[:4])
        alt = f"{name} of background before and after the cut of each row; {metrics[-1].heading}: {first}."
        out.append(Gallery([context.pictures.add(f"spectator-{name}", figure, printable(alt))], "wide"))
        out.append(Table(printable(name), ["row", *(metric.heading for metric in metrics)], rows, sortable=True))
    return [_SPECTATORS + context.left_out, *out] if out else []


def _measured(record: Mapping[str, Any], metric: Metric) -> str | Cell:
    found = (record.get(key) for key in (metric.key, suffixed(metric.key, "se")))
    value, se = (float(v) if isinstance(v, (int, float)) else np.nan for v in found)
    return Cell(metric.shown(value, se), value)


def _shape_figure(context: Context, name: str, values: NDArray[np.float64]) -> Figure:
    """Draw the shape of a spectator (n,) in all background and in the background that each row selects."""
    run, present = context.run, np.isfinite(values) & ~context.run.y
    inside = values[present]
    whole = bool((inside == np.round(inside)).all())
    edges = edges_of(Feature(name, None, inside, whole), run.weight[present])
    figure, ax = new_figure(WIDTH, 3.0)
    shares = {"all background": np.ones(run.y.size)}
    for record in context.drawn:
        row = run.row(record["name"])
        chosen = [cross_validated_selection(score, row.truth, r) for r, score in enumerate(row.scores)]
        shares[row.name] = np.mean(chosen, axis=0)
    for label, share in shares.items():
        weight = (run.weight * share)[present]
        content = np.histogram(inside, edges, weights=weight)[0] / max(float(weight.sum()), 1e-300)
        look = {key: value for key, value in context.looks.get(label, {}).items() if key in ("color", "linestyle")}
        filled = {"fill": True, "color": SOFT, "alpha": 0.3} if label == "all background" else look
        ax.stairs(content, edges, label=printable(label), **filled)
    ax.set(xlim=(float(edges[0]), float(edges[-1])), ylabel="share of the background")
    name_quantity(ax, name, UNITS.get(name))
    figure.legend(loc="outside upper right", ncols=3, fontsize=7)
    return figure


def shifts(context: Context) -> list[Part]:
    """Show selected counts and AMS under the systematic shifts that the caller names."""
    if not context.systematics:
        return []
    run = context.run
    if context.models is None:
        raise StoreError(f"{run.folder}: --shift needs the run's stored models")
    found = score_shifts(
        run, context.events, context.systematics, context.models, [r["name"] for r in context.drawn],
        file=context.shift_events, seconds=_SHIFT_SECONDS,
    )  # fmt: skip
    intro = (
        f"Shifts: {'; '.join(map(str, context.systematics))}. The stored models score {found.where}, nominal and "
        "shifted; each row selects at its frozen cut. Weights keep the factors of the nominal events, so that events "
        "which a shift moves out of the selection are lost and not scaled away. ± of a change: both selections are on "
        "the same simulated events."
    )
    out: list[Part] = [printable(intro), *map(printable, found.notes)]
    if not found.rows:
        return out
    tables = {name: scored.table(run.row(name).cut.threshold, run.b_reg) for name, scored in found.rows.items()}
    worst = {name: min(rows[1:], key=lambda r: r.ams_change) for name, rows in tables.items()}
    first = ", ".join(f"{name} {row.name} {change_of_ams(row)}" for name, row in list(worst.items())[:4])
    alt = printable(f"Change of the AMS of {len(tables)} rows under systematic shifts; lowest: {first}.")
    caption = "Bars: one standard error of the change, from the finite number of simulated events."
    out.append(context.pictures.add("shifts", shift_figure(tables, context.looks), alt, caption))
    headings = ["row", "shift", "s selected", "Δs", "b selected", "Δb", "AMS", "ΔAMS"]
    lines = [(printable(name), *_cells(row)) for name, rows in tables.items() for row in rows]
    table = Table("Selection at the frozen cut under systematic shifts", headings, lines, text=(0, 1), sortable=True)
    return [*out, table]


def _cells(row: ShiftRow) -> tuple[str | Cell, ...]:
    s, b, top = Cell(number(row.s), row.s), Cell(number(row.b), row.b), Cell(f"{row.ams:.3f}", row.ams)
    if row.name == "nominal":
        none = Cell("", None)
        return row.name, s, none, b, none, top, none
    changes = (Cell(f"{100 * change:+z.2f}%", change) for change in (row.s_change, row.b_change))
    return printable(row.name), s, next(changes), b, next(changes), top, Cell(change_of_ams(row), row.ams_change)


def shift_figure(rows: Mapping[str, Sequence[ShiftRow]], looks: Mapping[str, dict[str, Any]]) -> Figure:
    """Draw the change of the AMS under every shift with one standard error, a marker per row.

    `rows` holds the selections by the row's name, nominal first, with the same shifts in all of them.
    """
    shifts = [row.name for row in next(iter(rows.values()))[1:]]
    figure, ax = new_figure(WIDTH, 1.5 + (0.25 + 0.12 * len(rows)) * len(shifts))
    at = np.arange(len(shifts), dtype=np.float64)
    ax.axvline(0.0, color=SOFT, linewidth=0.8)
    for place, (name, found) in enumerate(rows.items()):
        offset = 0.8 * ((place + 0.5) / len(rows) - 0.5)
        ax.errorbar([r.ams_change for r in found[1:]], at + offset, xerr=[r.ams_change_se for r in found[1:]],
                    markersize=4, capsize=2, label=printable(name), **looks[name] | {"linestyle": ""})  # fmt: skip
    for edge in at[1:] - 0.5:
        ax.axhline(edge, color=SOFT, alpha=0.3, linewidth=0.6)
    ax.set_yticks(at, [printable(name) for name in shifts])
    ax.set_ylim(len(shifts) - 0.5, -0.5)
    ax.set_xlabel("change of the AMS [standard deviations]")
    figure.legend(loc="outside upper right", ncols=3, fontsize=7)
    return figure
