"""A toy Monte Carlo of the challenge's events; its numbers are labelled as such and never count as real data.

This module turns settings into blocks of events in the official layout, as frames or streamed into a file.
"""

from __future__ import annotations

import math
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import joblib
import numpy as np
import polars as pl
from scipy.special import ndtr, ndtri

from higgsbench.errors import ConfigError
from higgsbench.events import normalised
from higgsbench.events.cache import cached_file, cached_table, stored_digest, stored_events
from higgsbench.events.shifts import apply_shifts
from higgsbench.events.simulate.generate import generate
from higgsbench.events.simulate.processes import PROCESSES, SAMPLES, SimulationSettings
from higgsbench.events.table import Events
from higgsbench.events.write import FORMATS
from higgsbench.files import atomic_path, check_folder_of
from higgsbench.schema import ATLAS_HIGGS, FEATURES, MISSING, N_B, N_S, SIMULATED_FROM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from higgsbench.events.derived import BoolArray, FloatArray

__all__ = ["SimulationSettings", "simulate", "simulated_events", "write_simulated"]

BLOCK = 8192  # events per random stream; changing it changes all events
PLAN, KINEMATICS = 0, 1  # the two random streams of a block

_SPREAD_CUT = 2.5  # standard deviations at which the logarithm of a W weight is cut: the file has no outliers


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """What is decided about n events before any is generated, so that all get weights; arrays of shape (n,)."""

    process: NDArray[np.int64]  # position in `PROCESSES`
    jet_num: NDArray[np.int64]  # number of jets, 0 to 3
    subset: NDArray[np.int64]  # position in the settings' `set_proportions`
    signal: BoolArray  # whether the label is "s"
    weight: FloatArray  # before normalisation


class Normalisation(NamedTuple):
    """Factors from raw weights of background and signal to Weight, shape (2,), and KaggleWeight, shape (2, sets)."""

    whole: FloatArray
    subset: FloatArray


def stream(seed: int, block: int, purpose: int) -> np.random.Generator:
    """The random stream of one block and purpose, independent of every other one."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, block, purpose))))


def _categories(settings: SimulationSettings) -> tuple[FloatArray, list[tuple[int, int]]]:
    """Cumulative probabilities of (sample, jet number), and these pairs."""
    shares, pairs = [], []
    for signal, fraction in ((True, settings.signal_fraction), (False, 1.0 - settings.signal_fraction)):
        members = [i for i, sample in enumerate(SAMPLES) if sample.signal == signal]
        events = sum(SAMPLES[i].events for i in members)
        sizes = {i: SAMPLES[i].events / events * settings.mix.get(SAMPLES[i].process, 1.0) for i in members}
        total = math.fsum(sizes.values())
        for i in members:
            jets = SAMPLES[i].jets
            for number in range(4):
                shares.append(fraction * sizes[i] / total * jets[number] / math.fsum(jets))
                pairs.append((i, number))
    cumulative = np.cumsum(shares)
    return cumulative / cumulative[-1], pairs


def plan_block(settings: SimulationSettings, block: int) -> BlockPlan:
    """Decide process, jet number, set and raw weight of the events of a block, counted from 0."""
    rng = stream(settings.seed, block, PLAN)
    n = min(BLOCK, settings.events - block * BLOCK)
    uniform, set_uniform, weight_uniform = rng.random((3, BLOCK))[:, :n]
    edge = ndtr(_SPREAD_CUT)
    normal = ndtri(1.0 - edge + (2.0 * edge - 1.0) * weight_uniform)
    cumulative, pairs = _categories(settings)
    sample, jet_num = np.array(pairs)[np.searchsorted(cumulative, uniform, side="right")].T
    names = list(PROCESSES)
    process = np.array([names.index(s.process) for s in SAMPLES])[sample]
    is_signal = np.array([s.signal for s in SAMPLES])[sample]
    mean = np.array([np.broadcast_to(s.weight, 4) for s in SAMPLES])[sample, jet_num]
    spread = np.array([s.spread for s in SAMPLES])[sample, jet_num]
    # exp(sz - s^2/2) has mean 1 (almost, as z is cut), so the spread does not move the yields of the jet numbers.
    weight = mean * np.exp(spread * normal - spread**2 / 2)
    proportions = np.cumsum(list(settings.set_proportions.values()))
    subset = np.searchsorted(proportions / proportions[-1], set_uniform, side="right")
    return BlockPlan(process, jet_num, subset, is_signal, weight)


def normalisation(settings: SimulationSettings) -> Normalisation:
    """Weight all events by replaying their plan; return the factors that bring the sums to N_s and N_b."""
    n_sets = len(settings.set_proportions)
    classes, sums = np.zeros(2), np.zeros((2, n_sets))
    for block in range(-(-settings.events // BLOCK)):  # the last one may be used in part
        plan = plan_block(settings, block)
        cell = plan.signal * n_sets + plan.subset
        # Not the sum over sets: Weight may not depend on the proportions of the sets, not even in its last digit.
        classes += np.bincount(plan.signal, weights=plan.weight, minlength=2)
        sums += np.bincount(cell, weights=plan.weight, minlength=2 * n_sets).reshape(2, n_sets)
    targets = np.array([N_B, N_S]) * settings.luminosity
    return Normalisation(
        np.divide(targets, classes, out=np.zeros_like(classes), where=classes > 0.0),
        np.divide(targets[:, None], sums, out=np.zeros_like(sums), where=sums > 0.0),
    )


_BATCH = 16  # blocks per frame: 131,072 events, 37 MB, a good size for a Parquet row group
_LEAST = 0.001  # GeV: a missing momentum that rounds to zero would have no direction


def simulate_block(
    settings: SimulationSettings, block: int, weights: Normalisation, *, truth: bool = False
) -> pl.DataFrame:
    """Simulate one block: at most `BLOCK` events in the official layout, with `truth` also their process."""
    # The whole block is generated even where the file ends inside it: event i may not depend on the file's length.
    plan = plan_block(replace(settings, events=(block + 1) * BLOCK), block)
    rng = stream(settings.seed, block, KINEMATICS)
    measured = {name: np.full(BLOCK, np.nan) for name in FEATURES}
    for position, (key, model) in enumerate(PROCESSES.items()):
        if model.label == "s":
            model = replace(model, parent=replace(model.parent, mass=settings.higgs_mass))
        for jet_num in range(4):
            chosen = np.flatnonzero((plan.process == position) & (plan.jet_num == jet_num))
            if len(chosen):
                for name, values in generate(rng, key, model, jet_num, len(chosen)).items():
                    measured[name][chosen] = values
    stored = {name: np.round(values, 3) + 0.0 for name, values in measured.items()}  # + 0.0 turns -0.0 into 0.0
    stored["PRI_met"] = np.maximum(stored["PRI_met"], _LEAST)
    first, klass = SIMULATED_FROM + block * BLOCK, plan.signal.astype(np.int64)
    columns = {
        "EventId": np.arange(first, first + BLOCK),
        **{name: np.where(np.isnan(values), MISSING, values) for name, values in stored.items()},
        "Weight": plan.weight * weights.whole[klass],
        "Label": np.array(["b", "s"])[klass],
        "KaggleSet": np.array(list(settings.set_proportions))[plan.subset],
        "KaggleWeight": plan.weight * weights.subset[klass, plan.subset],
        "process": np.array(list(PROCESSES))[plan.process],
    }
    frame = pl.DataFrame(columns).cast({"PRI_jet_num": pl.Int64()}).head(settings.events - block * BLOCK)
    if not settings.shifts.is_zero:
        frame = apply_shifts(frame, settings.shifts, settings.seed, processes=frame["process"])
    return frame if truth else frame.drop("process")


def simulate_batches(settings: SimulationSettings, jobs: int = 1, *, truth: bool = False) -> Iterator[pl.DataFrame]:
    """Simulate a data set as `simulate` does, in pieces in the order of EventId; memory does not grow with its size."""
    if jobs < 1:
        raise ConfigError(f"jobs must be at least 1, not {jobs}")
    weights, blocks = normalisation(settings), -(-settings.events // BLOCK)
    batches = [range(start, min(start + _BATCH, blocks)) for start in range(0, blocks, _BATCH)]
    if jobs == 1 or blocks == 1:
        for batch in batches:
            yield pl.concat([simulate_block(settings, b, weights, truth=truth) for b in batch])
        return
    work = joblib.delayed(simulate_block)
    running: Iterator[pl.DataFrame] = iter(())
    done: list[pl.DataFrame] = []
    with joblib.Parallel(n_jobs=jobs, return_as="generator") as pool:
        try:
            # The processes make one batch while the consumer is busy with the one before. They run no further ahead,
            # because they would fill the memory whenever the consumer is slower.
            for batch in batches:
                running = pool(work(settings, b, weights, truth=truth) for b in batch)
                if done:
                    yield pl.concat(done)
                done = list(running)
            yield pl.concat(done)
        finally:
            for _ in running:  # where the consumer stops early, joblib complains unless the processes finish
                pass


def simulate(settings: SimulationSettings, jobs: int = 1, *, truth: bool = False) -> pl.DataFrame:
    """Simulate a data set in memory.

    Args:
        settings: the data set.
        jobs: number of processes, at least 1. The events do not depend on it.
        truth: add the column `process`.

    Returns:
        All events in the official layout, 35 columns (36 with `truth`).
    """
    return pl.concat(list(simulate_batches(settings, jobs, truth=truth)), rechunk=True)


_BYTES = {".csv": 240, ".csv.gz": 80, ".parquet": 80}
"""Endings of file names that `write_simulated` understands, and bytes per event on disk, less than measured."""


def write_simulated(settings: SimulationSettings, path: Path | str, jobs: int = 1) -> Path:
    """Simulate a data set into a file, with memory that does not depend on its size.

    The file appears under its name only when it is complete; until then it has a temporary name in the same folder.

    Args:
        settings: the data set.
        path: where to write; the extension selects the format: .csv, .csv.gz or .parquet.
        jobs: number of processes, at least 1. The bytes of the file do not depend on it.

    Raises:
        ConfigError: if the extension is unknown, the folder does not exist or its disk has too little space.
    """
    path = Path(path)
    ending = next((e for e in _BYTES if path.name.lower().endswith(e)), None)
    if ending is None:
        raise ConfigError(f"cannot write {path.name!r}: the name must end in one of {', '.join(_BYTES)}")
    check_folder_of(path, ConfigError)
    with suppress(OSError):
        disk = shutil.disk_usage(path.parent)
        need = settings.events * _BYTES[ending]
        if disk.total and need > disk.free:  # some network disks report no size at all
            raise ConfigError(
                f"cannot write {path}: {settings.events:,} events take about {need / 1e9:,.1f} GB as {ending} "
                f"({_BYTES[ending]} bytes each), but the disk has {disk.free / 1e9:,.1f} GB free: "
                f"simulate at most {disk.free // _BYTES[ending]:,} events or choose another disk"
            )
    try:
        with atomic_path(path) as partial:
            FORMATS[ending](simulate_batches(settings, jobs), partial)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def simulated_events(settings: SimulationSettings, jobs: int = 1, *, in_memory: bool = True) -> Events:
    """Simulate events, or take them from the cache.

    Args:
        settings: what to simulate.
        jobs: worker processes; the events do not depend on it.
        in_memory: whether all columns are kept in memory; otherwise the measured ones stay in the cache, if it can
            be written.
    """
    identity = f"simulated:{settings.identity()}"
    source = f"toy simulation ({settings.events} events, seed {settings.seed})"

    def write(target: Path) -> str:
        FORMATS[".parquet"]((normalised(batch, ATLAS_HIGGS) for batch in simulate_batches(settings, jobs)), target)
        return stored_digest(target)

    if not in_memory:
        with suppress(OSError):
            return stored_events(*cached_file(identity, write), ATLAS_HIGGS, source)
    frame, digest = cached_table(identity, lambda: normalised(simulate(settings, jobs), ATLAS_HIGGS))
    return Events(frame, ATLAS_HIGGS, source, known_digest=digest)
