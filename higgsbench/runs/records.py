"""What a leaderboard record says of a row besides its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.files import canonical_digest
from higgsbench.runs.result import Failure, last_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from higgsbench.config import RunConfig
    from higgsbench.runs.assemble import Stack
    from higgsbench.runs.plan import Plan, Unit
    from higgsbench.runs.store import RunStore

__all__ = ["about_row", "about_stack", "failed_record", "known_failures", "remark"]


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
