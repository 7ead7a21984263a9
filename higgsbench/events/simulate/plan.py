"""The cheap half of the simulation: process, jet number, set and weight of each event, without any kinematics.

Weights are normalised to totals over the whole file, so a file cannot be written before all its events are weighed.
Process, jet number, set and raw weight come from a random stream of their own. It is replayed for all events, which
takes a microsecond per ten, before the expensive half starts; no event is generated twice and none is kept in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.special import ndtr, ndtri

from higgsbench.events.simulate.constants import PROCESSES, SAMPLES
from higgsbench.schema import N_B, N_S

if TYPE_CHECKING:
    import numpy.typing as npt

    from higgsbench.events.simulate.settings import SimulationSettings

FloatArray: TypeAlias = "npt.NDArray[np.float64]"
IntArray: TypeAlias = "npt.NDArray[np.int64]"

__all__ = ["BLOCK", "BlockPlan", "Normalisation", "block_count", "normalisation", "plan_block", "stream"]

BLOCK = 8192
"""Events per random stream. Part of what the events depend on: changing it changes all events."""

PLAN, KINEMATICS = 0, 1
"""The two random streams of a block."""

_SPREAD_CUT = 2.5  # standard deviations at which the logarithm of a W weight is cut: the file has no outliers


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """What is decided about the events of a block before their kinematics, arrays of shape (n,).

    Attributes:
        process: position in `constants.PROCESSES`.
        jet_num: number of jets, 0 to 3.
        subset: position in the settings' `set_proportions`.
        signal: whether the label is "s".
        weight: before normalisation.
    """

    process: IntArray
    jet_num: IntArray
    subset: IntArray
    signal: npt.NDArray[np.bool_]
    weight: FloatArray


@dataclass(frozen=True)
class Normalisation:
    """Factors from raw weights to those of the file.

    Attributes:
        whole: for background and signal, the factor that gives Weight.
        subset: for background and signal, the factors that give KaggleWeight in each set.
    """

    whole: tuple[float, float]
    subset: tuple[tuple[float, ...], tuple[float, ...]]


def stream(seed: int, block: int, purpose: int) -> np.random.Generator:
    """The random stream of one block and purpose, independent of every other one."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, block, purpose))))


def block_count(settings: SimulationSettings) -> int:
    """Number of blocks that hold the settings' events; the last one may be used in part."""
    return -(-settings.events // BLOCK)


def _categories(settings: SimulationSettings) -> tuple[FloatArray, list[tuple[int, int]]]:
    """Cumulative probabilities of (sample, jet number), and these pairs."""
    shares, pairs = [], []
    for signal, fraction in ((True, settings.signal_fraction), (False, 1.0 - settings.signal_fraction)):
        members = [i for i, s in enumerate(SAMPLES) if (PROCESSES[s.process].label == "s") == signal]
        sizes = {i: SAMPLES[i].share * settings.mix.get(SAMPLES[i].process, 1.0) for i in members}
        total = math.fsum(sizes.values())
        for i in members:
            jets = SAMPLES[i].jets
            for number in range(4):
                shares.append(fraction * sizes[i] / total * jets[number] / math.fsum(jets))
                pairs.append((i, number))
    cumulative = np.cumsum(shares)
    return cumulative / cumulative[-1], pairs


def plan_block(settings: SimulationSettings, block: int) -> BlockPlan:
    """Decide process, jet number, set and raw weight of a block's events.

    Args:
        settings: the data set; its number of events only shortens the last block.
        block: number of the block, from 0.

    Returns:
        The plan of the block's events.
    """
    rng = stream(settings.seed, block, PLAN)
    n = min(BLOCK, settings.events - block * BLOCK)
    uniform, set_uniform, weight_uniform = rng.random((3, BLOCK))[:, :n]
    edge = ndtr(_SPREAD_CUT)
    normal = ndtri(1.0 - edge + (2.0 * edge - 1.0) * weight_uniform)
    cumulative, pairs = _categories(settings)
    sample, jet_num = np.array(pairs)[np.searchsorted(cumulative, uniform, side="right")].T
    names = list(PROCESSES)
    process = np.array([names.index(s.process) for s in SAMPLES])[sample]
    is_signal = np.array([PROCESSES[s.process].label == "s" for s in SAMPLES])[sample]
    mean = np.array([s.weight for s in SAMPLES])[sample, jet_num]
    spread = np.array([s.spread for s in SAMPLES])[sample, jet_num]
    # exp(sz - s^2/2) has mean 1 (almost, as z is cut), so the spread does not move the yields of the jet numbers.
    weight = mean * np.exp(spread * normal - spread**2 / 2)
    proportions = np.cumsum(list(settings.set_proportions.values()))
    subset = np.searchsorted(proportions / proportions[-1], set_uniform, side="right")
    return BlockPlan(process, jet_num, subset, is_signal, weight)


def normalisation(settings: SimulationSettings) -> Normalisation:
    """Weigh all events of a data set by replaying its plan.

    Args:
        settings: the data set.

    Returns:
        The factors that bring its sums to N_s and N_b (times the luminosity), in the file and in each set.
    """
    n_sets = len(settings.set_proportions)
    classes, sums = np.zeros(2), np.zeros((2, n_sets))
    for block in range(block_count(settings)):
        plan = plan_block(settings, block)
        cell = plan.signal * n_sets + plan.subset
        # Not the sum over sets: Weight may not depend on the proportions of the sets, not even in its last digit.
        classes += np.bincount(plan.signal, weights=plan.weight, minlength=2)
        sums += np.bincount(cell, weights=plan.weight, minlength=2 * n_sets).reshape(2, n_sets)
    targets = np.array([N_B, N_S]) * settings.luminosity
    whole = [float(t / s) if s > 0 else 0.0 for t, s in zip(targets, classes, strict=True)]
    parts = [tuple(float(t / s) if s > 0 else 0.0 for s in row) for t, row in zip(targets, sums, strict=True)]
    return Normalisation((whole[0], whole[1]), (parts[0], parts[1]))
