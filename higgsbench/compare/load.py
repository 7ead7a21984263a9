"""Find models of stored runs by name and bring their out-of-fold scores onto the same events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.ensemble.cut import CUT_RULES
from higgsbench.ensemble.truth import Truth
from higgsbench.errors import ConfigError, DataError, StoreError, nearest_hint
from higgsbench.leaderboard.collect import StoredRow, read_run
from higgsbench.leaderboard.scores import read_scores
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

__all__ = ["Contender", "load_contenders"]

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
