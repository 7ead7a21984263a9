"""Models against each other on the same events: paired differences, what they select, who can be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.compare.measure import METRICS, Measured, fold_values, measure
from higgsbench.compare.overlap import Overlap, overlap_of
from higgsbench.ensemble.bootstrap import paired_error
from higgsbench.errors import ConfigError
from higgsbench.metrics.multiple import average_ranks, holm, indistinct_groups
from higgsbench.metrics.paired import Difference, corrected_resampled_t, difference_of, effective_degrees

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.compare.load import Contender

__all__ = ["ALPHA", "Comparison", "PairResult", "RankPicture", "compare", "difference_between", "rank_pictures"]

ALPHA = 0.05
"""Two models are called different when the adjusted p-value is under this."""


@dataclass(frozen=True)
class PairResult:
    """One model against another.

    Attributes:
        a: name of the first, b: of the second.
        differences: a minus b for each metric, error from the events.
        adjusted: p-value of each metric after Holm's correction over all pairs.
        over_folds: a minus b by the corrected resampled t-test over folds; empty where the two were not cross-validated
            on the same folds.
        overlap: what the two select at their own cuts.
    """

    a: str
    b: str
    differences: dict[str, Difference]
    adjusted: dict[str, float]
    over_folds: dict[str, Difference]
    overlap: Overlap


@dataclass(frozen=True)
class RankPicture:
    """What a critical-difference picture draws.

    Attributes:
        metric: what was ranked.
        names: models, best average rank first.
        ranks: (m,) average rank over bootstrap replicas, 1 is best.
        groups: positions in `names` of neighbours of which no two can be told apart; groups may overlap.
        alpha: level of the adjusted tests.
    """

    metric: str
    names: tuple[str, ...]
    ranks: NDArray[np.float64]
    groups: tuple[tuple[int, ...], ...]
    alpha: float


@dataclass(frozen=True)
class Comparison:
    """All models against each other.

    Attributes:
        events: number of events.
        models: the measured models, in the order they were named.
        pairs: every pair.
        pictures: average ranks by metric.
        notes: what a reader has to know.
        replicas: number of bootstrap replicas.
    """

    events: int
    models: tuple[Measured, ...]
    pairs: tuple[PairResult, ...]
    pictures: dict[str, RankPicture]
    notes: tuple[str, ...]
    replicas: int

    def __str__(self) -> str:
        """What `higgsbench compare` shows, as Markdown."""
        from higgsbench.compare.render import render

        return render(self, "markdown")

    def pair(self, a: str, b: str) -> PairResult:
        """Return the pair of two models in the stored order.

        Raises:
            ConfigError: if there is no such pair.
        """
        for pair in self.pairs:
            if {pair.a, pair.b} == {a, b}:
                return pair
        raise ConfigError(f"no pair {a!r} and {b!r}; there are {', '.join(m.name for m in self.models)}")


def compare(contenders: Sequence[Contender], notes: Sequence[str] = (), *, replicas: int = 1000) -> Comparison:
    """Compare models on the same events.

    Args:
        contenders: at least two, as `load_contenders` returns them.
        notes: lines to carry along.
        replicas: bootstrap replicas for the errors of the AMS.

    Raises:
        ConfigError: with fewer than two models or replicas, or a name twice.
    """
    if len(contenders) < 2:
        raise ConfigError(f"a comparison needs two models; there is {contenders[0].name if contenders else 'none'}")
    if replicas < 2:
        raise ConfigError(f"--replicas: an error needs at least 2 replicas, not {replicas}")
    if len({c.name for c in contenders}) < len(contenders):
        raise ConfigError("two runs of the same name: give one of the folders another name")
    models = measure(contenders, replicas)
    pairs = _pairs(contenders, models)
    pictures = _pictures(models)
    return Comparison(contenders[0].event_id.size, tuple(models), tuple(pairs), pictures, tuple(notes), replicas)


def rank_pictures(contenders: Sequence[Contender], *, replicas: int) -> dict[str, RankPicture]:
    """Return the pictures of a comparison without the rest of it, most of which grows with the number of pairs.

    Args:
        contenders: at least two models on the same events.
        replicas: bootstrap replicas.
    """
    return _pictures(measure(contenders, replicas))


def _pictures(models: Sequence[Measured]) -> dict[str, RankPicture]:
    return {metric: _picture(metric, models) for metric in METRICS if models[0].replicas.get(metric) is not None}


def _pairs(contenders: Sequence[Contender], models: Sequence[Measured]) -> list[PairResult]:
    index = list(combinations(range(len(models)), 2))
    differences = [{m: difference_between(models[i], models[j], m) for m in models[i].values} for i, j in index]
    by_fold = [fold_values(contender) for contender in contenders]
    adjusted = {m: holm([d[m].p_value for d in differences]) for m in models[0].values}
    return [
        PairResult(
            a=models[i].name,
            b=models[j].name,
            differences=differences[k],
            adjusted={m: float(adjusted[m][k]) for m in adjusted},
            over_folds=_over_folds(contenders[i].truth.fold, contenders[j].truth.fold, by_fold[i], by_fold[j]),
            overlap=overlap_of(contenders[i], contenders[j], models[i], models[j]),
        )
        for k, (i, j) in enumerate(index)
    ]


def difference_between(a: Measured, b: Measured, metric: str) -> Difference:
    """Return a minus b in one metric, its error from the events both are judged by.

    The error of the AMS is that of paired bootstrap replicas, the choice of the cuts included; the others' follows from
    the events' influence. Student's t, its degrees of freedom from the effective number of events.
    """
    with np.errstate(invalid="ignore"):  # two infinite losses have no difference
        deviation = a.influence[metric] - b.influence[metric]
        value = a.values[metric] - b.values[metric]
        se = float(np.sqrt(np.sum(deviation**2)))
    if metric == "ams":  # its cuts were chosen, which a fixed selection does not know
        se = paired_error(a.draws, b.draws)
    return difference_of(value, se, effective_degrees(deviation))


def _over_folds(
    fold: NDArray[np.int64],
    other: NDArray[np.int64],
    mine: dict[str, NDArray[np.float64]],
    theirs: dict[str, NDArray[np.float64]],
) -> dict[str, Difference]:
    """Differences over folds (repeats, n) of the metrics (repeats x folds,); none where the folds are not the same."""
    if not np.array_equal(fold, other):
        return {}
    folds = int(fold.max()) + 1
    share = 1.0 / (folds - 1)
    out: dict[str, Difference] = {}
    for metric in mine:
        difference = mine[metric] - theirs[metric]
        if difference.size > 1 and np.isfinite(difference).all():
            out[metric] = corrected_resampled_t(difference, share)
    return out


def _picture(metric: str, models: Sequence[Measured]) -> RankPicture:
    sign = -1.0 if METRICS[metric].lower_is_better else 1.0
    ranks = average_ranks(sign * np.column_stack([m.replicas[metric] for m in models]))
    order = np.argsort(ranks, kind="stable")
    ordered = [models[int(i)] for i in order]
    index = list(combinations(range(len(models)), 2))
    adjusted = holm([difference_between(ordered[i], ordered[j], metric).p_value for i, j in index])
    apart = np.zeros((len(models), len(models)), dtype=np.bool_)
    for (i, j), p in zip(index, adjusted, strict=True):
        apart[i, j] = apart[j, i] = p < ALPHA
    sorted_ranks = ranks[order]
    names: Any = tuple(models[int(i)].name for i in order)
    return RankPicture(metric, names, sorted_ranks, indistinct_groups(sorted_ranks, apart), ALPHA)
