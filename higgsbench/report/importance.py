"""The section on what features are worth to the stored models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench.errors import HiggsbenchError, StoreError
from higgsbench.files import printable
from higgsbench.inference import subsample
from higgsbench.metrics.ams import ams
from higgsbench.metrics.estimates import roc_auc
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.pages import Cell, Gallery, Table, number, with_error
from higgsbench.pages.drawing import BACKGROUND, SIGNAL, SOFT, WIDTH, name_axis, new_figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.events import Events
    from higgsbench.pages import Part
    from higgsbench.report.context import Context
    from higgsbench.runs.predictor import FittedRun

_SHUFFLES = 3
_SECONDS = 6.0
_MOST, _FEWEST = 8_000, 1_000  # events that are scored with shuffled features
_EXPLAINED, _SHOWN = 1_000, 15  # events whose scores are split into features, and features in the figure
_DPI = 180  # resolution of the points, drawn as one image because thousands of shapes would take megabytes


def importance(context: Context) -> list[Part]:
    """Show what the best trained row loses when a feature is shuffled, and what features add to the best trees."""
    if context.models is None:
        return []
    if context.events.train is None:
        return ["The run's events are not available, so its models cannot score them."]
    out: list[Part] = []
    for name, part in (("Permutation importance", _permutations), ("What features add (TreeSHAP)", _contributions)):
        try:
            out += part(context, context.models, context.events.train)
        except HiggsbenchError as error:
            out.append(printable(f"{name} is not drawn: {error}."))
    return out


def _permutations(context: Context, models: FittedRun, train: Events) -> list[Part]:
    features = train.schema.features
    passes, slow = len(features) * _SHUFFLES + 1, []
    for record in (r for r in context.rows if r["name"] != "stack"):
        each = record.get("predict_us")
        limit = _SECONDS * 1e6 / (each * passes) if isinstance(each, (int, float)) and each > 0.0 else _MOST
        if limit >= _FEWEST:
            break
        slow.append(record["name"])
    else:
        raise StoreError(f"no row scores {_FEWEST:,} events {passes} times within {_SECONDS:g} s")
    score, frame, judge, where = _unseen(context, models, train, record, min(_MOST, int(limit)))
    found = permutation_importance(score, frame, judge, features)
    name = record["name"]
    pictures = []
    for metric, words in (("auc", "largest losses of weighted AUC"), ("ams", "losses of AMS")):
        first = ", ".join(f"{e.feature} {with_error(*e.loss(metric))}" for e in found[:5])
        alt = f"Permutation importance of {name} on {where}; {words}: {first}."
        pictures.append(context.pictures.add(f"importance-{metric}", importance_figure(found, metric), alt))
    intro = (
        f"Loss of {name} on {where} when one column is shuffled, mean of {_SHUFFLES} shuffles with its standard error; "
        "AMS at the frozen cut. Columns with the same content replace each other: a small loss does not mean that a "
        "column is useless."
    )
    intro += f" Better rows that would take too long: {', '.join(slow)}." if slow else ""
    lines = [
        (e.feature, Cell(f"{e.auc:.4f} ± {e.auc_se:.4f}", e.auc), Cell(f"{e.ams:.3f} ± {e.ams_se:.3f}", e.ams))
        for e in found
    ]
    headings = ["column", "loss of weighted AUC", "loss of AMS"]
    table = Table(f"Permutation importance of {printable(name)}", headings, lines, sortable=True)
    return [printable(intro), Gallery(pictures, "wide"), table]


def _unseen(
    context: Context, models: FittedRun, train: Events, record: dict[str, Any], most: int
) -> tuple[Callable[[pl.DataFrame], NDArray[np.float64]], pl.DataFrame, Judge, str]:
    """Return what scores events, and events new to it: out of fold, or held out where all models saw all others."""
    run, held_out, test = context.run, context.held_out, context.events.test
    rows = subsample(len(train), most)
    y, weight, frame = run.y[rows], run.weight[rows], train.frame[rows]
    where = f"{rows.size:,} training events, each scored by a model that did not see it"
    try:
        score = models.unseen(record["name"], run.event_id[rows])
    except HiggsbenchError:
        if held_out is None or test is None:
            raise
        rows = subsample(len(test), most)
        y, weight, frame = held_out.y[rows], held_out.weight[rows], test.frame[rows]
        score, where = models.held_out(record["name"]).scores, f"{rows.size:,} held-out events"
    weight = evaluation_weights(y, weight, *run.totals)
    return score, frame, Judge(y, weight, float(record["threshold"]), run.b_reg), where


class Judge(NamedTuple):
    """Truth (n,), evaluation weights (n,), frozen cut and b_reg, with which scores are evaluated."""

    y: NDArray[np.bool_]
    weight: NDArray[np.float64]
    threshold: float
    b_reg: float

    def __call__(self, score: NDArray[np.float64]) -> tuple[float, float]:
        """Return weighted AUC and AMS at the frozen cut of scores (n,)."""
        selected = self.weight * (score >= self.threshold)
        s, b = (max(float(np.sum(selected[part])), 0.0) for part in (self.y, ~self.y))
        return roc_auc(self.y, score, self.weight).value, ams(s, b, self.b_reg)


class Importance(NamedTuple):
    """Losses of weighted AUC and of AMS at the frozen cut when one feature is shuffled.

    Means over shuffles, with standard errors from the shuffles only, not from the finite number of events. Near zero or
    below, the feature does not matter to this model.
    """

    feature: str
    auc: float
    auc_se: float
    ams: float
    ams_se: float

    def loss(self, metric: str) -> tuple[float, float]:
        """Return the loss of `auc` or `ams`, and its standard error."""
        return (self.auc, self.auc_se) if metric == "auc" else (self.ams, self.ams_se)


def permutation_importance(
    score: Callable[[pl.DataFrame], NDArray[np.float64]], frame: pl.DataFrame, judge: Judge, features: Sequence[str]
) -> list[Importance]:
    """Shuffle one feature at a time and score again (Breiman, Machine Learning 45 (2001) 5, with weights).

    Only events that the model has not seen show what a feature is worth. Features with the same content replace each
    other, so that all of them can look unimportant.

    Returns:
        One entry per feature, the largest loss of weighted AUC first.
    """
    rng = np.random.default_rng(0)
    whole = np.array(judge(score(frame)))
    found = []
    for feature in features:
        orders = [rng.permutation(frame.height) for _ in range(_SHUFFLES)]
        shuffled = (frame.with_columns(frame[feature][order]) for order in orders)
        losses = np.array([whole - judge(score(events)) for events in shuffled])
        (auc, ams_), (auc_se, ams_se) = losses.mean(axis=0), losses.std(axis=0, ddof=1) / np.sqrt(_SHUFFLES)
        found.append(Importance(feature, float(auc), float(auc_se), float(ams_), float(ams_se)))
    return sorted(found, key=lambda entry: -entry.auc)


def importance_figure(found: Sequence[Importance], metric: str) -> Figure:
    """Draw the losses of a metric by shuffled feature, in the order given."""
    figure, ax = new_figure(WIDTH, 1.0 + 0.19 * len(found))
    values, errors = zip(*(entry.loss(metric) for entry in found), strict=True)
    ax.axvline(0.0, color=SOFT, linewidth=0.8)
    ax.errorbar(values, np.arange(len(found)), xerr=errors, fmt="o", markersize=3.5, color=BACKGROUND, capsize=2)
    ax.ticklabel_format(axis="x", style="plain", useOffset=False)
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel("loss of weighted AUC" if metric == "auc" else "loss of AMS at the frozen cut")
    name_axis(ax, [entry.feature for entry in found])
    return figure


def _contributions(context: Context, models: FittedRun, train: Events) -> list[Part]:
    run = context.run
    rows = subsample(len(train), _EXPLAINED)
    frame, event_id = train.frame[rows], run.event_id[rows]
    reasons = []
    for name in (r["name"] for r in context.rows if r["name"] != "stack"):
        try:
            features, values, parts = models.contributions(name, frame, event_id)
            break
        except HiggsbenchError as error:
            reasons.append(str(error))
    else:
        raise StoreError(next(iter(reasons), "no trained row"))
    weight = evaluation_weights(run.y[rows], run.weight[rows], 0.5, 0.5)
    sizes = weight @ np.abs(parts)
    order = np.argsort(-sizes, kind="stable")[:_SHOWN]
    first = ", ".join(f"{features[i]} {number(sizes[i], 2)}" for i in order[:5])
    figure = contribution_figure([features[i] for i in order], sizes[order], values[:, order], parts[:, order])
    alt = f"What features add to the log-odds of {name} (TreeSHAP); largest mean magnitudes: {first}."
    caption = (
        f"Exact Shapley values of the trees of {name}, {rows.size:,} training events, each by a model that did not see "
        "it if the run keeps one. Bars: mean magnitude, with equal weight of both classes; points: one event each, "
        "orange where the feature is large, blue where small, grey where missing."
    )
    picture = context.pictures.add("shap", figure, alt, printable(caption))
    return [Gallery([picture], "wide")]


def contribution_figure(
    features: Sequence[str], sizes: NDArray[np.float64], values: NDArray[np.float64], parts: NDArray[np.float64]
) -> Figure:
    """Draw what p features add to the log-odds of n events: mean magnitudes (p,) as bars, events as a swarm.

    `parts` (n, p) are what they add, and `values` (n, p) the features, NaN where missing.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from scipy.stats import rankdata

    height = 1.0 + 0.27 * len(features)
    figure, (bars, swarm) = new_figure(WIDTH, height, 1, 2, dpi=_DPI, sharey=True, width_ratios=(1, 2.4))
    bars.barh(range(len(features)), sizes, height=0.65, color=BACKGROUND, alpha=0.6)
    # No white in the middle: points must be visible on light and dark backgrounds.
    colors = LinearSegmentedColormap.from_list("values", [BACKGROUND, SOFT, SIGNAL]).with_extremes(bad=SOFT)
    swarm.axvline(0.0, color=SOFT, linewidth=0.8)
    heights = np.column_stack([place + _offsets(column) for place, column in enumerate(parts.T)])
    shades = (rankdata(values, axis=0, nan_policy="omit") - 0.5) / np.maximum(np.isfinite(values).sum(axis=0), 1)
    swarm.scatter(parts.ravel(), heights.ravel(), c=shades.ravel(), cmap=colors, vmin=0.0, vmax=1.0, s=3.0,
                  linewidths=0, rasterized=True, plotnonfinite=True)  # fmt: skip
    name_axis(bars, features)
    bars.set_xlabel("mean magnitude")
    swarm.set_xlabel("added to the log-odds of signal")
    return figure


def _offsets(parts: NDArray[np.float64], bins: int = 80) -> NDArray[np.float64]:
    """(n,) heights within ±0.4 that spread points of a bin evenly, wider where there are more."""
    low, high = float(parts.min(initial=0.0)), float(parts.max(initial=0.0))
    if not low < high:
        return np.zeros(parts.size)
    place = np.minimum(((parts - low) / (high - low) * bins).astype(np.int64), bins - 1)
    order = np.argsort(place, kind="stable")
    counts = np.bincount(place, minlength=bins)
    within = np.empty(parts.size, dtype=np.int64)
    within[order] = np.arange(parts.size) - np.repeat(np.cumsum(counts) - counts, counts)
    # Alternately above and below the line, outwards.
    steps = (within + 1) // 2 * np.where(within % 2 == 1, 1, -1)
    return np.asarray(0.8 * steps / counts.max(), dtype=np.float64)
