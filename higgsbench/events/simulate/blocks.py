"""From settings to events: blocks of simulated events as frames in the official layout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import joblib
import numpy as np
import polars as pl

from higgsbench.errors import ConfigError
from higgsbench.events.shifts import apply_shifts
from higgsbench.events.simulate.constants import PROCESSES
from higgsbench.events.simulate.generate import generate
from higgsbench.events.simulate.plan import (
    BLOCK,
    KINEMATICS,
    Normalisation,
    block_count,
    normalisation,
    plan_block,
    stream,
)
from higgsbench.schema import ATLAS_HIGGS, FEATURES, MISSING, SIMULATED_FROM

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from higgsbench.events.simulate.models import ProcessModel
    from higgsbench.events.simulate.plan import BlockPlan
    from higgsbench.events.simulate.settings import SimulationSettings

FloatArray: TypeAlias = "npt.NDArray[np.float64]"

__all__ = ["FIRST_EVENT_ID", "OFFICIAL_COLUMNS", "SCHEMA", "simulate", "simulate_batches", "simulate_block"]

FIRST_EVENT_ID = SIMULATED_FROM
"""EventId of event 0, as in the official file."""

OFFICIAL_COLUMNS: tuple[str, ...] = ("EventId", *FEATURES, "Weight", "Label", "KaggleSet", "KaggleWeight")
"""The 35 columns of the CERN Open Data file, in order."""

SCHEMA: dict[str, pl.DataType] = {
    name: pl.Int64()
    if name == "EventId" or name in ATLAS_HIGGS.integers
    else pl.String()
    if name in ("Label", "KaggleSet")
    else pl.Float64()
    for name in OFFICIAL_COLUMNS
}
"""Types of these columns."""

PROCESS_COLUMN = "process"
"""Name of the column of truth, which exists in memory only."""

_BATCH = 16  # blocks per frame: 131,072 events, 37 MB, a good size for a Parquet row group
_LEAST = 0.001  # GeV: a missing momentum that rounds to zero would have no direction


def _model(settings: SimulationSettings, key: str) -> ProcessModel:
    model = PROCESSES[key]
    if model.label == "s":
        return replace(model, parent=replace(model.parent, mass=settings.higgs_mass))
    return model


def _kinematics(settings: SimulationSettings, block: int) -> tuple[dict[str, FloatArray], BlockPlan]:
    """The 30 unrounded features of a block, each of shape (n,), NaN where missing, and its plan."""
    # The whole block is generated even where the file ends inside it: event i may not depend on the file's length.
    plan = plan_block(replace(settings, events=(block + 1) * BLOCK), block)
    rng = stream(settings.seed, block, KINEMATICS)
    columns = {name: np.full(BLOCK, np.nan) for name in FEATURES}
    for position, key in enumerate(PROCESSES):
        model = _model(settings, key)
        for jet_num in range(4):
            chosen = np.flatnonzero((plan.process == position) & (plan.jet_num == jet_num))
            if len(chosen):
                for name, values in generate(rng, key, model, jet_num, len(chosen)).items():
                    columns[name][chosen] = values
    return columns, plan


def _as_stored(name: str, values: FloatArray) -> pl.Series:
    """Round to the three decimals of the official file and write -999 for missing."""
    rounded = np.round(values, 3) + 0.0  # + 0.0 turns -0.0 into 0.0
    if name == "PRI_met":
        rounded = np.maximum(rounded, _LEAST)
    return pl.Series(name, np.where(np.isnan(rounded), MISSING, rounded)).cast(SCHEMA[name])


def simulate_block(
    settings: SimulationSettings, block: int, weights: Normalisation, *, truth: bool = False
) -> pl.DataFrame:
    """Simulate one block of events.

    Args:
        settings: the data set.
        block: number of the block, from 0.
        weights: the data set's weight factors, from `plan.normalisation`.
        truth: add the column `process`; never write it to a file that claims the official layout.

    Returns:
        At most `plan.BLOCK` events in the official layout.
    """
    columns, plan = _kinematics(settings, block)
    first = FIRST_EVENT_ID + block * BLOCK
    klass = plan.signal.astype(np.int64)
    keys, sets = np.array(list(PROCESSES)), np.array(list(settings.set_proportions))
    frame = pl.DataFrame(
        [
            pl.Series("EventId", np.arange(first, first + BLOCK)),
            *(_as_stored(name, columns[name]) for name in FEATURES),
            pl.Series("Weight", plan.weight * np.array(weights.whole)[klass]),
            pl.Series("Label", np.array(["b", "s"])[klass]),
            pl.Series("KaggleSet", sets[plan.subset]),
            pl.Series("KaggleWeight", plan.weight * np.array(weights.subset)[klass, plan.subset]),
            pl.Series(PROCESS_COLUMN, keys[plan.process]),
        ]
    ).head(settings.events - block * BLOCK)
    if not settings.shifts.is_zero:
        frame = apply_shifts(frame, settings.shifts, settings.seed, processes=frame[PROCESS_COLUMN])
    return frame if truth else frame.drop(PROCESS_COLUMN)


def simulate_batches(settings: SimulationSettings, jobs: int = 1, *, truth: bool = False) -> Iterator[pl.DataFrame]:
    """Simulate a data set piece by piece, with memory that does not depend on its size.

    Args:
        settings: the data set.
        jobs: number of processes, at least 1. The events do not depend on it.
        truth: add the column `process`.

    Yields:
        Frames in the official layout, in the order of EventId.

    Raises:
        ConfigError: if `jobs` is less than 1.
    """
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, not {jobs}")
    weights, blocks = normalisation(settings), block_count(settings)
    batches = [range(start, min(start + _BATCH, blocks)) for start in range(0, blocks, _BATCH)]
    if jobs == 1 or blocks == 1:
        for batch in batches:
            yield pl.concat([simulate_block(settings, b, weights, truth=truth) for b in batch])
        return
    with joblib.Parallel(n_jobs=jobs, return_as="generator") as pool:
        yield from _in_waves(pool, settings, batches, weights, truth=truth)


def _in_waves(
    pool: joblib.Parallel, settings: SimulationSettings, batches: list[range], weights: Normalisation, *, truth: bool
) -> Iterator[pl.DataFrame]:
    """Let processes make one batch while the consumer is busy with the one before.

    No more than that: they would fill the memory whenever the consumer is slower than they are.
    """
    work = joblib.delayed(simulate_block)
    running: Iterator[pl.DataFrame] = iter(())
    done: list[pl.DataFrame] = []
    try:
        for batch in batches:
            running = pool(work(settings, b, weights, truth=truth) for b in batch)
            if done:
                yield pl.concat(done)
            done = list(running)
        yield pl.concat(done)
    finally:
        for _ in running:  # a consumer that stops early: the processes end what they began, or joblib complains
            pass


def simulate(settings: SimulationSettings, jobs: int = 1, *, truth: bool = False) -> pl.DataFrame:
    """Simulate a data set in memory.

    Args:
        settings: the data set.
        jobs: number of processes, at least 1. The events do not depend on it.
        truth: add the column `process`.

    Returns:
        All events in the official layout, 35 columns (36 with `truth`).

    Raises:
        ConfigError: if `jobs` is less than 1.
    """
    return pl.concat(list(simulate_batches(settings, jobs, truth=truth)), rechunk=True)
