"""The 68% interval of the signal strength: expected, with pulls and impacts, and in pseudo-experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench.challenge import event_notes
from higgsbench.errors import ConfigError, MetricError, StoreError
from higgsbench.files import canonical_digest, printable
from higgsbench.inference.experiments import Drawing
from higgsbench.inference.regions import load_model_events, row_model
from higgsbench.inference.workspace import POI, Expected, Likelihood, expected_results
from higgsbench.metrics.significance import interval_score
from higgsbench.pages import Cell, Shown, Table, number, with_error
from higgsbench.runs import store_analysis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.inference.regions import ModelEvents, RowModel
    from higgsbench.runs.stored import StoredRun

_REPLICAS = 500

LEGEND = (
    "Expected results on the Asimov data of signal plus background. Yields: expected events with the error of the "
    "simulation. Half widths are cumulative: from the data alone, then also from the number of simulated events, then "
    "also from the systematics. Pull: best value of a nuisance parameter in prior standard deviations; its error is "
    "below 1 where the regions constrain it. Impact: change of the signal strength when the parameter moves by one of "
    "these errors."
)


class Impact(NamedTuple):
    """A nuisance parameter after the expected fit.

    Attributes:
        name: its name.
        pull: its best value, in prior standard deviations; error: its standard error.
        up, down: change of the best signal strength if it is fixed one standard error higher or lower.
    """

    name: str
    pull: float
    error: float
    up: float
    down: float


class Yield(NamedTuple):
    """Expected events (k,) per bin of a region, and their simulation errors."""

    events: tuple[float, ...]
    errors: tuple[float, ...]

    @property
    def total(self) -> str:
        """The sum with its error."""
        return with_error(sum(self.events), float(np.hypot.reduce(self.errors)))


@dataclass(frozen=True)
class ModelFit(Shown):
    """Expected results of the statistical model of one row, on the Asimov data of signal plus background.

    Attributes:
        name: the row.
        yields: expected events per bin and their simulation errors, by region and process.
        interval: best signal strength and the ends of its 68% interval.
        parts: half widths of the interval, from the data alone, with simulation statistics, and with everything;
            cumulative, so that the last is that of the interval.
        impacts: nuisance parameters, the largest impact first.
        expected: significance and limit.
    """

    name: str
    yields: Mapping[str, Mapping[str, Yield]]
    interval: tuple[float, float, float]
    parts: tuple[float, float, float]
    impacts: tuple[Impact, ...]
    expected: Expected

    def as_tables(self) -> list[Table]:
        """Return yields, the interval and the nuisance parameters."""
        names = list(dict.fromkeys(name for region in self.yields.values() for name in region))
        rows = [
            [printable(region), *(own[name].total if name in own else "-" for name in names)]
            for region, own in self.yields.items()
        ]
        best, low, high = self.interval
        cells = [f"{best:.3f}", f"{low:.3f} to {high:.3f}", *(f"{part:.3f}" for part in self.parts)]
        found = self.expected
        cells += ["-" if found.z is None else f"{found.z:.3f}"]
        cells += [f"{found.band[2]:.3f} ({found.band[1]:.3f} to {found.band[3]:.3f})" if found.band else "-"]
        heads = ["mu", "68% interval", "half width: data", "and simulation", "and systematics", "Z", "limit (68%)"]
        pulls: list[list[str | Cell]] = [
            [printable(i.name), f"{i.pull:+z.2f} ± {i.error:.2f}", Cell(f"{i.up:+z.4f}", i.up), f"{i.down:+z.4f}"]
            for i in self.impacts
        ]
        title = f"{printable(self.name)}: "
        return [
            Table(f"{title}expected events", ["region", *map(printable, names)], rows, text=(0,)),
            Table(f"{title}expected fit", heads, [cells], text=()),
            Table(f"{title}nuisance parameters", ["parameter", "pull", "impact +1σ", "impact -1σ"], pulls, text=(0,)),
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return one record per nuisance parameter."""
        return [impact._asdict() for impact in self.impacts]

    def remarks(self) -> list[str]:
        """Say what could not be computed and what dominates, and explain the tables."""
        problems = [f"{printable(self.name)}: {problem}" for problem in self.expected.problems]
        return [*problems, *self.advice(), LEGEND]

    def advice(self) -> list[str]:
        """Say so if the number of simulated events contributes more to the width than the data."""
        data, simulation, _ = self.parts
        if simulation**2 <= 2.0 * data**2:
            return []
        widths = f"half width {simulation:.3g}, {data:.3g} from the data alone"
        return [f"{printable(self.name)}: too few simulated events widen the interval: {widths}; use more events"]

    @property
    def content(self) -> dict[str, Any]:
        """Everything at full precision, for JSON."""
        impacts = [impact._asdict() for impact in self.impacts]
        same = {key: getattr(self, key) for key in ("name", "yields", "interval", "parts")}
        return {**same, "impacts": impacts, "expected": vars(self.expected)}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> ModelFit:
        """Return the fit that `content` describes; a KeyError, TypeError or ValueError if it does not."""
        e = content["expected"]
        expected = Expected(e["z"], e["upper_limit"], tuple(map(float, e["band"])), tuple(map(str, e["problems"])))
        yields = {
            str(region): {str(name): Yield(*(tuple(map(float, values)) for values in one)) for name, one in own.items()}
            for region, own in content["yields"].items()
        }
        one, two, three = map(float, content["interval"])
        data, simulation, everything = map(float, content["parts"])
        impacts = tuple(Impact(**entry) for entry in content["impacts"])
        parts = (data, simulation, everything)
        return cls(str(content["name"]), yields, (one, two, three), parts, impacts, expected)


def fit_model(model: RowModel) -> ModelFit:
    """Fit the Asimov data of a row's statistical model.

    Raises:
        MetricError: if a bin has no background, or a fit fails.
        MissingExtraError: without pyhf and iminuit (extra `stats`).
    """
    workspace = model.workspace
    likelihood, plain = Likelihood(workspace), Likelihood(workspace, mc_stat=False)
    data = likelihood.expected()
    fixed = dict.fromkeys(likelihood.systematics, 0.0)
    ends = [one.interval(data, **kept) for one, kept in ((plain, fixed), (likelihood, fixed), (likelihood, {}))]
    data_only, simulation, everything = (0.5 * (high - low) for _, low, high in ends)
    found = likelihood.fit(data)
    found.hesse()
    impacts = []
    for name in likelihood.systematics:
        value, error = float(found.values[name]), float(found.errors[name])
        up, down = (
            float(likelihood.fit(data, **{name: value + step}).values[POI] - found.values[POI])
            for step in (error, -error)
        )
        impacts.append(Impact(name, value, error, up, down))
    impacts.sort(key=lambda i: -max(abs(i.up), abs(i.down)))
    yields = {
        region: {
            p: Yield(tuple(one.nominal.tolist()), tuple(np.sqrt(one.variance).tolist())) for p, one in samples.items()
        }
        for region, samples in model.channels.items()
    }
    parts = (data_only, simulation, everything)
    return ModelFit(model.name, yields, ends[-1], parts, tuple(impacts), expected_results(workspace))


@dataclass(frozen=True, repr=False)
class Intervals(Shown):
    """Intervals of the signal strength of several rows in the same pseudo-experiments.

    Attributes:
        mu: (t,) true signal strengths.
        ends: (t, 2) ends of the intervals by the row's name.
        fits: the expected results by the row's name.
        notes: what was left out, and why.
    """

    mu: NDArray[np.float64]
    ends: Mapping[str, NDArray[np.float64]]
    fits: Mapping[str, ModelFit]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Name the rows with their mean widths."""
        widths = (f"{name} {2.0 * fit.parts[2]:.3f}" for name, fit in self.fits.items())
        return f"<Intervals of {self.mu.size} pseudo-experiments; expected widths: {', '.join(widths)}>"

    def records(self) -> list[dict[str, Any]]:
        """Return one record per row, the highest score first; differences are to the first row, paired."""
        if not self.mu.size:
            return [{"name": name, "mu_expected": fit.parts[2] * 2.0} for name, fit in self.fits.items()]
        picks = np.random.default_rng(0).integers(self.mu.size, size=(_REPLICAS, self.mu.size))
        found, spread = {}, {}
        for name, ends in self.ends.items():
            width = ends[:, 1] - ends[:, 0]
            inside = (ends[:, 0] <= self.mu) & (self.mu <= ends[:, 1])
            central = self._numbers(width.mean(), inside.mean())
            found[name] = np.array(central)
            means = zip(width[picks].mean(axis=1), inside[picks].mean(axis=1), strict=True)
            spread[name] = np.array([self._numbers(w, c) for w, c in means])
        order = sorted(found, key=lambda name: -found[name][2])
        out = []
        for name in order:
            row: dict[str, Any] = {"name": name, "mu_expected": self.fits[name].parts[2] * 2.0}
            first, keys = order[0], ("mu_width", "coverage", "interval_score")
            for at, key in enumerate(keys):
                row |= {key: float(found[name][at]), f"{key}_se": float(spread[name][:, at].std(ddof=1))}
            for at, key in enumerate(keys):
                difference = spread[name][:, at] - spread[first][:, at]
                row |= {f"diff_{key}": float(found[name][at] - found[first][at])}
                row |= {f"diff_{key}_se": float(difference.std(ddof=1))}
            out.append(row)
        return out

    def _numbers(self, width: float, coverage: float) -> tuple[float, float, float]:
        return width, coverage, interval_score(width, coverage, self.mu.size)

    def as_tables(self) -> list[Table]:
        """Return the table of the rows."""
        rows: list[list[str | Cell]] = []
        for at, r in enumerate(self.records()):
            cells: list[str | Cell] = [printable(r["name"]), Cell(number(r["mu_expected"]), r["mu_expected"])]
            if self.mu.size:
                shown = {key: with_error(r[key], r[f"{key}_se"]) for key in ("mu_width", "coverage", "interval_score")}
                cells += [Cell(text, r[key]) for key, text in shown.items()]
                key = "diff_mu_width"
                cells.append("first" if at == 0 else Cell(with_error(r[key], r[f"{key}_se"], "+"), r[key]))
            rows.append(cells)
        more = ["mean width", "coverage", "score", "Δ width to first"] if self.mu.size else []
        caption = f"68% intervals of the signal strength, {self.mu.size} pseudo-experiments"
        return [Table(caption, ["row", "expected width", *more], rows, text=(0,), sortable=True)]

    def remarks(self) -> list[str]:
        """Return the notes, and what dominates the widths."""
        return [*map(printable, self.notes), *(line for fit in self.fits.values() for line in fit.advice())]


def measure_intervals(
    run: StoredRun,
    models: Sequence[str],
    *,
    experiments: int,
    mu: tuple[float, float],
    seed: int,
    regions: Path | None = None,
) -> Intervals:
    """Measure the intervals of some rows, all if none is named; arguments of `higgsbench.interval`.

    The run keeps the results, except those of other regions than its own.

    Raises:
        HiggsbenchError: as for `higgsbench.interval`.
    """
    if not (np.isfinite(mu).all() and mu[0] < mu[1]):
        raise ConfigError(f"mu: the range {mu[0]:g} to {mu[1]:g} is empty; give the lower end first")
    if experiments < 0 or seed < 0:
        raise ConfigError("experiments and seed must not be negative")
    found, built, digest = built_models(run, models, regions)
    about = event_notes(run.comparability, (row.record for row in run.scored_rows(models)))
    fits, notes = {}, [*about, f"Events: {found.where}.", *found.notes]
    for name, model in built.items():
        try:
            fits[name] = fit_model(model)
        except MetricError as error:
            notes.append(f"{name} is left out: {error}.")
    if not fits:
        raise MetricError(notes[-1])
    if regions is not None:
        notes.append(not_kept(regions))
    drawing = Drawing(found, mu, seed)
    likelihoods = {name: Likelihood(built[name].workspace) for name in fits}
    found_ends: dict[str, list[tuple[float, float]]] = {name: [] for name in fits}
    for toy in range(experiments):
        drawn = drawing.events(toy)
        for name, likelihood in likelihoods.items():
            found_ends[name].append(_ends(likelihood, drawing.data(built[name], drawn)))
    ends = {name: np.array(values).reshape(-1, 2) for name, values in found_ends.items()}
    good = np.all([np.isfinite(values).all(axis=1) for values in ends.values()], axis=0)
    if not good.all():
        notes.append(f"Pseudo-experiments left out for all rows, because a fit of one failed: {np.sum(~good)}.")
    truth = np.array([drawing.parameters(toy)[0] for toy in range(experiments)])[good]
    out = Intervals(truth, {name: values[good] for name, values in ends.items()}, fits, tuple(notes))
    if regions is None:
        setting = canonical_digest([digest, experiments, list(mu), seed])
        _store(run, out, digest, {"setting": setting, "experiments": int(truth.size)})
    return out


def not_kept(regions: Path) -> str:
    """Say that results of other regions than the run's are not stored."""
    return f"The run does not keep these results, because the regions are those of {regions.name}."


def _store(run: StoredRun, found: Intervals, model: str, setting: Mapping[str, Any]) -> None:
    """Keep the fits with the run, and the numbers of the intervals if there were pseudo-experiments."""
    entries: dict[str, dict[str, Any]] = {n: {"model": model, "fit": fit.content} for n, fit in found.fits.items()}
    for row in found.records() if found.mu.size else ():
        numbers = {key: value for key, value in row.items() if not key.startswith("diff")}
        entries[row["name"]]["interval"] = {**setting, **numbers}
    store_analysis(run, entries)


def built_models(
    run: StoredRun, models: Sequence[str], regions: Path | None
) -> tuple[ModelEvents, dict[str, RowModel], str]:
    """Return the events of the statistical model, the model of each row, and a digest of what they share.

    Raises:
        HiggsbenchError: if there is no statistical model, or it cannot be evaluated for any of the rows.
    """
    from higgsbench.runs.predictor import FittedRun

    rows = run.scored_rows(models)
    found = load_model_events(run, regions, FittedRun(run), [row.name for row in rows])
    built = {row.name: row_model(found, row) for row in rows if row.name in found.scores}
    if not built:
        raise StoreError(next(iter(found.notes), f"{run.folder}: no row has stored models to score events with"))
    return found, built, canonical_digest([found.model.model_dump(mode="json"), found.events.digest])


def _ends(likelihood: Likelihood, data: NDArray[np.float64]) -> tuple[float, float]:
    try:
        _, low, high = likelihood.interval(data)
    except MetricError:
        return float("nan"), float("nan")
    return low, high
