"""What a finished run stores besides its units: configuration, environment, scores, stack, predictor, rows."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from higgsbench.config.document import yaml_text
from higgsbench.config.model import DataConfig, FeatureConfig, FoldRule
from higgsbench.config.regions import StatisticalModel
from higgsbench.config.section import Number, Strict
from higgsbench.ensemble import METRICS_VERSION
from higgsbench.errors import StoreError
from higgsbench.files import (
    ROWS,
    atomic_path,
    canonical_digest,
    file_digest,
    json_text,
    parse_sealed,
    sync_folder,
    told_plainly,
    write_json,
    write_sealed,
    write_text,
)
from higgsbench.runs.stored import CONFIG, ENVIRONMENT, PREDICTOR, REPLICAS, SCORES, STACK, TEST_SCORES
from higgsbench.runs.unit import REFIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from higgsbench.config.model import RunConfig
    from higgsbench.ensemble.blend import Blend
    from higgsbench.runs.assemble import AssembledRow, Stack
    from higgsbench.runs.budget import LeftOut
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan, Row

ASSEMBLY_FORMAT = 6
"""Incremented whenever the same units would give different rows or files."""

PREDICTOR_FORMAT = 1

_SAME_SCORES = ("data", "store_models", "memory_limit", "spectators", *StatisticalModel.model_fields)
"""Keys of a configuration that do not change the scores and so do not name the folder."""


Calibration = list[Annotated[list[Number], Field(min_length=2, max_length=2)]]


class RowEntry(Strict):
    """One trained row: its name, label, model, jet groups (None for a global one) and frozen cut.

    `features` are as configured, with the identity of what that meant when the models were trained; `calibration` has
    slope and intercept per group, or is None, and `fold_calibrations` the same for the events of each fold; `units` are
    the digests of the fits whose mean scores new events, repeat by repeat; `code` is that of the model's record.
    """

    name: str
    label: str
    model: str
    code: str = ""
    features: FeatureConfig
    feature_digest: str
    groups: list[list[int]] | None
    calibration: Calibration | None
    fold_calibrations: list[Calibration] | None = None
    threshold: Number
    units: Annotated[list[Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]], Field(min_length=1)]


class BlendEntry(Strict):
    """The blender of a fold: a coefficient for each member of the stack, and an intercept."""

    coefficients: dict[str, Number]
    intercept: Number


class FoldsEntry(Strict):
    """The folds of a run: their number, the rule `by` with its value in each fold, and the blender of each."""

    repeats: Annotated[int, Field(ge=1, le=100)]
    number: Annotated[int, Field(ge=2, le=100)]
    by: str | None = None
    values: list[int] = Field(default_factory=list)
    blends: list[BlendEntry] = Field(default_factory=list)


class PredictorFile(Strict):
    """The content of `predictor.json`; `data` has only the layout of the events.

    `folds` is None if a refit scores new events, and in runs of earlier versions. `merged` says why jet groups were
    merged, one line for each.
    """

    format: int
    data: DataConfig
    threads: Annotated[int, Field(ge=1, le=1024)]
    rows: Annotated[list[RowEntry], Field(min_length=1)]
    folds: FoldsEntry | None = None
    merged: list[str] = Field(default_factory=list)
    stack: Any = None  # in runs of earlier versions; stack.json has the same content

    @model_validator(mode="after")
    def _one_of_each_fold(self) -> PredictorFile:
        folds = self.folds
        if folds is not None:
            parts: list[Sequence[object]] = [row.units for row in self.rows]
            parts += [row.fold_calibrations for row in self.rows if row.fold_calibrations is not None]
            parts += [folds.blends] if folds.blends else []
            if any(len(part) != folds.repeats * folds.number for part in parts):
                raise ValueError("not one entry for each fold")
            if folds.by is not None and len(folds.values) != folds.number:
                raise ValueError("not one value for each fold")
        return self


def resolved_config(plan: Plan) -> dict[str, Any]:
    """Return the configuration of a plan with presets and defaults filled in; it runs again unchanged."""
    out = written_out(plan.config, (*plan.rows, *(row for row, _ in plan.refused)))
    if isinstance(plan.config.folds, FoldRule):
        out["folds"]["k"] = plan.dataset.folds
    return out


def written_out(config: RunConfig, rows: Iterable[Row]) -> dict[str, Any]:
    """Return a configuration with presets and defaults filled in; `rows` must include every model."""
    out = config.model_dump(mode="json", exclude_none=True, by_alias=True)
    by_label = {row.label: row for row in rows}
    out["models"] = [
        {
            **entry.model_dump(mode="json", exclude_none=True, by_alias=True),
            "label": row.label,
            "preset": row.preset,
            "params": row.params,
            "training_weights": _weights(row),
            "features": row.choice.model_dump(mode="json", exclude_none=True),
        }
        for entry, row in ((entry, by_label[entry.row_label]) for entry in config.models)
    ]
    return out


def _weights(row: Row) -> str | dict[str, str]:
    return row.training_weights if row.robust.planed is None else {"flat_in": row.robust.planed.columns[0]}


def folder_name(plan: Plan) -> str:
    """Return the name of a run's folder: that of the configuration and a digest of what determines the scores."""
    content = {key: value for key, value in resolved_config(plan).items() if key not in _SAME_SCORES}
    train, test, data = plan.dataset.train, plan.dataset.test, plan.config.data
    expected = [getattr(part, key, None) for part in (data, data.layout) for key in ("n_s", "n_b")]
    parts: tuple[Any, ...] = (data.negative_weights, dict(train.schema.categories), expected if any(expected) else None)
    also = [part for part in parts if part]
    digest = canonical_digest([content, train.digest, None if test is None else test.digest, *also])
    return f"{plan.config.name}-{digest[:8]}"


def comparability(plan: Plan) -> dict[str, Any]:
    """Return what two rows must share to be ranked together."""
    config, dataset = plan.config, plan.dataset
    return {
        "data": dataset.train.digest,
        "test": dataset.test.digest if dataset.test is not None else None,
        "layout": dataset.train.schema.name,
        "simulated": dataset.train.simulated,
        "events": len(dataset.train),
        "test_events": len(dataset.test) if dataset.test is not None else 0,
        "folds": dataset.folds,
        "repeats": len(config.seeds),
        "fold_digest": dataset.fold_digest,
        "n_s": dataset.totals[0],
        "n_b": dataset.totals[1],
        "b_reg": config.cut.b_reg,
        "metrics_version": METRICS_VERSION,
    }


def assembly_digest(plan: Plan) -> str:
    """Identity of the rows: the units and everything that is done with them afterwards."""
    config = plan.config
    rows = [[r.name, r.calibration, [u.key for u in plan.units_of(i)]] for i, r in enumerate(plan.rows)]
    after = [config.stack.model_dump(mode="json"), config.cut.model_dump(mode="json"), config.seed]
    model = config.model_dump(mode="json", include=set(StatisticalModel.model_fields), exclude_none=True)
    spectators = [entry.model_dump(mode="json") for entry in config.spectators or []]
    also = [part for part in (model, spectators) if part]
    return canonical_digest([ASSEMBLY_FORMAT, comparability(plan), rows, after, *also])


def current_rows(folder: Path, plan: Plan) -> list[dict[str, Any]] | None:
    """Return the stored rows if they are complete, belong to this plan, and all their files are undamaged."""
    content = _rows_file(folder)
    if damaged_results(folder) or content.get("assembly") != assembly_digest(plan) or content.get("left_out"):
        return None
    refused = {row.name for row, _ in plan.refused}
    rows: list[dict[str, Any]] = content["rows"]
    return rows if all(row["status"] == "ok" or row["name"] in refused for row in rows) else None


def damaged_results(folder: Path) -> list[str]:
    """Name the files of a finished run that do not match their checksums in rows.json; empty for a run without rows."""
    if not (folder / ROWS).exists():
        return []
    damaged = [] if (sums := _rows_file(folder).get("checksums")) else [ROWS]
    for name, wanted in (sums or {}).items():
        with contextlib.suppress(OSError):
            if file_digest(folder / name) == wanted:
                continue
        damaged.append(name)
    return damaged


def _rows_file(folder: Path) -> dict[str, Any]:
    """Return the content of rows.json; empty where it is missing, damaged or not sealed."""
    try:
        return dict(parse_sealed((folder / ROWS).read_bytes(), required=True))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def write_inputs(folder: Path, plan: Plan, environment: dict[str, Any]) -> None:
    """Write the resolved configuration and the environment when a run begins.

    Rows of an earlier call are removed first if they belong to another version of these files (for example, if the
    events had another path). A StoreError says why writing failed.
    """
    text = yaml_text(resolved_config(plan))
    with told_plainly(StoreError, folder):
        for name, content in ((CONFIG, text), (ENVIRONMENT, json_text(environment))):
            file = folder / name
            if not file.is_file() or file.read_bytes() != content.encode():
                (folder / ROWS).unlink(missing_ok=True)
                write_text(file, content)


def write_results(
    folder: Path,
    plan: Plan,
    done: Mapping[int, AssembledRow],
    stack: Stack | None,
    failed: Sequence[dict[str, Any]],
    left_out: Sequence[LeftOut],
) -> list[dict[str, Any]]:
    """Write scores, bootstrap replicas, stack and predictor, and last the rows with the checksums of the others.

    The rows are those that are complete (`done`, by position in the plan), the stack, records of those that failed, and
    those that a time limit left out. Returns the records as stored; a StoreError says why writing failed.
    """
    complete = [done[index] for index in sorted(done)] + ([] if stack is None else [stack.row])
    tables = _tables(plan.dataset, complete)
    documents = {STACK: None if stack is None else _stack(stack), PREDICTOR: _predictor(plan, done, stack)}
    records = [row.record for row in complete] + list(failed)
    rows: dict[str, Any] = {
        "run": folder.name,
        "assembly": assembly_digest(plan),
        "comparability": comparability(plan),
        "source": plan.dataset.train.source,
        "rows": records,
        "left_out": [dataclasses.asdict(row) for row in left_out],
    }
    with told_plainly(StoreError, folder, advice="; finished units are kept"):
        for name in (ROWS, TEST_SCORES):
            (folder / name).unlink(missing_ok=True)
        for name, table in tables.items():
            with atomic_path(folder / name) as temporary:
                table.write_parquet(temporary, compression="lz4", statistics=False)
        for name, content in documents.items():
            write_json(folder / name, content)
        checksums = {name: file_digest(folder / name) for name in (CONFIG, ENVIRONMENT, *tables, *documents)}
        write_sealed(folder / ROWS, {**rows, "checksums": checksums})
        sync_folder(folder)
    return records


def _tables(dataset: Dataset, rows: Sequence[AssembledRow]) -> dict[str, pl.DataFrame]:
    """Return the tables of a run by file: out-of-fold scores, bootstrap replicas, and scores of held-out events."""
    repeats = dataset.fold.shape[0]
    events: dict[str, Any] = {
        "EventId": np.tile(dataset.train.event_id, repeats),
        "signal": np.tile(dataset.y, repeats),
        "weight": np.tile(dataset.weight, repeats),
        "repeat": np.repeat(np.arange(repeats, dtype=np.int32), dataset.y.size),
        "fold": dataset.fold.ravel().astype(np.int32),
    }
    if (known := dataset.processes) is not None:
        events["process"] = pl.Series(known.names, dtype=pl.String).gather(np.tile(known.index, repeats))
    events |= {
        f"spectator:{name}": np.tile(values.astype(np.float32), repeats) for name, values in dataset.spectators.items()
    }
    replicas: dict[str, Any] = {}
    for row in rows:
        replicas |= row.metrics.replicas.columns(row.name)
    tables = {
        SCORES: pl.DataFrame(events | {f"score:{row.name}": row.oof.ravel() for row in rows}),
        REPLICAS: pl.DataFrame(replicas),
    }
    scored = {f"score:{row.name}": row.test for row in rows if row.test is not None}
    if dataset.test is not None and scored:
        tables[TEST_SCORES] = pl.DataFrame({"EventId": dataset.test.event_id, **scored})
    return tables


def _stack(stack: Stack) -> dict[str, Any]:
    blend, folds = stack.blend, np.stack([blend.coefficients for blend in stack.per_fold])
    columns = {
        "weight": blend.coefficients,
        "weight_mean_over_folds": folds.mean(axis=0),
        "weight_sd_over_folds": folds.std(axis=0),
    }
    members = [
        {"name": name, **{key: float(values[i]) for key, values in columns.items()}}
        for i, name in enumerate(blend.members)
    ]
    return {"method": blend.method, "intercept": blend.intercept, "prior": blend.prior, "members": members}


def _blend_entry(blend: Blend) -> dict[str, Any]:
    weights = dict(zip(blend.members, blend.coefficients.tolist(), strict=True))
    return {"coefficients": weights, "intercept": blend.intercept}


def _predictor(plan: Plan, done: Mapping[int, AssembledRow], stack: Stack | None) -> dict[str, Any]:
    """Describe how the rows of a run score new events (see `PredictorFile`)."""
    dataset = plan.dataset
    rows = [
        {
            "name": row.name,
            "label": row.label,
            "model": row.spec.name,
            **({"code": row.spec.code} if row.spec.code else {}),
            "features": row.choice.model_dump(mode="json", by_alias=True),
            "feature_digest": row.features.digest,
            "groups": plan.dataset.groups if row.variant == "jets" else None,
            "calibration": done[index].calibration,
            "fold_calibrations": done[index].fold_calibrations or None,
            "threshold": done[index].metrics.cut.threshold,
            "units": [unit.key for unit in plan.predictors_of(index)],
        }
        for index, row in enumerate(plan.rows)
        if index in done
    ]
    data = plan.config.data
    layout = data.model_dump(mode="json", by_alias=True, exclude_none=True, include=data.layout_keys())
    content = {"format": PREDICTOR_FORMAT, "threads": plan.config.threads, "data": layout}
    blends = () if stack is None else stack.per_fold
    folds = {
        "repeats": dataset.fold.shape[0],
        "number": dataset.folds,
        "by": plan.config.folds_by,
        "values": dataset.fold_values,
        "blends": [_blend_entry(blend) for blend in blends],
    }
    refit = any(unit.fold == REFIT for unit in plan.units)
    merged = {"merged": dataset.merged} if dataset.merged else {}
    return {**content, "rows": rows, "folds": None if refit else folds, **merged}
