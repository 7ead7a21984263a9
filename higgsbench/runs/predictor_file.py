"""`predictor.json`: everything beside the fitted models that new events need for their score.

A run writes it with its rows. It names no file, module or function: units by their digest, models and features by their
names in the configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from higgsbench.config.base import Number, Strict
from higgsbench.config.data import DataConfig
from higgsbench.config.model import FeatureConfig
from higgsbench.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from higgsbench.config import RunConfig
    from higgsbench.ensemble.evaluate import RowMetrics
    from higgsbench.runs.assemble import RowScores, Stack
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan

__all__ = ["PREDICTOR", "PredictorFile", "RowEntry", "StackEntry", "predictor_content", "read_predictor"]

PREDICTOR = "predictor.json"
FORMAT = 1

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class RowEntry(Strict):
    """One trained row.

    Attributes:
        name: unique name within the run.
        label: name of the model in the configuration.
        model: name in the registry.
        features: choice of features as configured.
        feature_digest: identity of what that choice meant when the models were trained.
        groups: jet groups of a split model, or None.
        calibration: slope and intercept per group, or None.
        threshold: the frozen cut.
        units: digests of the fits whose mean scores new events.
    """

    name: str
    label: str
    model: str
    features: FeatureConfig
    feature_digest: str
    groups: list[list[int]] | None
    calibration: list[Annotated[list[Number], Field(min_length=2, max_length=2)]] | None
    threshold: Number
    units: Annotated[list[Key], Field(min_length=1)]


class StackEntry(Strict):
    """The blend: members by name of their row."""

    method: str
    members: list[str]
    coefficients: list[Number]
    intercept: Number
    prior: Number
    threshold: Number


class PredictorFile(Strict):
    """The whole file; `data` carries the layout of the events only."""

    format: int
    data: DataConfig
    threads: Annotated[int, Field(ge=1, le=1024)]
    rows: Annotated[list[RowEntry], Field(min_length=1)]
    stack: StackEntry | None


def predictor_content(
    config: RunConfig,
    dataset: Dataset,
    plan: Plan,
    scores: dict[int, RowScores],
    metrics: dict[str, RowMetrics],
    stack: Stack | None,
) -> dict[str, Any]:
    """Describe how the rows of a finished run score new events.

    Args:
        config: the configuration.
        dataset: the run's events.
        plan: its rows and units.
        scores: scores of the rows that succeeded, by position in the plan.
        metrics: metrics by name of the row.
        stack: the blend, if there is one.
    """
    rows = []
    for index in sorted(scores):
        row, found = plan.rows[index], scores[index]
        rows.append(
            {
                "name": row.name,
                "label": row.label,
                "model": row.spec.name,
                "features": row.choice.model_dump(mode="json", by_alias=True),
                "feature_digest": row.features.digest,
                "groups": [list(g) for g in dataset.groups] if row.variant == "jets" else None,
                "calibration": None if found.calibration is None else found.calibration.tolist(),
                "threshold": metrics[row.name].cut.threshold,
                "units": [unit.key for unit in plan.predictors_of(index)],
            }
        )
    layout = config.data.model_dump(mode="json", by_alias=True, exclude_none=True)["schema"]
    return {
        "format": FORMAT,
        "data": {"schema": layout},
        "threads": config.threads,
        "rows": rows,
        "stack": None if stack is None else _stack_entry(stack, metrics["stack"].cut.threshold),
    }


def _stack_entry(stack: Stack, threshold: float) -> dict[str, Any]:
    blend = stack.blend
    return {
        "method": blend.method,
        "members": list(blend.members),
        "coefficients": blend.coefficients.tolist(),
        "intercept": blend.intercept,
        "prior": blend.prior,
        "threshold": threshold,
    }


def read_predictor(file: Path, content: bytes) -> PredictorFile:
    """Validate the content of a `predictor.json`.

    Args:
        file: its name for messages.
        content: its bytes.

    Raises:
        StoreError: naming the file and the key at fault.
    """
    try:
        found = PredictorFile.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{file}: damaged or not made by higgsbench: {at + ': ' if at else ''}{first['msg']}"
        ) from error
    if found.format != FORMAT:
        raise StoreError(f"{file}: format {found.format}, this version of higgsbench reads {FORMAT}")
    names = [row.name for row in found.rows]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise StoreError(f"{file}: two rows are named {repeated!r}")
    blend = found.stack
    if blend is not None and not (
        len(blend.coefficients) == len(blend.members) == len(set(blend.members)) and set(blend.members) <= set(names)
    ):
        raise StoreError(f"{file}: the stack does not fit the rows")
    return found
