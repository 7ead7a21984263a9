"""Models of stored runs on the same events: their numbers, and what each event contributes to the errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from higgsbench.ensemble.cut import CUT_RULES, Truth, cross_validated_selection
from higgsbench.ensemble.evaluate import bootstrap_rows
from higgsbench.errors import ConfigError, DataError, StoreError, nearest_hint
from higgsbench.leaderboard.collect import StoredRow, read_run
from higgsbench.leaderboard.scores import read_scores
from higgsbench.metrics.ams import ams
from higgsbench.metrics.estimates import Estimate, ams_estimate, log_loss, mean_estimate, roc_auc
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.ensemble.evaluate import Replicas

__all__ = [
    "FRACTIONS",
    "METRICS",
    "Contender",
    "Measured",
    "Metric",
    "Overlap",
    "Part",
    "fold_values",
    "load_contenders",
    "measure",
    "overlap_of",
    "selected_share",
]


_SHARED = ("layout", "n_s", "n_b", "b_reg")
"""Definitions without which two scores are not judged by the same measure."""


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
    event_id: NDArray[np.int64]
    scores: NDArray[np.float64]
    truth: Truth


def load_contenders(
    specs: Sequence[str], *, run: str | None = None, results: Path = Path("results"), common: bool = False
) -> tuple[list[Contender], list[str]]:
    """Load what the specs name.

    Args:
        specs: each a run's folder (all its models), `RUN:MODEL`, or a model's name within `run`. A run is a folder or
            the name of a folder in `results`; a model is a row's name (`xgboost [jets]`) or label (`xgboost`, which may
            be two rows).
        run: run that bare names of models refer to; alone, without specs, all its models.
        results: folder that holds runs.
        common: compare on the events that all runs have, weights rescaled, instead of refusing.

    Returns:
        The contenders, all on the same events in the same order, and lines about what was left out.

    Raises:
        StoreError: if a run cannot be read.
        ConfigError: if a name is not known, or fewer than one contender is named.
        DataError: if the runs do not share events or definitions.
    """
    rows: list[StoredRow] = []
    for spec in specs or ([run] if run else []):
        for row in _rows_of(spec, run, results):
            if not any(row.run == other.run and row.record["name"] == other.record["name"] for other in rows):
                rows.append(row)
    if not rows:
        raise ConfigError("name a run, RUN:MODEL, or models with --run RUN")
    tables = {
        folder: read_scores(folder, [str(row.record["name"]) for row in rows if row.run == folder])
        for folder in dict.fromkeys(row.run for row in rows)
    }
    several = len(tables) > 1
    found = [_contender(row, tables[row.run], several) for row in rows]
    return _on_same_events(found, common)


def _folder(name: str, results: Path) -> Path | None:
    for folder in (Path(name), results / name):
        if (folder / "rows.json").exists():
            return folder
    return None


def _rows_of(spec: str, run: str | None, results: Path) -> list[StoredRow]:
    if run is not None and spec != run:
        folder = _folder(run, results)
        if folder is None:
            raise StoreError(f"--run {run}: no finished run of that name here or in {results}")
        return _rows_named(folder, spec, many=False)
    folder = _folder(spec, results)
    if folder is not None:
        return [row for row in _stored(folder) if row.ok]
    name, separator, model = spec.rpartition(":")
    folder = _folder(name, results) if separator else None
    if folder is None:
        raise StoreError(f"{spec}: no finished run of that name here or in {results}; a model within a run needs --run")
    return _rows_named(folder, model, many=True)


def _stored(folder: Path) -> list[StoredRow]:
    rows, problem = read_run(folder)
    if problem and not rows:
        raise StoreError(problem)
    return rows


def _rows_named(folder: Path, model: str, *, many: bool) -> list[StoredRow]:
    """Rows by exact name, otherwise by label; a label of several rows is refused unless `many`."""
    rows = _stored(folder)
    named = [row for row in rows if row.record["name"] == model] or [r for r in rows if r.record["label"] == model]
    if not named:
        known = [str(row.record["name"]) for row in rows]
        hint = nearest_hint(model, known, f" (there are {', '.join(known)})")
        raise ConfigError(f"{folder.name}: no model {model!r}{hint}")
    failed = [row for row in named if not row.ok]
    if failed:
        raise ConfigError(f"{folder.name}: model {model!r} failed and has no scores")
    return named


def _contender(row: StoredRow, frame: pl.DataFrame, several: bool) -> Contender:
    name = str(row.record["name"])
    column = f"score:{name}"
    path = row.run / "scores.parquet"
    repeats = frame["repeat"].n_unique()
    n = frame.height // repeats
    event_id = frame["EventId"].to_numpy()[:n]
    scores = frame[column].to_numpy().reshape(repeats, n)
    if not np.isfinite(scores).all():
        raise StoreError(f"{path}: column {column!r} holds scores that are not finite")
    shared: dict[str, Any] = row.comparability
    for key in ("n_s", "n_b", "b_reg"):
        if not isinstance(shared.get(key), (int, float)):
            raise StoreError(f"{row.run / 'rows.json'}: no number {key} in the comparability")
    if row.record.get("cut_rule") not in CUT_RULES:
        rule = str(row.record.get("cut_rule"))[:60]
        raise StoreError(
            f"{row.run / 'rows.json'}: row {name!r}: cut_rule {rule!r} is not one of {', '.join(CUT_RULES)}"
        )
    truth = Truth(
        y=frame["signal"].to_numpy()[:n].astype(np.bool_),
        weight=frame["weight"].to_numpy()[:n].astype(np.float64),
        fold=frame["fold"].to_numpy().reshape(repeats, n).astype(np.int64),
        totals=(float(shared["n_s"]), float(shared["n_b"])),
        b_reg=float(shared["b_reg"]),
        rule=str(row.record["cut_rule"]),
    )
    return Contender(f"{row.run.name}:{name}" if several else name, row, event_id.astype(np.int64), scores, truth)


def _on_same_events(found: list[Contender], common: bool) -> tuple[list[Contender], list[str]]:
    """Check that all are judged by the same events and definitions; cut down to the common events on request."""
    first = found[0]
    for other in found[1:]:
        for key in _SHARED:
            mine, theirs = first.row.comparability.get(key), other.row.comparability.get(key)
            if mine != theirs:
                raise DataError(
                    f"{first.name} and {other.name} are not judged alike: {key} is {mine} in one, {theirs} in the other"
                )
    same = all(np.array_equal(first.event_id, c.event_id) for c in found)
    digests = {c.row.comparability.get("data") for c in found}
    if same and len(digests) == 1:
        return found, []
    shared = first.event_id
    for contender in found[1:]:
        shared = np.intersect1d(shared, contender.event_id, assume_unique=True)
    largest = max(c.event_id.size for c in found)
    if not common:
        state = (
            "the same event numbers but other contents"
            if same
            else f"{shared.size:,} of up to {largest:,} events in common"
        )
        raise DataError(f"the runs were made on different events ({state}); --common compares on what they share")
    if not shared.size:
        raise DataError("the runs have no event in common")
    kept = [_restricted(contender, shared) for contender in found]
    for contender in kept[1:]:
        if not np.array_equal(kept[0].truth.y, contender.truth.y) or not np.allclose(
            kept[0].truth.weight, contender.truth.weight, rtol=1e-6
        ):
            raise DataError(
                f"{kept[0].name} and {contender.name} number their events alike, but labels or weights differ: "
                "these are other events"
            )
    return kept, [f"compared on the {shared.size:,} events that all runs share, weights rescaled to the totals"]


def _restricted(contender: Contender, shared: NDArray[np.int64]) -> Contender:
    at = np.searchsorted(contender.event_id, shared)
    truth = contender.truth
    y = truth.y[at]
    weight = evaluation_weights(y, truth.weight[at], *truth.totals)
    return replace(
        contender,
        event_id=shared,
        scores=contender.scores[:, at],
        truth=replace(truth, y=y, weight=weight, fold=truth.fold[:, at]),
    )


FRACTIONS = (0.05, 0.10, 0.15, 0.20)
"""Shares of the events at which selections of equal size are compared."""


@dataclass(frozen=True)
class Metric:
    """How a metric is named and shown.

    Attributes:
        title: for people.
        digits: decimals shown.
        scale: factor before it is shown.
        lower_is_better: whether a lower value is better.
    """

    title: str
    digits: int
    scale: float = 1.0
    lower_is_better: bool = False


METRICS: dict[str, Metric] = {
    "ams": Metric("AMS", 3),
    **{f"ams_{round(100 * f)}": Metric(f"AMS at {round(100 * f)}%", 3) for f in FRACTIONS},
    "auc": Metric("wAUC", 4),
    "log_loss": Metric("log-loss x10³", 3, 1e3, True),
}
"""All metrics of a comparison; `ams` is at each model's own honest cut."""


@dataclass(frozen=True)
class Measured:
    """A model's numbers.

    Attributes:
        name: its name.
        values: metrics by name, mean over repeats.
        errors: their standard errors.
        influence: (n,) what each event contributes to the deviation of each metric, the cut of `ams` held.
        replicas: (replicas,) bootstrap replicas of `ams` and `auc`, the choice of the cut included.
        draws: the same replicas, for the error of a difference.
        s: selected signal at the honest cut, b: background, mean over repeats.
        selected: (repeats, n) the honest selection.
    """

    name: str
    values: dict[str, float]
    errors: dict[str, float]
    influence: dict[str, NDArray[np.float64]]
    replicas: dict[str, NDArray[np.float64]]
    draws: Replicas
    s: float
    b: float
    selected: NDArray[np.bool_]


def selected_share(score: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Select the events of the highest scores, about a share of all; never inside tied scores."""
    last = score.size - max(1, round(share * score.size))
    selected: NDArray[np.bool_] = score >= np.partition(score, last)[last]
    return selected


def measure(contenders: Sequence[Contender], replicas: int) -> list[Measured]:
    """Measure all contenders; their bootstrap replicas are of the same draws, hence paired.

    Args:
        contenders: models on the same events.
        replicas: number of bootstrap replicas.
    """
    found = [_estimates(contender) for contender in contenders]
    resampled = bootstrap_rows([(c.scores, c.truth) for c in contenders], replicas)
    out = []
    for contender, (estimates, s, b, selected), draws in zip(contenders, found, resampled, strict=True):
        out.append(
            Measured(
                name=contender.name,
                values={m: e.value for m, e in estimates.items()},
                errors={m: e.se for m, e in estimates.items()} | {"ams": float(np.std(draws.ams_cv, ddof=1))},
                influence={m: e.influence for m, e in estimates.items()},
                replicas={"ams": draws.ams_cv, "auc": draws.values["auc"]},
                draws=draws,
                s=s,
                b=b,
                selected=selected,
            )
        )
    return out


def _estimates(contender: Contender) -> tuple[dict[str, Estimate], float, float, NDArray[np.bool_]]:
    truth = contender.truth
    selections = [cross_validated_selection(score, truth, r) for r, score in enumerate(contender.scores)]
    at_cut = [ams_estimate(truth.y, keep, truth.weight, truth.b_reg) for keep in selections]
    out = {"ams": mean_estimate([e for e, _, _ in at_cut])}
    for share in FRACTIONS:
        estimates = [
            ams_estimate(truth.y, selected_share(score, share), truth.weight, truth.b_reg)[0]
            for score in contender.scores
        ]
        out[f"ams_{round(100 * share)}"] = mean_estimate(estimates)
    out["auc"] = mean_estimate([roc_auc(truth.y, score, truth.weight) for score in contender.scores])
    out["log_loss"] = mean_estimate([log_loss(truth.y, score, truth.weight) for score in contender.scores])
    s, b = (float(np.mean([entry[i] for entry in at_cut])) for i in (1, 2))
    return out, s, b, np.stack(selections)


def fold_values(contender: Contender) -> dict[str, NDArray[np.float64]]:
    """Metrics of every test fold of every repeat, each at the reference totals; (repeats x folds,) by name.

    Folds that lack a class are NaN.
    """
    truth = contender.truth
    out: dict[str, list[float]] = {name: [] for name in ("ams", "auc", "log_loss")}
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
            keep = selected[rows]
            s, b = (max(float(np.sum(weight[keep & part])), 0.0) for part in (y, ~y))
            out["ams"].append(ams(s, b, truth.b_reg))
            out["auc"].append(roc_auc(y, score[rows], weight).value)
            out["log_loss"].append(log_loss(y, score[rows], weight).value)
    return {name: np.array(values) for name, values in out.items()}


@dataclass(frozen=True)
class Part:
    """A part of the events.

    Attributes:
        events: number of simulated events.
        s: expected signal in it.
        b: expected background in it.
        ams: AMS of the part alone.
    """

    events: int
    s: float
    b: float
    ams: float


@dataclass(frozen=True)
class Overlap:
    """What two models select at their own honest cuts (first repeat), and how alike they score.

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


def overlap_of(a: Contender, b: Contender, a_measured: Measured, b_measured: Measured) -> Overlap:
    """Compare what two models on the same events select.

    Args:
        a: the first model.
        b: the second.
        a_measured: what was measured of the first.
        b_measured: what was measured of the second.
    """
    mine, theirs = a_measured.selected[0], b_measured.selected[0]
    y, w = a.truth.y, a.truth.weight
    correlation = {
        name: _correlation(rankdata(a.scores[0][rows]), rankdata(b.scores[0][rows]), w[rows])
        for name, rows in (("signal", y), ("background", ~y))
    }
    return Overlap(
        only_a=_part(a, mine & ~theirs),
        only_b=_part(a, theirs & ~mine),
        both=_part(a, mine & theirs),
        either=_part(a, mine | theirs),
        rank_correlation=correlation,
    )


def _part(contender: Contender, keep: NDArray[np.bool_]) -> Part:
    y, w = contender.truth.y, contender.truth.weight
    s, b = (float(np.sum(w[keep & rows])) for rows in (y, ~y))
    return Part(int(keep.sum()), s, b, ams(max(s, 0.0), max(b, 0.0), contender.truth.b_reg))


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64]) -> float:
    """Weighted correlation; NaN where one of the two does not vary."""
    if not np.sum(w) > 0.0:
        return float("nan")
    x, y = x - np.average(x, weights=w), y - np.average(y, weights=w)
    spread = float(np.average(x * x, weights=w)) * float(np.average(y * y, weights=w))
    return float(np.average(x * y, weights=w) / np.sqrt(spread)) if spread > 0.0 else float("nan")
