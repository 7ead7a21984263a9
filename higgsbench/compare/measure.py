"""Models of stored runs on the same events: their numbers, and the statistics of their differences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.challenge import event_notes
from higgsbench.ensemble import RowMetrics, evaluate_rows, paired
from higgsbench.ensemble.cut import Truth, cross_validated_selection
from higgsbench.errors import ConfigError, DataError, StoreError
from higgsbench.metrics.ams import ams
from higgsbench.metrics.estimates import METRICS, Scored, Value, paired_difference, selected_sums
from higgsbench.metrics.spectators import spectator_metrics
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.runs import find_run
from higgsbench.runs.stored import StoredRow, StoredRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from higgsbench.metrics.weights import Bools, Floats, Ints

_SHARED = ("layout", "n_s", "n_b", "b_reg")
"""Two scores are comparable only if their runs agree in these."""


@dataclass(frozen=True)
class Contender:
    """A model of a stored run.

    Attributes:
        name: unique among the contenders.
        row: the stored row.
        event_id: (n,) event numbers, ascending.
        scores: (repeats, n) out-of-fold log-odds in physical normalisation.
        truth: labels, evaluation weights, the run's own folds and cut rule.
    """

    name: str
    row: StoredRow
    event_id: Ints
    scores: Floats
    truth: Truth

    def at(self, positions: NDArray[np.intp]) -> Contender:
        """Return the contender with its events in another order, or with some of them."""
        event_id, scores = self.event_id[positions], self.scores[:, positions]
        return replace(self, event_id=event_id, scores=scores, truth=self.truth.at(positions))


def load_contenders(
    specs: Sequence[str], *, run: str | None = None, results: str | Path = "results", common: bool = False
) -> tuple[list[Contender], list[str]]:
    """Load what the specs name.

    Args:
        specs: each a run (all its models), `RUN:MODEL`, or the name of a model within `run`. A run is named as in
            `find_run`; a model is the name of a row (`xgboost [jets]`) or a label (`xgboost`, which may be two rows).
        run: run that bare names of models refer to; without specs, all its models are taken.
        results: folder that holds runs.
        common: compare on the events that all runs have, weights rescaled, instead of refusing.

    Returns:
        The contenders, all on the same events in the same order, and lines about what was left out.

    Raises:
        StoreError: if a run cannot be read.
        ConfigError: if a name is not known, or none is given.
        DataError: if the runs do not share events or definitions.
    """
    rows: dict[tuple[Path, str], StoredRow] = {}
    runs: dict[Path, StoredRun] = {}
    for spec in specs or ([run] if run else []):
        name, model = _split(spec, run, Path(results))
        found = find_run(name, results)
        found = runs.setdefault(found.folder, found)
        for row in found.scored_rows([model] if model else []):
            rows.setdefault((found.folder, row.name), row)
    if not rows:
        raise ConfigError("name a run, RUN:MODEL, or models with --run RUN")
    contenders = []
    for row in rows.values():
        event_id, order = row.run.event_id, row.run.by_event
        if (np.diff(event_id[order]) == 0).any():
            raise StoreError(f"{row.run.folder / 'scores.parquet'}: an event number occurs twice")
        name = f"{row.run.name}:{row.name}" if len(runs) > 1 else row.name
        contenders.append(Contender(name, row, event_id, row.scores, row.truth).at(order))
    return _on_same_events(contenders, common)


def _split(spec: str, run: str | None, results: Path) -> tuple[str, str]:
    """Return the name of a run and of a model; the model is empty where the spec names a run."""
    if run is not None and spec != run:
        return run, spec
    name, separator, model = spec.rpartition(":")
    if not separator or Path(spec).exists() or (results / spec).exists():
        return spec, ""
    return name, model


def _on_same_events(found: list[Contender], common: bool) -> tuple[list[Contender], list[str]]:
    """Check that all use the same events and definitions; on request, keep only the common events."""
    first, digests = found[0], {contender.row.run.comparability.get("data") for contender in found}
    for other in found[1:]:
        for key in _SHARED:
            mine, theirs = (c.row.run.comparability.get(key) for c in (first, other))
            if mine != theirs:
                raise DataError(
                    f"{first.name} and {other.name} are not comparable: {key} is {mine} in one, {theirs} in the other"
                )
    same = all(np.array_equal(first.event_id, c.event_id) for c in found)
    if same and len(digests) == 1:
        return found, []
    shared = first.event_id
    for contender in found[1:]:
        shared = np.intersect1d(shared, contender.event_id, assume_unique=True)
    largest = max(c.event_id.size for c in found)
    if not common:
        numbers = f"{shared.size:,} of up to {largest:,} events in common"
        state = "the same event numbers but different contents" if same else numbers
        raise DataError(
            f"the runs were made on different events ({state}); train both on the same `data`, or compare them on the "
            "events that they share (`compare --common`)"
        )
    if not shared.size:
        raise DataError("the runs have no event in common")
    kept = []
    for contender in found:
        part = contender.at(np.searchsorted(contender.event_id, shared))
        weight = evaluation_weights(part.truth.y, part.truth.weight, *part.truth.totals)
        kept.append(replace(part, truth=replace(part.truth, weight=weight)))
    for contender in kept[1:]:
        if not np.array_equal(kept[0].truth.y, contender.truth.y) or not np.allclose(
            kept[0].truth.weight, contender.truth.weight, rtol=1e-6
        ):
            raise DataError(
                f"{kept[0].name} and {contender.name} use the same event numbers, but labels or weights differ: "
                "these are different events"
            )
    return kept, [f"compared on the {shared.size:,} events that all runs share, weights rescaled to the totals"]


def notes_on(contenders: Sequence[Contender]) -> list[str]:
    """Return lines on simulated events, in the data or in the training of rows."""
    about = contenders[0].row.run.comparability
    return event_notes(about, ({**c.row.record, "name": c.name} for c in contenders))


def measure(contenders: Sequence[Contender], replicas: int) -> list[RowMetrics]:
    """Measure all contenders with all metrics, including those of the spectators that they share.

    Their bootstrap replicas use the same draws and are therefore paired.
    """
    shared = [name for name in contenders[0].truth.spectators if all(name in c.truth.spectators for c in contenders)]
    metrics = [*METRICS.values(), *(metric for name in shared for metric in spectator_metrics(name))]
    rows = evaluate_rows([(c.scores, c.truth) for c in contenders], metrics, replicas)
    return [replace(row, name=contender.name) for row, contender in zip(rows, contenders, strict=True)]


@dataclass(frozen=True)
class Difference(Value):
    """A difference with its standard error and the ends of its 95% interval.

    The p-value is the two-sided probability of a difference at least this large between equal models; NaN where the
    error is not known.
    """

    low: float
    high: float
    p_value: float


def difference_of(value: float, se: float, degrees: float = np.inf) -> Difference:
    """Judge a difference by its standard error and the degrees of freedom of that error (Student's t)."""
    from scipy.stats import t

    if not (np.isfinite(value) and np.isfinite(se)):
        return Difference(float(value), float(se), np.nan, np.nan, np.nan)
    reach = float(t.ppf(0.975, degrees)) * se
    ratio = abs(value) / se if se > 0.0 else (0.0 if value == 0.0 else np.inf)
    return Difference(float(value), float(se), value - reach, value + reach, float(2.0 * t.sf(ratio, degrees)))


def effective_degrees(influence: Floats) -> float:
    """Return the degrees of freedom of a variance that is a sum of squared influence values, 2 (sum i^2)^2 / sum i^4.

    The variance is itself estimated from few events where weights are heavy or two selections nearly agree: with a
    Poisson number of events its own variance is sum i^4, and a chi-square of d degrees has relative variance 2 / d
    (F. Satterthwaite, Biometrics Bulletin 2 (1946) 110). The result is at least 1, and infinite where nothing varies.
    """
    squares = influence**2
    with np.errstate(invalid="ignore", over="ignore"):
        fourth = float(np.sum(squares**2))
        degrees = 2.0 * float(np.sum(squares)) ** 2 / fourth if fourth > 0.0 else np.inf
    return max(degrees, 1.0) if np.isfinite(degrees) else np.inf


def corrected_resampled_t(differences: Floats, test_share: float) -> Difference:
    """Corrected resampled t-test over the folds of one or several cross-validations.

    Folds share training events, so their scatter understates the error of the mean; the variance is multiplied by
    1/J + n_test/n_train instead of 1/J (C. Nadeau and Y. Bengio, Machine Learning 52 (2003) 239, section 5; for
    repeated cross-validation R. Bouckaert and E. Frank, PAKDD 2004). Unlike an event bootstrap, it accounts for the
    variation of models trained on other events.

    Args:
        differences: (J,) finite differences of the two models, one for each of at least two test folds.
        test_share: n_test / n_train, 1 / (folds - 1) in a cross-validation.
    """
    folds = differences.size
    variance = (1.0 / folds + test_share) * float(np.var(differences, ddof=1))
    return difference_of(float(np.mean(differences)), float(np.sqrt(variance)), folds - 1)


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values (m,) of m tests so that any false positive among them has the stated probability.

    S. Holm, Scandinavian Journal of Statistics 6 (1979) 65: the i-th smallest times m - i + 1, monotone and at most 1.
    NaN (no test possible) stays NaN and does not count as a test.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")[: p.size - np.isnan(p).sum()]  # NaN sorts last
    out = np.full(p.shape, np.nan)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1)), 1.0)
    return out


def indistinct_groups(apart: Bools) -> tuple[tuple[int, ...], ...]:
    """Group neighbours in rank that are pairwise indistinguishable: the bars of a critical-difference diagram.

    Args:
        apart: (m, m) whether two can be told apart, best rank first.

    Returns:
        Maximal groups of at least two, best group first. Groups may overlap: being indistinct is not transitive.
    """
    groups: list[tuple[int, ...]] = []
    reached = 0
    for first in range(len(apart)):
        last = first
        while last + 1 < len(apart) and not apart[last + 1, first : last + 1].any():
            last += 1
        if last > first and last + 1 > reached:
            groups.append(tuple(range(first, last + 1)))
            reached = last + 1
    return tuple(groups)


def difference_between(a: RowMetrics, b: RowMetrics, metric: str) -> Difference:
    """Return a minus b in one metric, with the paired error from their common events.

    The error of the AMS comes from paired bootstrap replicas and includes the choice of the cuts; other errors come
    from the events' influence. Student's t takes its degrees of freedom from the effective number of events.
    """
    with np.errstate(invalid="ignore"):  # two infinite losses have no difference
        deviation = a.estimates[metric].influence - b.estimates[metric].influence
        return difference_of(*paired(a, b, metric), effective_degrees(deviation))


def efficiency_differences(a: Contender, b: Contender, mine: RowMetrics, theirs: RowMetrics) -> dict[str, Difference]:
    """Return a minus b in the efficiency of each process at their own cuts, with paired errors at fixed cuts.

    The result is empty unless both runs assign the same process to every event.
    """
    first, second = a.truth.processes, b.truth.processes
    if first is None or second is None or not np.array_equal(first.by_event, second.by_event):
        return {}
    out = {}
    for name, found in mine.processes.items():
        one, other = found.efficiency, theirs.processes[name].efficiency if name in theirs.processes else None
        if one is not None and other is not None:
            degrees = effective_degrees(one.influence - other.influence)
            out[name] = difference_of(*paired_difference(one, other), degrees)
    return out


def fold_values(contender: Contender) -> dict[str, Floats]:
    """Return the headline metrics of every test fold of every repeat, (repeats x folds,) by name.

    Each fold counts at the reference totals; folds that lack a class are NaN.
    """
    truth = contender.truth
    headline = [metric for metric in METRICS.values() if metric.headline]
    out: dict[str, list[float]] = {metric.name: [] for metric in headline}
    for repeat, score in enumerate(contender.scores):
        selected = cross_validated_selection(score, truth, repeat)
        for k in range(int(truth.fold.max()) + 1):
            rows = truth.fold[repeat] == k
            y = truth.y[rows]
            if not (y.any() and (~y).any()):
                for values in out.values():
                    values.append(np.nan)
                continue
            weight = evaluation_weights(y, truth.weight[rows], *truth.totals)
            s, b = (np.array([max(total, 0.0)]) for total in selected_sums(y, selected[rows], weight))
            events = Scored(y, score[rows], weight, truth.b_reg)
            for metric in headline:
                at_cut = metric.of_counts
                value = metric.estimate(events).value if at_cut is None else float(at_cut(s, b, truth.b_reg)[0])
                out[metric.name].append(value)
    return {name: np.array(values) for name, values in out.items()}


def over_folds(fold: Ints, other: Ints, mine: dict[str, Floats], theirs: dict[str, Floats]) -> dict[str, Difference]:
    """Return differences over folds (repeats, n) of metrics (repeats x folds,); none where the folds differ."""
    if not np.array_equal(fold, other):
        return {}
    differences = {metric: mine[metric] - theirs[metric] for metric in mine}
    usable = {metric: d for metric, d in differences.items() if d.size > 1 and np.isfinite(d).all()}
    return {metric: corrected_resampled_t(d, 1.0 / int(fold.max())) for metric, d in usable.items()}


@dataclass(frozen=True)
class Part:
    """A part of the events: how many are simulated, the expected signal and background, and the AMS of these alone."""

    events: int
    s: float
    b: float
    ams: float


@dataclass(frozen=True)
class Overlap:
    """What two models select at their own honest cuts (first repeat), and how similar their scores are.

    Attributes:
        only_a: selected by the first alone, only_b: by the second alone.
        both: selected by both, either: by at least one.
        rank_correlation: weighted correlation of the two orders within signal and within background.
    """

    only_a: Part
    only_b: Part
    both: Part
    either: Part
    rank_correlation: dict[str, float]


def overlap_of(a: Contender, b: Contender, mine: Bools, theirs: Bools) -> Overlap:
    """Compare what two models on the same events select: `mine` (n,) the first, `theirs` the second."""
    from scipy.stats import rankdata

    y, w = a.truth.y, a.truth.weight
    correlation = {
        name: _correlation(rankdata(a.scores[0][rows]), rankdata(b.scores[0][rows]), w[rows])
        for name, rows in (("signal", y), ("background", ~y))
    }
    parts = (mine & ~theirs, theirs & ~mine, mine & theirs, mine | theirs)
    sums = [selected_sums(y, keep, w) for keep in parts]
    only_a, only_b, both, either = (
        Part(int(keep.sum()), s, b, ams(max(s, 0.0), max(b, 0.0), a.truth.b_reg))
        for keep, (s, b) in zip(parts, sums, strict=True)
    )
    return Overlap(only_a, only_b, both, either, correlation)


def _correlation(x: Floats, y: Floats, w: Floats) -> float:
    """Weighted correlation; NaN where one of the two does not vary."""
    if not np.sum(w) > 0.0:
        return float("nan")
    x, y = x - np.average(x, weights=w), y - np.average(y, weights=w)
    spread = float(np.average(x * x, weights=w)) * float(np.average(y * y, weights=w))
    return float(np.average(x * y, weights=w) / np.sqrt(spread)) if spread > 0.0 else float("nan")
