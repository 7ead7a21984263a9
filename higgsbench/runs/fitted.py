"""The stored models of a run, asked for scores of the run's own events: by those that saw an event, or that did not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import ConfigError, StoreError
from higgsbench.features import feature_matrix
from higgsbench.runs.attributions import tree_contributions
from higgsbench.runs.blocks import block_scores, with_group
from higgsbench.runs.predictor import open_predictor, open_row, read_content, used_blend
from higgsbench.runs.store import RunStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.runs.predictor import FittedRow, Predictor
    from higgsbench.runs.predictor_file import PredictorFile
    from higgsbench.schema import TableSchema

__all__ = ["FittedRun", "UnseenScorer"]


@dataclass(frozen=True)
class UnseenScorer:
    """Scores the run's own events, each by a fold model that did not see it.

    Attributes:
        name: the row.
        row: its models.
        model: (n,) which of them judges each event.
        group: column with the group number, or None.
    """

    name: str
    row: FittedRow
    model: NDArray[np.int64]
    group: str | None

    def scores(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return log-odds (n,) of the events in the order they were named in, perhaps with columns exchanged."""
        X, numbers = _matrix(self.row, frame, self.group)
        split = numbers if self.row.groups is not None else None
        out = np.empty(frame.height)
        for index, model in enumerate(self.row.models):
            rows = self.model == index
            if rows.any():
                out[rows] = block_scores(model, X[rows], None if split is None else split[rows])
        return self.row.calibrated(out, numbers)


class FittedRun:
    """The models of a finished run; read from disk when they are asked for. Nothing in the files is executed.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.store = RunStore(folder)

    @cached_property
    def _content(self) -> PredictorFile:
        return read_content(self.store)

    @cached_property
    def _schema(self) -> TableSchema:
        return self._content.data.table_schema()

    def in_sample(self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score training events by the models that saw them: the mean over all fold models but the event's own.

        Args:
            name: the row.
            frame: (n,) training events, missing values as null.
            event_id: (n,) their numbers.

        Returns:
            (n,) log-odds in physical normalisation, recalibrated as new events are.

        Raises:
            HiggsbenchError: if the run has no such row, or its models are not stored or cannot be used here.
        """
        row, left_out = self._row(name)
        X, numbers = _matrix(row, frame, self._schema.group)
        split = numbers if row.groups is not None else None
        total, seen = np.zeros(frame.height), np.zeros(frame.height, dtype=np.int64)
        for model, others in zip(row.models, left_out, strict=True):
            rows = ~np.isin(event_id, others)
            total[rows] += block_scores(model, X[rows], None if split is None else split[rows])
            seen += rows
        if not seen.all():
            raise StoreError(f"{self.store.folder}: {name!r} has no model that was trained on some of the events")
        return row.calibrated(total / seen, numbers)

    def blended(self, scores: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """Blend members' scores (n,) as the run's stack does; None where there is no stack, or a member is missing."""
        if self._content.stack is None:
            return None
        blend = used_blend(self._content)
        if not blend.members or not set(blend.members) <= set(scores):
            return None
        return blend(np.column_stack([scores[member] for member in blend.members]))

    def unseen(self, name: str, event_id: NDArray[np.int64]) -> UnseenScorer:
        """Return a scorer of training events, each by the first fold model that did not see it.

        Raises:
            HiggsbenchError: as `in_sample`, or if every stored model has seen the events (a refit).
        """
        row, left_out = self._row(name)
        model = np.full(event_id.size, -1)
        for index, others in enumerate(left_out):
            model[(model < 0) & np.isin(event_id, others)] = index
        if (model < 0).any():
            raise StoreError(
                f"{self.store.folder}: the stored models of {name!r} have seen all training events "
                "(test_prediction: refit)"
            )
        return UnseenScorer(name, row, model, self._schema.group)

    def held_out(self, name: str) -> Predictor:
        """Return the scorer of held-out events.

        Raises:
            HiggsbenchError: as `in_sample`.
        """
        return open_predictor(self.store.folder, name)

    def contributions(
        self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]
    ) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
        """Split the log-odds of boosted trees into what each feature adds (TreeSHAP, the library's own).

        Each event is judged by a fold model that did not see it where there is one, otherwise by the refit.

        Args:
            name: the row.
            frame: (n,) training events, missing values as null.
            event_id: (n,) their numbers.

        Returns:
            Names of the p features, their values (n, p) with NaN where missing, and what they add to the log-odds
            (n, p), before any recalibration.

        Raises:
            ModelError: if the model is not made of boosted trees whose library has TreeSHAP.
            HiggsbenchError: as `in_sample`.
        """
        row, left_out = self._row(name)
        X, numbers = _matrix(row, frame, self._schema.group)
        inputs = with_group(X, numbers if row.groups is not None else None)
        parts = np.zeros(X.shape)
        done = np.zeros(frame.height, dtype=np.bool_)
        for model, others in zip(row.models, left_out, strict=True):
            rows = ~done & (np.isin(event_id, others) if others.size else True)
            if rows.any():
                parts[rows] = tree_contributions(model, inputs[rows])[:, : X.shape[1]]
            done |= rows
        return row.features.columns, X.astype(np.float64), parts

    def _row(self, name: str) -> tuple[FittedRow, list[NDArray[np.int64]]]:
        """Return a row's models and, for each, the training events that it did not see."""
        entry = next((row for row in self._content.rows if row.name == name), None)
        if entry is None:
            raise ConfigError(f"{self.store.folder}: no trained row {name!r}")
        row = open_row(self.store, entry, self._schema, self._content.threads)
        left_out = []
        for key in entry.units:
            unit = self.store.read(key)
            if unit is None:
                raise StoreError(f"{self.store.folder}: unit {key} is gone or damaged; run the configuration again")
            left_out.append(unit.event_id)
        return row, left_out


def _matrix(
    row: FittedRow, frame: pl.DataFrame, group: str | None
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    numbers = None if group is None else frame[group].to_numpy().astype(np.int64)
    return feature_matrix(frame, row.features), numbers
