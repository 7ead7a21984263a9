"""From stored unit scores to leaderboard rows: recalibrate, stack, cut, evaluate, describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.ensemble.blend import (
    Blend,
    apply_recalibration,
    cross_fitted_blend,
    cross_fitted_recalibration,
    fit_blend,
    fit_recalibration,
)
from higgsbench.ensemble.evaluate import RowMetrics, Truth, evaluate_held_out, evaluate_row
from higgsbench.errors import ConfigError
from higgsbench.files import canonical_digest
from higgsbench.runs.plan import REFIT
from higgsbench.runs.result import Failure, last_line
from higgsbench.runs.unit import mean_log_odds
from higgsbench.validation.folds import group_index

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from higgsbench.config import RunConfig
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan, Row, Unit
    from higgsbench.runs.store import RunStore, StoredUnit

__all__ = [
    "RowScores",
    "Stack",
    "about_row",
    "about_stack",
    "assembled_row",
    "build_stack",
    "failed_record",
    "known_failures",
    "remark",
    "row_scores",
    "truth_of",
]


@dataclass(frozen=True)
class RowScores:
    """Final scores of one row.

    Attributes:
        name: unique name within the run.
        oof: (repeats, n) out-of-fold log-odds in physical normalisation.
        test: (n_test,) log-odds of held-out events, or None.
        fit_seconds: sum over the fits.
        predict_us: prediction time per event in microseconds, of one fold model.
        peak_mb: highest peak memory of a worker.
        calibration: (groups, 2) slope and intercept for new events, or None where the row is not recalibrated.
    """

    name: str
    oof: NDArray[np.float64]
    test: NDArray[np.float64] | None
    fit_seconds: float
    predict_us: float
    peak_mb: float
    calibration: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Stack:
    """The blend of a run.

    Attributes:
        scores: its own out-of-fold and held-out scores.
        blend: fitted on all out-of-fold scores; applied to held-out events.
        per_fold: (repeats x folds, m) coefficients of the cross-fitted blenders.
    """

    scores: RowScores
    blend: Blend
    per_fold: NDArray[np.float64]


def truth_of(config: RunConfig, dataset: Dataset) -> Truth:
    """Return what the rows of a run are judged by."""
    return Truth(dataset.y, dataset.weight, dataset.fold, dataset.totals, config.cut.b_reg, config.cut.rule)


def row_scores(row: Row, units: list[Unit], stored: Mapping[str, StoredUnit], dataset: Dataset) -> RowScores:
    """Collect a row's stored scores and recalibrate them where the row asks for it.

    Args:
        row: the row.
        units: its units.
        stored: finished units by key; all of the row's units must be there.
        dataset: the run's events.

    Raises:
        ConfigError: if a recalibration cannot be fitted.
    """
    oof = np.full(dataset.fold.shape, np.nan)
    tests = []
    for unit in units:
        found = stored[unit.key]
        if unit.fold != REFIT:
            oof[unit.repeat, dataset.fold[unit.repeat] == unit.fold] = found.score
        if found.test_score.size:
            tests.append(found.test_score)
    test = mean_log_odds(tests) if tests else None
    calibration = None
    if row.calibration == "logit":
        oof, test, calibration = _recalibrated(row, oof, test, dataset)
    results = [stored[unit.key] for unit in units]
    return RowScores(
        name=row.name,
        oof=oof,
        test=test,
        fit_seconds=float(sum(r.fit_seconds for r in results)),
        # A refit that scores nothing has no such time.
        predict_us=float(np.mean([r.predict_us for r in results if r.event_id.size or r.test_event_id.size])),
        peak_mb=max(r.peak_mb for r in results),
        calibration=calibration,
    )


def _recalibrated(
    row: Row, oof: NDArray[np.float64], test: NDArray[np.float64] | None, dataset: Dataset
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Recalibrate per jet group for split models, as one for global ones; with the parameters for new events."""
    y, w = dataset.y, dataset.weight
    split = row.variant == "jets" and dataset.group is not None
    part = dataset.group if split and dataset.group is not None else np.zeros(y.size, dtype=np.int64)
    repeats = range(oof.shape[0])
    calibrated = np.stack([cross_fitted_recalibration(oof[r], y, w, part, dataset.fold[r]) for r in repeats])
    parameters = np.mean([fit_recalibration(oof[r], y, w, part) for r in repeats], axis=0)
    if test is None or dataset.test is None:
        return calibrated, test, parameters
    numbers = dataset.test.group
    test_part = group_index(numbers, dataset.groups) if split and numbers is not None else np.zeros(test.size, np.int64)
    return calibrated, apply_recalibration(test, test_part, parameters), parameters


def build_stack(config: RunConfig, rows: list[tuple[Row, RowScores]], dataset: Dataset) -> Stack | None:
    """Blend the chosen rows; None where the stack is off or fewer than two members are there."""
    if not config.stack.enabled:
        return None
    chosen = _members(config, rows)
    if len(chosen) < 2:
        return None
    names = tuple(scores.name for scores in chosen)
    out, weights, fits = [], [], []
    for repeat, fold in enumerate(dataset.fold):
        F = np.column_stack([scores.oof[repeat] for scores in chosen])
        blended, blends = cross_fitted_blend(
            config.stack.method, names, F, dataset.y, dataset.weight, fold, dataset.totals
        )
        out.append(blended)
        weights += [b.coefficients for b in blends]
        fits.append(fit_blend(config.stack.method, names, F, dataset.y, dataset.weight, dataset.totals))
    final = Blend(
        fits[0].method,
        names,
        np.mean([b.coefficients for b in fits], axis=0),
        float(np.mean([b.intercept for b in fits])),
        fits[0].prior,
    )
    tests = [scores.test for scores in chosen]
    test = None if any(t is None for t in tests) else final(np.column_stack([t for t in tests if t is not None]))
    scores = RowScores(
        name="stack",
        oof=np.stack(out),
        test=test,
        fit_seconds=sum(s.fit_seconds for s in chosen),
        predict_us=sum(s.predict_us for s in chosen),
        peak_mb=max(s.peak_mb for s in chosen),
    )
    return Stack(scores, final, np.stack(weights))


def _members(config: RunConfig, rows: list[tuple[Row, RowScores]]) -> list[RowScores]:
    wanted = config.stack.members
    if wanted is None:
        return [scores for _, scores in rows]
    # `check_members` saw to the names; what failed or had no time is not here.
    return [scores for row, scores in rows if row.label in wanted or row.name in wanted]


def check_members(config: RunConfig, plan: Plan) -> None:
    """Check `stack.members` against the plan, before anything is trained.

    Raises:
        ConfigError: if a member is not in the run.
    """
    known = {row.label for row in plan.rows} | {row.name for row in plan.rows}
    for name in config.stack.members or ():
        if name not in known:
            raise ConfigError(f"stack.members: no row named {name!r}; there are {', '.join(sorted(known))}")


def assembled_row(
    scores: RowScores, truth: Truth, dataset: Dataset, about: dict[str, Any]
) -> tuple[dict[str, Any], RowMetrics]:
    """Evaluate a row and return its record for the leaderboard, with full precision, and the metrics behind it.

    Args:
        scores: the row's scores.
        truth: what it is judged by.
        dataset: the run's events.
        about: what the row is (label, variant, parameters, ...), copied into the record.
    """
    metrics = evaluate_row(scores.oof, truth)
    record = {
        **about,
        "name": scores.name,
        "status": "ok",
        "ams_cv": metrics.ams_cv,
        "ams_cv_se": metrics.ams_cv_se,
        "s": metrics.s,
        "b": metrics.b,
        "fraction": metrics.fraction,
        "ams_oof_max": metrics.oof_max,
        "ams_oof_max_se": metrics.oof_max_se,
        "auc": metrics.auc.value,
        "auc_se": metrics.auc.se,
        "log_loss": metrics.log_loss.value,
        "log_loss_se": metrics.log_loss.se,
        "cut_rule": metrics.cut.rule,
        "threshold": metrics.cut.threshold,
        "cut_fraction": metrics.cut.fraction,
        "fit_seconds": scores.fit_seconds,
        "predict_us": scores.predict_us,
        "peak_mb": scores.peak_mb,
        **_held_out(scores, truth, dataset, metrics.cut.threshold),
    }
    return record, metrics


_PUBLIC_PRIVATE = {"ams_public": "b", "ams_private": "v"}


def _held_out(scores: RowScores, truth: Truth, dataset: Dataset, threshold: float) -> dict[str, float]:
    test = dataset.test
    if scores.test is None or test is None or not test.labelled:
        return {}
    y, weight, subset = test.y, test.weight, test.subset
    parts: dict[str, NDArray[np.bool_]] = {"ams_test": np.ones(y.size, dtype=np.bool_)}
    if subset is not None:
        parts |= {name: subset == value for name, value in _PUBLIC_PRIVATE.items()}
    out: dict[str, float] = {}
    for name, rows in parts.items():
        if not (y[rows].any() and (~y[rows]).any()):
            continue
        held_out = evaluate_held_out(y[rows], weight[rows], scores.test[rows], threshold, truth.totals, truth.b_reg)
        out |= {name: held_out.ams, f"{name}_se": held_out.se}
        if name == "ams_test":
            out["auc_test"] = held_out.auc
    return out


def about_row(index: int, plan: Plan, config: RunConfig) -> dict[str, Any]:
    """Return what a row is: model, variant, parameters, and the digest of its fits."""
    row = plan.rows[index]
    return {
        "label": row.label,
        "model": row.spec.name,
        "variant": row.variant,
        "features": row.features.name,
        "n_features": len(row.features.columns),
        "preset": row.preset,
        "params": row.params,
        "training_weights": row.training_weights,
        "calibration": row.calibration,
        "seed": config.seed,
        **({"from_disk": True} if row.from_disk else {}),
        **({"device_note": row.device_note} if row.device_note else {}),
        "digest": canonical_digest([row.calibration, [u.key for u in plan.units_of(index)]]),
    }


def about_stack(stack: Stack, plan: Plan, config: RunConfig) -> dict[str, Any]:
    """Return what the row of the stack is."""
    scores = [[row.calibration, [u.key for u in plan.units_of(i)]] for i, row in enumerate(plan.rows)]
    return {
        "label": "stack",
        "model": "stack",
        "variant": stack.blend.method,
        "features": "",
        "n_features": len(stack.blend.members),
        "preset": "",
        "params": {"members": list(stack.blend.members)},
        "training_weights": "",
        "calibration": "",
        "seed": config.seed,
        "digest": canonical_digest([stack.blend.method, stack.blend.members, scores]),
    }


def failed_record(index: int, plan: Plan, config: RunConfig, failures: Sequence[Failure]) -> dict[str, Any]:
    """Return the record of a row that is not complete, with the reason."""
    name = plan.rows[index].name
    failure = next((f for f in failures if f.row == name), None)
    message = failure.message if failure else "not all of its units are stored"
    return {**about_row(index, plan, config), "name": name, "status": "failed", "error": message}


def known_failures(
    pending: Sequence[Unit], plan: Plan, store: RunStore, note: Callable[[str], None]
) -> tuple[list[Unit], list[Failure]]:
    """Part units into those to train and those that failed in an earlier call; a failure is a result, and reported."""
    left, failures = [], []
    for unit in pending:
        text = store.read_error(unit.key)
        if text is None:
            left.append(unit)
        else:
            failures.append(Failure(plan.rows[unit.row].name, last_line(text), store.error_file(unit.key)))
    if failures:
        what = "1 unit" if len(failures) == 1 else f"{len(failures)} units"
        note(f"{what} failed before, not trained again; --retry-failed does that")
    return left, failures


def remark(scores: Sequence[NDArray[np.float64]]) -> dict[str, str]:
    """Return what is worth saying of a row that is complete, as a part of its record.

    A model that gives all events of a fold the same score is allowed: its metrics are defined, and worth nothing.

    Args:
        scores: held-out scores of each of the row's fits.
    """
    constant = sum(values.size > 1 and float(np.ptp(values)) == 0.0 for values in scores)
    if not constant:
        return {}
    what = "all held-out events" if len(scores) == 1 else f"all held-out events in {constant} of {len(scores)} fits"
    return {"remark": f"the same score for {what}"}
