"""Turn stored unit scores into leaderboard rows: recalibrate, stack, cut, evaluate, describe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.ensemble import RowMetrics, Truth, evaluate_held_out, evaluate_row
from higgsbench.ensemble.blend import (
    Blend,
    apply_recalibration,
    cross_fitted_blend,
    cross_fitted_recalibration,
    fit_blend,
    fit_recalibration,
)
from higgsbench.files import canonical_digest
from higgsbench.runs.unit import REFIT, mean_log_odds
from higgsbench.validation import group_index

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan, Row
    from higgsbench.runs.unit import UnitResult

_PUBLIC_PRIVATE = {"ams_public": "b", "ams_private": "v"}


@dataclass(frozen=True)
class AssembledRow:
    """A complete row.

    Attributes:
        name: unique name within the run.
        oof: (repeats, n) out-of-fold log-odds in physical normalisation.
        test: (n_test,) log-odds of held-out events, or None.
        calibration: slope and intercept per group for new events, or None where the row is not recalibrated.
        fold_calibrations: the same for the events of each fold, repeat by repeat; empty where it is not recalibrated.
        metrics: its metrics.
        record: what rows.json says about it, in full precision.
    """

    name: str
    oof: NDArray[np.float64]
    test: NDArray[np.float64] | None
    calibration: list[list[float]] | None
    metrics: RowMetrics
    record: dict[str, Any]
    fold_calibrations: tuple[list[list[float]], ...] = ()


@dataclass(frozen=True)
class Stack:
    """The blend of a run.

    Attributes:
        row: its row.
        blend: fitted on all out-of-fold scores; applied to held-out events.
        per_fold: the cross-fitted blenders, repeat by repeat.
    """

    row: AssembledRow
    blend: Blend
    per_fold: tuple[Blend, ...]


def assembled_row(plan: Plan, index: int, stored: Mapping[str, UnitResult]) -> AssembledRow:
    """Collect, recalibrate and evaluate a row of the plan, whose units are all among the stored ones, by key.

    Raises:
        ConfigError: if a recalibration cannot be fitted.
    """
    row, dataset, units = plan.rows[index], plan.dataset, plan.units_of(index)
    results = [stored[unit.key] for unit in units]
    oof = np.full(dataset.fold.shape, np.nan)
    for unit, result in zip(units, results, strict=True):
        if unit.fold != REFIT:
            oof[unit.repeat, dataset.fold[unit.repeat] == unit.fold] = result.score
    tests = [result.test_score for result in results if result.test_score.size]
    test = mean_log_odds(tests) if tests else None
    calibration, fold_calibrations = None, tuple[list[list[float]], ...]()
    if row.calibration == "logit":
        oof, test, calibration, fold_calibrations = _recalibrated(row, oof, test, dataset)
    about = _about(row, plan, index) | {
        "fit_seconds": float(sum(result.fit_seconds for result in results)),
        # A refit that scores no events has no such time.
        "predict_us": float(np.mean([result.predict_us for result in results if result.scored])),
        "peak_mb": max(result.peak_mb for result in results),
    }
    # A model that gives all events of a fold the same score is allowed: its metrics are defined but meaningless.
    constant = sum(result.score.size > 1 and float(np.ptp(result.score)) == 0.0 for result in results)
    if constant:
        where = "" if len(results) == 1 else f" in {constant} of {len(results)} fits"
        about["remark"] = f"the same score for all held-out events{where}"
    return replace(_evaluated(plan, about, oof, test, calibration), fold_calibrations=fold_calibrations)


def _recalibrated(
    row: Row, oof: NDArray[np.float64], test: NDArray[np.float64] | None, dataset: Dataset
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, list[list[float]], tuple[list[list[float]], ...]]:
    """Recalibrate split models per jet group, others globally.

    Also return the parameters for new events and for those of each fold.
    """
    y, w = dataset.y, dataset.weight
    split = row.variant == "jets" and dataset.group is not None
    part = dataset.group if split and dataset.group is not None else np.zeros(y.size, dtype=np.int64)
    repeats = range(oof.shape[0])
    calibrated = [cross_fitted_recalibration(oof[r], y, w, part, dataset.fold[r]) for r in repeats]
    parameters = np.mean([fit_recalibration(oof[r], y, w, part) for r in repeats], axis=0)
    if test is not None and dataset.test is not None:
        numbers = dataset.test.group if split else None
        test_part = np.zeros(test.size, np.int64) if numbers is None else group_index(numbers, dataset.groups)
        test = apply_recalibration(test, test_part, parameters)
    per_fold = tuple(fit.tolist() for _, fits in calibrated for fit in fits)
    return np.stack([scores for scores, _ in calibrated]), test, parameters.tolist(), per_fold


def assembled_stack(plan: Plan, rows: Mapping[int, AssembledRow]) -> Stack | None:
    """Blend complete rows (by position in the plan); None where the stack is off or has fewer than two members."""
    config, dataset, wanted = plan.config.stack, plan.dataset, plan.config.stack.members
    chosen = [
        rows[index]
        for index in sorted(rows)
        if wanted is None or plan.rows[index].label in wanted or plan.rows[index].name in wanted
    ]
    if not config.enabled or len(chosen) < 2:
        return None
    names = tuple(row.name for row in chosen)
    y, weight, totals = dataset.y, dataset.weight, dataset.totals
    out, per_fold, fits = [], list[Blend](), []
    for repeat, fold in enumerate(dataset.fold):
        F = np.column_stack([row.oof[repeat] for row in chosen])
        blended, blends = cross_fitted_blend(config.method, names, F, y, weight, fold, totals)
        out.append(blended)
        per_fold += blends
        fits.append(fit_blend(config.method, names, F, y, weight, totals))
    coefficients = np.mean([blend.coefficients for blend in fits], axis=0)
    intercept = float(np.mean([blend.intercept for blend in fits]))
    final = Blend(fits[0].method, names, coefficients, intercept, fits[0].prior)
    tests = [row.test for row in chosen if row.test is not None]
    test = final(np.column_stack(tests)) if len(tests) == len(chosen) else None
    return Stack(_evaluated(plan, _about_stack(plan, final, chosen), np.stack(out), test), final, tuple(per_fold))


def _about_stack(plan: Plan, blend: Blend, members: Sequence[AssembledRow]) -> dict[str, Any]:
    """Describe the row of the stack and the cost of its members."""
    units = [[row.calibration, [unit.key for unit in plan.units_of(i)]] for i, row in enumerate(plan.rows)]
    cost = {name: [row.record[name] for row in members] for name in ("fit_seconds", "predict_us", "peak_mb")}
    return {
        **dict.fromkeys(("name", "label", "model"), "stack"),
        **dict.fromkeys(("features", "preset", "training_weights", "calibration"), ""),
        "variant": blend.method,
        "n_features": len(blend.members),
        "params": {"members": list(blend.members)},
        "seed": plan.config.seed,
        "digest": canonical_digest([blend.method, blend.members, units]),
        "fit_seconds": sum(cost["fit_seconds"]),
        "predict_us": sum(cost["predict_us"]),
        "peak_mb": max(cost["peak_mb"]),
        **({"simulation": "in members"} if any("simulation" in row.record for row in members) else {}),
    }


def _evaluated(
    plan: Plan,
    about: Mapping[str, Any],
    oof: NDArray[np.float64],
    test: NDArray[np.float64] | None,
    calibration: list[list[float]] | None = None,
) -> AssembledRow:
    """Evaluate scores; the record keeps what `about` says about the row."""
    dataset, cut = plan.dataset, plan.config.cut
    y, weight, fold = dataset.y, dataset.weight, dataset.fold
    truth = Truth(y, weight, fold, dataset.totals, cut.b_reg, cut.rule, dataset.processes, dataset.spectators)
    metrics = evaluate_row(oof, truth)
    record = {
        **about,
        "status": "ok",
        **metrics.record(),
        "cut_rule": metrics.cut.rule,
        "threshold": metrics.cut.threshold,
        "cut_fraction": metrics.cut.fraction,
        **_held_out(test, truth, dataset, metrics.cut.threshold),
    }
    return AssembledRow(about["name"], oof, test, calibration, metrics.without_events(), record)


def _held_out(scores: NDArray[np.float64] | None, truth: Truth, dataset: Dataset, threshold: float) -> dict[str, float]:
    test = dataset.test
    if scores is None or test is None or not test.labelled:
        return {}
    y, weight, subset = test.y, test.weight, test.subset
    parts: dict[str, NDArray[np.bool_]] = {"ams_test": np.ones(y.size, dtype=np.bool_)}
    if subset is not None:
        parts |= {name: subset == value for name, value in _PUBLIC_PRIVATE.items()}
    out: dict[str, float] = {}
    for name, rows in parts.items():
        if not (y[rows].any() and (~y[rows]).any()):
            continue
        ams, auc = evaluate_held_out(y[rows], weight[rows], scores[rows], threshold, truth.totals, truth.b_reg)
        out |= {name: ams.value, f"{name}_se": ams.se}
        if name == "ams_test":
            out["auc_test"] = auc.value
    return out


def _about(row: Row, plan: Plan, index: int | None) -> dict[str, Any]:
    """Return what a row is: model, variant, parameters, and the digest of its fits (none where index is None)."""
    units = [] if index is None else [unit.key for unit in plan.units_of(index)]
    planed = row.robust.planed
    return {
        "name": row.name,
        "label": row.label,
        "model": row.spec.name,
        "variant": row.variant,
        "features": row.features.name,
        "n_features": len(row.features.columns),
        "preset": row.preset,
        "params": row.params,
        "training_weights": row.training_weights if planed is None else f"flat in {planed.columns[0]}",
        "calibration": row.calibration,
        "seed": plan.config.seed,
        **({"from_disk": True} if row.from_disk else {}),
        **({"device_note": row.device_note} if row.device_note else {}),
        **({"training_events": list(row.training_events)} if row.training_events else {}),
        **row.robust.record(),
        **({"simulation": str(row.simulation)} if row.simulation else {}),
        "digest": canonical_digest([row.calibration, units]),
    }


def failed_record(row: Row, plan: Plan, index: int | None, error: str) -> dict[str, Any]:
    """Return the record of a row that is not complete; `index` is None where the plan refuses the row."""
    return {**_about(row, plan, index), "status": "failed", "error": error}
