"""Expected significances of stored models: at the honest cut, with background uncertainties, by shape, under shifts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.ensemble import REPLICAS, poisson_counts
from higgsbench.ensemble.cut import cross_validated_selection, scale_to_totals
from higgsbench.errors import ConfigError, HiggsbenchWarning, MetricError
from higgsbench.files import printable
from higgsbench.inference import change_of_ams, scored_row
from higgsbench.inference.events import parse_systematics
from higgsbench.inference.interval import built_models, fit_model, not_kept
from higgsbench.inference.workspace import Template, build_workspace, expected_results, shifted_template
from higgsbench.metrics.ams import ams
from higgsbench.metrics.estimates import Value
from higgsbench.metrics.significance import (
    BinnedSums,
    BinningRules,
    asimov_significance,
    bin_sums,
    combined_significance,
    optimal_edges,
)
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.pages import Cell, Shown, Table, count, number, with_error
from higgsbench.runs import store_analysis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.ensemble.cut import Truth
    from higgsbench.inference import ScoredShifts, ShiftRow
    from higgsbench.inference.events import Shift
    from higgsbench.inference.interval import ModelFit
    from higgsbench.inference.workspace import Expected
    from higgsbench.metrics import ProcessMetrics
    from higgsbench.metrics.estimates import Estimate
    from higgsbench.runs.stored import StoredRow

_SEED = 20140912
_SINGLE = "a workspace, a fit and shifts need a single model: choose it with --model (`models` in Python)"

LEGEND = (
    "Honest cut and bins: chosen on the other folds. Z: Asimov significance without regularisation; Z(x%): with a "
    "relative background uncertainty of x%; shape: bins of the score together, x% in each bin independently. ± from "
    "the finite number of simulated events at these cuts; for the leaderboard's ± every replica chooses its own cuts."
)


@dataclass(frozen=True)
class ModelSignificance:
    """Expected discovery significances of a model, first repeat.

    Attributes:
        name: the model.
        s: selected signal at the honest cut, b: background, fraction: selected share of events.
        ams: regularised AMS.
        z: Asimov significance without regularisation and uncertainty.
        z_sigma: Asimov significance by relative background uncertainty.
        shape: significance of the binned score, without and with each relative uncertainty (0 first); empty where the
            events do not fill one bin.
        bins: content of the bins of the score; None where the events do not fill one bin.
        processes: numbers of each process in the selection; empty if the processes are not known.
        selected: (n,) the honest selection.
        truth: (n,) labels and weights of the same events, in the order of their numbers.
    """

    name: str
    s: Value
    b: Value
    fraction: float
    ams: Value
    z: Value
    z_sigma: dict[float, Value]
    shape: dict[float, Value]
    bins: BinnedSums | None
    processes: dict[str, ProcessMetrics]
    selected: NDArray[np.bool_]
    truth: Truth


@dataclass(frozen=True, repr=False)
class Statistics(Shown):
    """Expected significances of models, and what is built on them.

    Attributes:
        models: expected significances, one per model.
        shifts: the selection under systematic shifts, nominal first; empty without shifts.
        workspace: HistFactory workspace of the one model; None if none was needed, or it cannot be built.
        expected: results of the workspace; None when no fit was asked for.
        fit: fit of the statistical model with regions, if there is one.
        notes: remarks for the reader, such as which events are used and what is not stored.
    """

    models: tuple[ModelSignificance, ...]
    shifts: tuple[ShiftRow, ...] = ()
    workspace: dict[str, Any] | None = None
    expected: Expected | None = None
    fit: ModelFit | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Name the best model; `as_tables` shows everything."""
        best = max(self.models, key=lambda m: m.z.value)
        return f"<Statistics of {len(self.models)} rows, highest Z {best.z.value:.3f} ± {best.z.se:.3f} ({best.name})>"

    def as_tables(self) -> list[Table]:
        """Return the tables of the models, processes and shifts that exist."""
        sigmas = self.models[0].z_sigma
        shapes = dict.fromkeys((0.0, *sigmas))
        head = ["model", "selected", "s", "b", "AMS", "Z", *(f"Z({100 * sigma:g}%)" for sigma in sigmas)]
        head += [f"shape Z({100 * sigma:g}%)" if sigma else "shape Z" for sigma in shapes]
        rows = []
        for m in self.models:
            values = (m.ams, m.z, *m.z_sigma.values(), *m.shape.values())
            cells = [with_error(v.value, v.se) for v in (m.s, m.b)]
            cells += [f"{v.value:,.3f} ± {v.se:,.3f}" for v in values]
            bins = ["-"] * (len(shapes) + 1) if m.bins is None else [str(m.bins.s.size)]
            rows.append([printable(m.name), f"{100 * m.fraction:.1f}%", *cells, *bins])
        out = [Table("", [*head, "bins"], rows)]
        if any(m.processes for m in self.models):
            caption = "Processes in the selection, ± at these cuts"
            out.append(processes_table({m.name: m.processes for m in self.models}, caption))
        if self.shifts:
            table = [
                [r.name, f"{r.s:,.1f}", f"{r.b:,.1f}", f"{100 * r.s_change:+z.2f}%", f"{100 * r.b_change:+z.2f}%",
                 f"{r.ams:.3f}", change_of_ams(r)]
                for r in self.shifts
            ]  # fmt: skip
            out.append(Table("", ["shift", "s", "b", "Δs", "Δb", "AMS", "ΔAMS"], table))
        return out if self.fit is None else [*out, *self.fit.as_tables()]

    def records(self) -> list[dict[str, Any]]:
        """Return one record per model; a key names the quantity and the background uncertainty, e.g. `z 0.05`."""
        return [_record(model) for model in self.models]

    def remarks(self) -> list[str]:
        """Return the results of a fit, notes and the legends."""
        words = [] if self.expected is None else [_fit_in_words(self.expected)]
        words += [] if self.fit is None else self.fit.remarks()
        return [*words, *(f"Note: {printable(note)}" for note in self.notes), LEGEND]


def run_statistics(
    rows: Sequence[StoredRow],
    *,
    sigma_b: Sequence[float] = (),
    rules: BinningRules | None = None,
    workspace: bool = False,
    fit: bool = False,
    counting: bool = False,
    mc_stat: bool = True,
    shifts: Sequence[Shift | str] = (),
    events: Path | None = None,
    nominal: Path | None = None,
) -> Statistics:
    """Compute expected significances and, for a single model, what builds on them.

    A workspace or fit that fails becomes a warning; everything else is returned. Arguments are those of
    `higgsbench.stats`, with the rows of a stored run instead of the run.

    Raises:
        ConfigError: if options contradict each other.
        MissingExtraError: if a fit needs pyhf and it is not installed.
    """
    if (nominal is not None and events is None) or (events is not None and nominal is None and not shifts):
        raise ConfigError("--events, --nominal and --shift belong together")
    systematics = parse_systematics(shifts)
    single = workspace or fit or bool(systematics) or nominal is not None
    if single and len(rows) > 1:
        raise ConfigError(_SINGLE)
    if single and len(sigma_b) > 1:
        raise ConfigError("a workspace has one background uncertainty: give --sigma-b once")
    sigma = sigma_b[0] if sigma_b else 0.0
    rules = rules or BinningRules(sigma_b=sigma)
    found = tuple(model_significance(row, sigma_b, rules) for row in rows)
    if not single:
        return Statistics(found)
    row = rows[0]
    scored = scored_row(row, systematics, events, nominal) if systematics or nominal is not None else None
    table = () if scored is None else tuple(scored.table(row.cut.threshold, row.run.b_reg))
    built, expected = None, None
    problems: tuple[str, ...] = ()
    try:
        template = _template(row, found[0], scored, rules, counting=counting)
        built = build_workspace(template, sigma_b=sigma, mc_stat=mc_stat)
    except MetricError as error:
        problems = (f"no workspace{', so no fit' if fit else ''}: {error}",)
    if fit and built is not None:
        expected = expected_results(built)
        problems = expected.problems
    for problem in problems if workspace or fit else ():
        warnings.warn(f"{row.name}: {problem}", HiggsbenchWarning, stacklevel=2)
    return Statistics(found, table, built, expected)


def region_statistics(
    rows: Sequence[StoredRow], rules: BinningRules | None, *, regions: Path | None, fit: bool
) -> Statistics:
    """Compute the expected significances of a single model and the workspace of its regions, and maybe fit it.

    Raises:
        HiggsbenchError: if there is more than one row, or `built_models` or `fit_model` fails.
    """
    if len(rows) > 1:
        raise ConfigError(_SINGLE)
    row, found = rows[0], (model_significance(rows[0], (), rules),)
    events, models, digest = built_models(row.run, [row.name], regions)
    model = models[row.name]
    where = f"The regions use {events.where}; the significances use training events, out of fold."
    notes = (where, *events.notes, *([] if regions is None else [not_kept(regions)] * fit))
    if not fit:
        return Statistics(found, workspace=model.workspace, notes=notes)
    fitted = fit_model(model)
    if regions is None:
        store_analysis(events.run, {row.name: {"model": digest, "fit": fitted.content}})
    return Statistics(found, (), model.workspace, fitted.expected, fitted, notes)


def _template(
    row: StoredRow, model: ModelSignificance, scored: ScoredShifts | None, rules: BinningRules, *, counting: bool
) -> Template:
    """Return the bins of a workspace: the cut as one bin or a shape, of out-of-fold scores or of shifted events."""
    truth, keep = model.truth, model.selected
    if scored is not None and counting:
        return shifted_template(scored, np.array([-np.inf, row.cut.threshold]), selected_only=True)
    if scored is not None:
        edges = optimal_edges(truth.y, _first_repeat(row)[0], truth.weight, rules)[-1]
        return shifted_template(scored, edges, selected_only=False)
    if counting:
        return Template(bin_sums(truth.y[keep], np.zeros(keep.sum(), np.int64), truth.weight[keep], 1))
    if model.bins is None:
        raise MetricError("the events do not fill one bin of the score; choose --counting (`counting` in Python)")
    return Template(model.bins)


def _first_repeat(row: StoredRow) -> tuple[NDArray[np.float64], Truth]:
    """Return scores (n,) of the first repeat and their truth, in the order of the event numbers."""
    order = row.run.by_event
    return row.scores[0, order], row.truth.at(order)


def honest_bins(score: NDArray[np.float64], truth: Truth, rules: BinningRules) -> tuple[NDArray[np.int64], int]:
    """Bin events of each fold by edges chosen on the other folds' scores; the folds of the first repeat are used.

    All folds get the same number of bins, the largest that the rules allow in each; bin i of all folds is pooled.

    Returns:
        (n,) bin of each event, background-like first, and the number of bins.

    Raises:
        MetricError: if the events of some folds do not fill one bin.
    """
    fold = truth.fold[0]
    per_fold = []
    for k in range(int(fold.max()) + 1):
        rest = fold != k
        weight = evaluation_weights(truth.y[rest], truth.weight[rest], *truth.totals)
        per_fold.append(optimal_edges(truth.y[rest], score[rest], weight, rules))
    bins = min(len(edges) for edges in per_fold)
    index = np.zeros(score.size, dtype=np.int64)
    for k, edges in enumerate(per_fold):
        held_out = fold == k
        index[held_out] = np.searchsorted(edges[bins - 1], score[held_out], side="right") - 1
    return index, bins


def model_significance(
    row: StoredRow, sigma_b: Sequence[float] = (), rules: BinningRules | None = None, replicas: int = REPLICAS
) -> ModelSignificance:
    """Compute the expected significances of a model from its out-of-fold scores of the first repeat.

    Args:
        row: the model.
        sigma_b: relative background uncertainties.
        rules: binning of the shape; its `sigma_b` is what the bins are optimised for.
        replicas: number of replicas of the event bootstrap, at fixed cut and bins, that gives the errors.

    Raises:
        MetricError: for a negative uncertainty.

    Warns:
        HiggsbenchWarning: if the events do not fill one bin and the shape is left out, or if an uncertainty is over 1.
    """
    score, truth = _first_repeat(row)
    for value in sigma_b:
        if not 0.0 <= value < np.inf:
            raise MetricError(f"a relative background uncertainty must be finite and not negative, got {value}")
        if value > 1.0:
            said = f"a relative background uncertainty of {value:g} is {100.0 * value:g}%"
            meant = f"if you mean {value:g}%, write {value:g}% (command line) or {value / 100.0:g}"
            warnings.warn(f"{said}; {meant}", HiggsbenchWarning, stacklevel=2)
    selected, shape = cross_validated_selection(score, truth, 0), True
    try:
        index, bins = honest_bins(score, truth, rules or BinningRules())
    except MetricError as error:
        shape, index, bins = False, np.zeros(score.size, dtype=np.int64), 1
        warnings.warn(f"{row.name}: the shape is left out: {error}", HiggsbenchWarning, stacklevel=2)
    place = (truth.y * bins + index) * 2 + selected  # class, bin of the shape, unselected or selected

    def found(counts: NDArray[np.float64] | NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        sums = np.array([np.bincount(place, truth.weight * c, 4 * bins) for c in counts]).reshape(-1, 2, 2 * bins)
        return _quantities(np.maximum(sums * scale_to_totals(sums, truth.totals), 0.0), truth.b_reg, sigma_b)

    central = found(np.ones((1, truth.y.size)))
    rng = np.random.default_rng(_SEED)
    steps = [min(50, replicas - first) for first in range(0, replicas, 50)]
    parts = [found(poisson_counts(rng, (step, truth.y.size))) for step in steps]
    spread = {key: float(np.std(np.concatenate([part[key] for part in parts]), ddof=1)) for key in central}
    values = {key: Value(float(value[0]), spread[key]) for key, value in central.items()}
    return ModelSignificance(
        name=row.name,
        **{key: values[key] for key in ("s", "b", "ams", "z")},
        fraction=float(selected.mean()),
        z_sigma={sigma: values[f"z {sigma}"] for sigma in sigma_b},
        shape={sigma: values[f"shape {sigma}"] for sigma in dict.fromkeys((0.0, *sigma_b)) if shape},
        bins=bin_sums(truth.y, index, truth.weight, bins) if shape else None,
        processes=truth.measured(score[None], selected[None]),
        selected=selected,
        truth=truth,
    )


def _quantities(sums: NDArray[np.float64], b_reg: float, sigma_b: Sequence[float]) -> dict[str, NDArray[np.float64]]:
    """All numbers of each replica from sums (replicas, class, bin x unselected or selected) at the totals."""
    b, s = (sums[:, c, 1::2].sum(axis=1) for c in (0, 1))
    bin_b, bin_s = (sums[:, c, 0::2] + sums[:, c, 1::2] for c in (0, 1))
    out = {"s": s, "b": b, "ams": np.atleast_1d(ams(s, b, b_reg)), "z": asimov_significance(s, b)}
    for sigma in dict.fromkeys((0.0, *sigma_b)):
        out[f"z {sigma}"] = asimov_significance(s, b, sigma, relative=True)
        shapes = [combined_significance(i, j, sigma, relative=True) for i, j in zip(bin_s, bin_b, strict=True)]
        out[f"shape {sigma}"] = np.array(shapes)
    return out


def estimate_cell(found: Estimate | None, scale: float = 1.0) -> Cell:
    """Return a cell with a value and its standard error, times a scale; a dash if there is no value."""
    return Cell("-", None) if found is None else Cell(with_error(scale * found.value, scale * found.se), found.value)


def processes_table(models: Mapping[str, Mapping[str, ProcessMetrics]], caption: str) -> Table:
    """Return the yields of each process in the selection of each model; a single model is not named."""
    head = ["model", "process", "class", "expected", "selected", "efficiency [%]", "effective events", "wAUC"]
    rows: list[list[str | Cell]] = []
    for model, processes in models.items():
        for name, p in processes.items():
            texts = [printable(model), printable(name), "signal" if p.signal else "background"]
            sums = [Cell(number(p.total), p.total), estimate_cell(p.selected)]
            effective = Cell(count(p.effective), p.effective)
            rows.append([*texts, *sums, estimate_cell(p.efficiency, 100.0), effective, estimate_cell(p.auc)])
    ends = [at for at, (one, other) in enumerate(pairwise(rows)) if one[0] != other[0]]
    first = int(len(models) == 1)
    cells = [row[first:] for row in rows]
    return Table(caption, head[first:], cells, text=range(3 - first), sortable=True, rules=ends)


def _record(model: ModelSignificance) -> dict[str, Any]:
    values = {name: getattr(model, name) for name in ("s", "b", "ams", "z")}
    values |= {f"z {sigma:g}": value for sigma, value in model.z_sigma.items()}
    values |= {f"shape {sigma:g}": value for sigma, value in model.shape.items()}
    out = {"name": model.name, "fraction": model.fraction}
    for name, value in values.items():
        out |= {name: value.value, f"{name}_se": value.se}
    return out


def _fit_in_words(found: Expected) -> str:
    z, limit, band = found.z, found.upper_limit, found.band
    line = f"pyhf: expected significance {'not found' if z is None else f'{z:.3f}'}; expected 95% CLs limit on the "
    return line + "signal strength " + (f"{limit:.3f} (68%: {band[1]:.3f} to {band[3]:.3f})" if band else "not found")


def content(found: Statistics) -> dict[str, Any]:
    """Return everything at full precision, for JSON."""
    models = [
        {
            "name": m.name,
            "fraction": m.fraction,
            **{name: vars(getattr(m, name)) for name in ("s", "b", "ams", "z")},
            "z_sigma_b": [{"sigma_b": sigma, **vars(v)} for sigma, v in m.z_sigma.items()],
            "shape": [{"sigma_b": sigma, **vars(v)} for sigma, v in m.shape.items()],
            "bins": m.bins and {name: values.tolist() for name, values in vars(m.bins).items()},
            "processes": {name: found.numbers for name, found in m.processes.items()},
        }
        for m in found.models
    ]
    pyhf = found.expected and vars(found.expected)
    fit = found.fit and found.fit.content
    return {"models": models, "shifts": [vars(row) for row in found.shifts], "pyhf": pyhf, "fit": fit}
