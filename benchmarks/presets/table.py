"""The table of what was measured, with paired errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import band_ams, publish
from benchmarks.presets.variants import MODELS, Variant
from higgsbench.metrics import Estimate, evaluation_weights, mean_estimate, paired_difference, roc_auc

__all__ = ["write_table"]

REPLICAS = 40
Found = Mapping[str, NDArray[np.float64]]
Truth = tuple[NDArray[np.bool_], NDArray[np.float64]]

_HEAD = (
    "One value of a preset `best` changed at a time, all others kept: to the library's default, or a step to either "
    "side. Real: 15,000 events, 5 folds out of fold, seeds 42 and 43. Simulated: trained on 30,000 events, scored on "
    "50,000 others, one seed.",
    "",
    "Δ is changed minus preset, in units of 0.0001 of the weighted AUC, with its paired standard error, which knows "
    "the events and not the seeds of the models: the line of other seeds shows what these do. Δ AMS is of the AMS "
    f"averaged over selections of 10-20% of the events; its error comes from {REPLICAS} bootstrap samples. Seconds are "
    "of the processor per fit of 12,000 real events, on a machine shared with other work. A choice among so many lines "
    "on the events they are measured on is too optimistic: a difference below two errors, or seen on one of the two "
    "samples, decides nothing.",
    "",
)


def write_table(found: Sequence[tuple[Variant, Found]], planned: int, real: Truth, simulated: Truth) -> None:
    """Write results/reference/presets.md.

    Args:
        found: lines with scores of the real events per seed, (2, n), scores of the simulated ones, and seconds.
        planned: number of lines that there should be.
        real: truth and evaluation weights of the real events.
        simulated: those of the simulated ones.
    """
    lines = list(_HEAD)
    if len(found) < planned:
        lines += [f"Not finished: {len(found)} of {planned} lines are measured; the same command goes on.", ""]
    for model in MODELS:
        rows = [(variant, scores) for variant, scores in found if variant.model == model]
        if not rows or rows[0][0].kind != "start":
            continue
        lines += [f"## {model}", "", "| changed | Δ real | Δ simulated | Δ AMS real | Δ AMS simulated | s |"]
        lines.append("|---|---|---|---|---|---|")
        lines += [_line(variant, scores, rows[0][1], real, simulated) for variant, scores in rows]
        lines.append("")
    publish("presets", "What each value of the presets is worth", lines)


def _line(variant: Variant, scores: Found, start: Found, real: Truth, simulated: Truth) -> str:
    cells = [f"**{variant.label}** (the default)" if variant.is_default else variant.label]
    samples = ((real, "real"), (simulated, "simulated"))
    if variant.kind == "start":
        cells[0] = variant.label
        cells += [f"wAUC {_auc(truth, scores[key]).value:.4f}" for truth, key in samples]
        cells += [f"AMS {_band(truth, scores[key]):.2f}" for truth, key in samples]
    else:
        for truth, key in samples:
            gain, error = paired_difference(_auc(truth, scores[key]), _auc(truth, start[key]))
            cells.append(f"{1e4 * gain:+.1f} ± {1e4 * error:.1f}")
        for truth, key in samples:
            moved, error = _band_difference(truth, scores[key], start[key])
            cells.append(f"{moved:+.3f} ± {error:.3f}")
    return "| " + " | ".join([*cells, f"{scores['seconds'][0]:.1f}"]) + " |"


def _auc(truth: Truth, scores: NDArray[np.float64]) -> Estimate:
    y, w = truth
    return mean_estimate([roc_auc(y, score, w) for score in np.atleast_2d(scores)])


def _band(truth: Truth, scores: NDArray[np.float64]) -> float:
    y, w = truth
    return float(np.mean([band_ams(y, score, w) for score in np.atleast_2d(scores)]))


def _band_difference(truth: Truth, a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """AMS at 10-20% of `a` minus that of `b`, and its standard error over bootstrap samples of the events."""
    y, w = truth
    totals = float(w[y].sum()), float(w[~y].sum())
    rng, a, b = np.random.default_rng(0), np.atleast_2d(a), np.atleast_2d(b)
    drawn = []
    for _ in range(REPLICAS):
        rows = np.repeat(np.arange(y.size), rng.poisson(1.0, size=y.size))
        sample = y[rows], evaluation_weights(y[rows], w[rows], *totals)
        drawn.append(_band(sample, a[:, rows]) - _band(sample, b[:, rows]))
    return _band(truth, a) - _band(truth, b), float(np.std(drawn, ddof=1))
