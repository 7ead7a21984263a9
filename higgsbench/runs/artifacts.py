"""What a finished run leaves beside its units: configuration, environment, scores, stack, rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import yaml

from higgsbench.ensemble.evaluate import METRICS_VERSION
from higgsbench.errors import StoreError
from higgsbench.files import (
    ROWS,
    atomic_path,
    canonical_digest,
    file_digest,
    json_text,
    parse_sealed,
    sync_folder,
    write_json,
    write_sealed,
    write_text,
)
from higgsbench.runs.predictor import PREDICTOR

if TYPE_CHECKING:
    from pathlib import Path

    from higgsbench.config import RunConfig
    from higgsbench.ensemble.evaluate import RowMetrics
    from higgsbench.runs.assemble import RowScores, Stack
    from higgsbench.runs.budget import LeftOut
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan
    from higgsbench.runs.store import RunStore

__all__ = ["comparability", "damaged_results", "is_current", "resolved_config", "write_inputs", "write_results"]

ASSEMBLY_FORMAT = 4
"""Raised whenever the same units would give other rows or files."""

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
_INPUTS = (CONFIG, ENVIRONMENT)
_FILES = ("scores.parquet", "replicas.parquet", "stack.json", PREDICTOR)


def resolved_config(config: RunConfig, plan: Plan) -> dict[str, Any]:
    """Return the configuration with presets and defaults written out; it can be run again as it stands."""
    out = config.model_dump(mode="json", exclude_none=True, by_alias=True)
    by_label = {row.label: row for row in plan.rows}
    out["models"] = [
        {
            **entry.model_dump(mode="json", exclude_none=True, by_alias=True),
            "label": entry.row_label,
            "preset": by_label[entry.row_label].preset,
            "params": by_label[entry.row_label].params,
            "training_weights": by_label[entry.row_label].training_weights,
            "features": by_label[entry.row_label].choice.model_dump(mode="json", exclude_none=True),
        }
        for entry in config.models
    ]
    return out


def comparability(config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """Return what two rows must share to be ranked together."""
    return {
        "data": dataset.train.digest,
        "test": dataset.test.digest if dataset.test is not None else None,
        "layout": dataset.train.schema.name,
        "simulated": dataset.train.simulated,
        "events": len(dataset.train),
        "test_events": len(dataset.test) if dataset.test is not None else 0,
        "folds": config.folds,
        "repeats": config.repeats,
        "fold_digest": dataset.fold_digest,
        "n_s": dataset.totals[0],
        "n_b": dataset.totals[1],
        "b_reg": config.cut.b_reg,
        "metrics_version": METRICS_VERSION,
    }


def assembly_digest(config: RunConfig, dataset: Dataset, plan: Plan) -> str:
    """Identity of the rows: the units and everything that is done with them afterwards."""
    rows = [[r.name, r.calibration, [u.key for u in plan.units_of(i)]] for i, r in enumerate(plan.rows)]
    after = [config.stack.model_dump(mode="json"), config.cut.model_dump(mode="json"), config.seed]
    return canonical_digest([ASSEMBLY_FORMAT, comparability(config, dataset), rows, after])


def is_current(store: RunStore, digest: str) -> bool:
    """Whether the stored rows belong to this plan and all files they vouch for are there, undamaged."""
    rows = store.read_json(ROWS)
    try:
        return bool(
            rows["assembly"] == digest
            and not rows.get("left_out")
            and all(row["status"] == "ok" for row in rows["rows"])
            and not damaged_results(store)
        )
    except (KeyError, TypeError, AttributeError):
        return False


def damaged_results(store: RunStore) -> list[str]:
    """Name the files of a finished run that are not what rows.json vouches for; empty for a run without rows."""
    if not (store.folder / ROWS).exists():
        return []
    try:
        sums = parse_sealed((store.folder / ROWS).read_bytes(), required=True)["checksums"]
        return [name for name, wanted in sums.items() if not _is(store.folder / name, wanted)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [ROWS]


def _is(file: Path, digest: Any) -> bool:
    try:
        return bool(file_digest(file) == digest)
    except OSError:
        return False


def write_inputs(store: RunStore, config: RunConfig, plan: Plan, environment: dict[str, Any]) -> None:
    """Write the resolved configuration and the environment when a run begins.

    Rows of an earlier call that vouch for other ones (the events had another path, say) go first.

    Raises:
        StoreError: if the disk refuses.
    """
    text = yaml.safe_dump(resolved_config(config, plan), sort_keys=False, allow_unicode=True)
    contents = {CONFIG: text, ENVIRONMENT: json_text(environment)}
    try:
        for name, content in contents.items():
            file = store.folder / name
            if not file.is_file() or file.read_bytes() != content.encode():
                (store.folder / ROWS).unlink(missing_ok=True)
                write_text(file, content)
    except OSError as error:
        raise StoreError(f"{store.folder}: cannot be written: {error.strerror}") from error


def write_results(
    store: RunStore,
    config: RunConfig,
    dataset: Dataset,
    digest: str,
    rows: list[dict[str, Any]],
    scores: list[RowScores],
    metrics: dict[str, RowMetrics],
    stack: Stack | None,
    predictor: dict[str, Any],
    left_out: list[LeftOut],
) -> None:
    """Write scores, bootstrap replicas, stack and predictor, and last the rows with the checksums of the others.

    Raises:
        StoreError: if the disk refuses.
    """
    try:
        (store.folder / ROWS).unlink(missing_ok=True)
        _write_scores(store, dataset, scores)
        _write_replicas(store, metrics)
        _write_stack(store, stack)
        write_json(store.folder / PREDICTOR, predictor)
        names = [*_INPUTS, *_FILES, *(["test_scores.parquet"] if _write_test_scores(store, dataset, scores) else [])]
        content = {
            "run": store.folder.name,
            "assembly": digest,
            "comparability": comparability(config, dataset),
            "source": dataset.train.source,
            "rows": rows,
            "left_out": [dataclasses.asdict(row) for row in left_out],
            "checksums": {name: file_digest(store.folder / name) for name in names},
        }
        write_sealed(store.folder / ROWS, content)
        sync_folder(store.folder)
    except OSError as error:
        raise StoreError(f"{store.folder}: cannot be written: {error.strerror}; finished units are kept") from error


def _write_parquet(store: RunStore, name: str, frame: pl.DataFrame) -> None:
    with atomic_path(store.folder / name) as temporary:
        frame.write_parquet(temporary, compression="zstd", statistics=False)


def _write_scores(store: RunStore, dataset: Dataset, scores: list[RowScores]) -> None:
    repeats = dataset.fold.shape[0]
    columns: dict[str, Any] = {
        "EventId": np.tile(dataset.train.event_id, repeats),
        "signal": np.tile(dataset.y, repeats),
        "weight": np.tile(dataset.weight, repeats),
        "repeat": np.repeat(np.arange(repeats, dtype=np.int32), dataset.y.size),
        "fold": dataset.fold.ravel().astype(np.int32),
    }
    columns |= {f"score:{row.name}": row.oof.ravel() for row in scores}
    _write_parquet(store, "scores.parquet", pl.DataFrame(columns))


def _write_test_scores(store: RunStore, dataset: Dataset, scores: list[RowScores]) -> bool:
    target = store.folder / "test_scores.parquet"
    if dataset.test is None or all(row.test is None for row in scores):
        target.unlink(missing_ok=True)
        return False
    columns: dict[str, Any] = {"EventId": dataset.test.event_id}
    columns |= {f"score:{row.name}": row.test for row in scores if row.test is not None}
    _write_parquet(store, "test_scores.parquet", pl.DataFrame(columns))
    return True


def _write_replicas(store: RunStore, metrics: dict[str, RowMetrics]) -> None:
    columns: dict[str, Any] = {}
    for name, found in metrics.items():
        columns[f"ams_cv:{name}"] = found.replicas.ams_cv
        columns[f"auc:{name}"] = found.replicas.auc
        others = np.ascontiguousarray(found.replicas.at_others.T)
        columns[f"at_others:{name}"] = pl.Series(others, dtype=pl.Array(pl.Float64, others.shape[1]))
    _write_parquet(store, "replicas.parquet", pl.DataFrame(columns))


def _write_stack(store: RunStore, stack: Stack | None) -> None:
    content = None
    if stack is not None:
        content = {
            "method": stack.blend.method,
            "intercept": stack.blend.intercept,
            "prior": stack.blend.prior,
            "members": [
                {
                    "name": name,
                    "weight": float(weight),
                    "weight_mean_over_folds": float(mean),
                    "weight_sd_over_folds": float(sd),
                }
                for name, weight, mean, sd in zip(
                    stack.blend.members,
                    stack.blend.coefficients,
                    stack.per_fold.mean(axis=0),
                    stack.per_fold.std(axis=0),
                    strict=True,
                )
            ],
        }
    write_json(store.folder / "stack.json", content)
