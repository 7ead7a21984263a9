"""Folds that every model and every variant shares; training weights, and cell resampling, which makes none negative.

The other modules hold the jet-number split and the stack as estimators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from higgsbench.errors import ConfigError, shortened
from higgsbench.metrics.weights import equal_bins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

_NEAR = (16, 512)
"""Neighbours in the first search of cell resampling, and in the second if these are not enough; the third uses all."""
_TOGETHER = 1 << 21
"""Neighbours that are held in memory at a time."""


def group_index(group: NDArray[np.int64], groups: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return, for each event, the position of its group in `groups`.

    Args:
        group: (n,) group number of each event, e.g. PRI_jet_num.
        groups: the numbers that form one group each, e.g. ((0,), (1,), (2, 3)).

    Raises:
        ConfigError: if an event's number belongs to no group.
    """
    index = np.full(group.size, -1, dtype=np.int64)
    for position, members in enumerate(groups):
        index[np.isin(group, list(members))] = position
    if (index < 0).any():
        lost = [int(v) for v in np.unique(group[index < 0])[:5]]
        written = [list(members) for members in (*groups[:-1], (*groups[-1], *lost))] if groups else [lost]
        raise ConfigError(
            f"the events have {lost} in the group column, which belong to no group; add them to `data.groups` (with "
            f"samples) or `jet_groups` and train again, for example {written}"
        )
    return index


def fold_assignments(
    y: NDArray[np.bool_],
    strata: NDArray[np.int64] | None,
    folds: int,
    repeats: int,
    seed: int,
    event_id: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Assign every event to a fold, stratified by label x jet group, once per repeat.

    For events in the order of their numbers, the folds are those of scikit-learn's `StratifiedKFold(folds,
    shuffle=True, random_state=seed + repeat)`, without spending a second on importing scikit-learn.

    Args:
        y: (n,) truth.
        strata: (n,) group index, or None to stratify by label only.
        folds: number of folds, at least 2.
        repeats: number of repeats; repeat r shuffles with seed + r.
        seed: seed of the shuffle.
        event_id: (n,) unique numbers of the events, on which the folds depend instead of the order of the rows; their
            positions when None.

    Returns:
        (repeats, n) fold numbers from 0 to folds - 1.

    Raises:
        ConfigError: if a class has fewer events than there are folds.
    """
    if event_id is not None:
        order = np.argsort(event_id, kind="stable")
        in_order = fold_assignments(y[order], None if strata is None else strata[order], folds, repeats, seed)
        out = np.empty_like(in_order)
        out[:, order] = in_order
        return out
    for name, members in (("signal", y), ("background", ~y)):
        if int(members.sum()) < folds:
            raise ConfigError(
                f"folds: {folds} folds need at least {folds} {name} events; there are {int(members.sum())}"
            )
    stratum = y.astype(np.int64) if strata is None else 2 * strata + y
    out = np.empty((repeats, y.size), dtype=np.int64)
    # Strata in the order in which they occur; one smaller than the number of folds fills as many as it can.
    _, first, member = np.unique(stratum, return_index=True, return_inverse=True)
    member = np.argsort(np.argsort(first))[member]
    in_order = np.sort(member)
    share = np.stack([np.bincount(in_order[fold::folds], minlength=first.size) for fold in range(folds)])
    for repeat in range(repeats):
        # The legacy generator, whose numbers are fixed for good (NumPy's NEP 19).
        generator = np.random.RandomState(seed + repeat)
        for index in range(first.size):
            numbers = np.repeat(np.arange(folds), share[:, index])
            generator.shuffle(numbers)
            out[repeat, member == index] = numbers
    return out


def folds_by_value(
    values: NDArray[np.float64], y: NDArray[np.bool_], k: int | None, by: str
) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Make one fold per value of a rule.

    Args:
        values: (n,) value of the rule for each event, NaN if it has none.
        y: (n,) truth.
        k: required number of folds, or None for the number of values.
        by: the rule, for messages.

    Returns:
        (1, n) fold numbers from 0 to k - 1, and the value of each fold, ascending.

    Raises:
        ConfigError: if values are missing or not whole, their number is not k, or a fold lacks a class.
    """
    where = f"folds.by: {shortened(by)}"
    if np.isnan(values).any():
        raise ConfigError(f"{where} has no value for {int(np.isnan(values).sum())} of {values.size} events")
    found, fold = np.unique(values, return_inverse=True)
    if (found != np.round(found)).any():
        wrong = float(found[found != np.round(found)][0])
        raise ConfigError(f"{where} must be a whole number for each event; {wrong:g} is not")
    most = 100 if k is None else k
    if not 2 <= found.size <= most or (k is not None and found.size != k):
        listed = ", ".join(f"{value:.0f}" for value in found[:10]) + (", ..." if found.size > 10 else "")
        wanted = f"{k} (k)" if k is not None else "2 to 100"
        raise ConfigError(f"{where} has {found.size} different values ({listed}); expected {wanted}")
    for name, members in (("signal", y), ("background", ~y)):
        counts = np.bincount(fold[members], minlength=found.size)
        if not counts.all():
            value = float(found[np.argmin(counts)])
            raise ConfigError(f"{where}: no {name} events with the value {value:.0f}; each fold needs both classes")
    return fold.astype(np.int64)[None, :], tuple(int(value) for value in found)


def drawn_events(
    number: int,
    y: NDArray[np.bool_],
    strata: NDArray[np.int64],
    event_id: NDArray[np.int64],
    seed: Sequence[int],
) -> NDArray[np.intp]:
    """Draw events in which every label and stratum has the share that it has in all of them.

    The draw depends on the identity of the events, not on their order; with the same seed, a smaller draw is part of a
    larger one.

    Args:
        number: how many events to draw.
        y: (n,) truth.
        strata: (n,) number of the group of each event.
        event_id: (n,) unique numbers of the events.
        seed: whole numbers from 0 to 2**32 - 1.

    Returns:
        (min(number, n),) positions of the drawn events, ascending.
    """
    generator = np.random.RandomState(seed)
    by_number = np.argsort(event_id, kind="stable")
    stratum = 2 * strata + y
    place = np.empty(y.size)
    for value in np.unique(stratum):
        members = by_number[stratum[by_number] == value]
        place[generator.permutation(members)] = (np.arange(members.size) + 0.5) / members.size
    return np.sort(np.lexsort((stratum, place))[:number])


TrainingWeights = Literal["balanced", "sqrt_balanced", "physical", "none"]
TRAINING_WEIGHTS: tuple[str, ...] = get_args(TrainingWeights)
PROPORTIONAL = frozenset({"balanced", "physical"})
"""Schemes proportional to the evaluation weights within a class: these keep the density ratio, so that a shift of the
prior restores physical log-odds. The others need a recalibration."""


def training_weights(y: NDArray[np.bool_], evaluation: NDArray[np.float64], scheme: str) -> NDArray[np.float64]:
    """Turn evaluation weights into training weights of mean 1.

    Args:
        y: (n,) truth, True for signal.
        evaluation: (n,) evaluation weights.
        scheme: `balanced` (class totals equal), `sqrt_balanced` (square root of the weights, then class totals
            equal: fewer extreme weights, more effective events), `physical` (as they are) or `none` (all one).

    Returns:
        (n,) weights whose mean is 1: raw signal weights of about 0.0015 would fall below library defaults such as
        min_child_weight.

    Raises:
        ConfigError: if the scheme is not known or the weights of a class sum to zero.
    """
    if scheme not in TRAINING_WEIGHTS:
        raise ConfigError(f"training_weights: {scheme!r} is not one of {', '.join(TRAINING_WEIGHTS)}")
    if scheme == "none":
        return np.ones(y.size)
    w = np.sqrt(evaluation) if scheme == "sqrt_balanced" else evaluation.astype(np.float64, copy=True)
    if scheme != "physical":
        for members in (y, ~y):
            total = float(np.sum(w[members]))
            if not total > 0.0:
                raise ConfigError("training_weights: balancing needs weights of both classes with a positive sum")
            w[members] /= total
    return w * (y.size / float(np.sum(w)))


PLANING_BINS = 30
"""Bins in which planing makes the distribution of a column flat."""


def planed(
    y: NDArray[np.bool_], evaluation: NDArray[np.float64], values: NDArray[np.float64], part: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Rescale weights so that a quantity has the same, flat distribution in both classes ("planing").

    Both classes get equal shares in 30 bins that hold equal parts of the two classes together, and the same share of
    missing values. A bin in which a class has no positive weight stays as it is.

    Source: Chang, Cohen and Ostdiek, Phys. Rev. D 97 (2018) 056009, arXiv:1709.10106.

    Args:
        y: (n,) truth.
        evaluation: (n,) evaluation weights; each class has a positive sum in each part.
        values: (n,) the quantity, NaN where missing.
        part: (n,) part of each event; each part, such as a jet group, is made flat on its own.

    Returns:
        (n,) weights; the sum of each class in each part is unchanged.
    """
    out = evaluation.copy()
    for number in np.unique(part):
        rows = np.flatnonzero(part == number)
        members = [rows[y[rows]], rows[~y[rows]]]
        half = np.zeros(y.size)
        for own in members:
            half[own] = evaluation[own] / np.sum(evaluation[own])
        place = np.empty(y.size, dtype=np.intp)
        place[rows] = equal_bins(values[rows], half[rows], PLANING_BINS)
        shares = [np.bincount(place[own], half[own], PLANING_BINS + 1) for own in members]
        for own, share in zip(members, shares, strict=True):
            factor = np.divide(sum(shares), 2.0 * share, out=np.ones_like(share), where=share > 0.0)
            scaled = evaluation[own] * factor[place[own]]
            out[own] = scaled * (np.sum(evaluation[own]) / np.sum(scaled))
    return out


NEGATIVE_WEIGHTS = ("drop", "absolute", "zero", "resample")
"""Policies of training for events with negative weights."""


def without_negative(
    weight: NDArray[np.float64],
    policy: str | None,
    y: NDArray[np.bool_],
    features: Callable[[], NDArray[Any]],
    process: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Make signed evaluation weights usable for training.

    Args:
        weight: (n,) evaluation weights, some perhaps negative.
        policy: `drop`, `absolute`, `zero` or `resample`; None where negative weights are not expected.
        y: (n,) truth; this and the next arguments are for `resample` (see `higgsbench.validation`).
        features: returns the features (n, p).
        process: (n,) numbers of the processes, or None.

    Returns:
        (n,) weights that are not negative, and (n,) whether each event trains.

    Raises:
        ConfigError: if there are negative weights and no policy, or the policy is not known.
    """
    known = f"{', '.join(NEGATIVE_WEIGHTS[:-1])} or {NEGATIVE_WEIGHTS[-1]}"
    if policy not in (None, *NEGATIVE_WEIGHTS):
        raise ConfigError(f"negative_weights: expected {known}, got {policy!r}")
    negative, everything = weight < 0.0, np.ones(weight.size, dtype=np.bool_)
    if not negative.any():
        return weight, everything
    if policy is None:
        raise ConfigError(f"negative_weights: {int(negative.sum())} events have negative weights; choose {known}")
    if policy == "resample":
        return resampled(features(), y, weight, process), everything
    usable = np.abs(weight) if policy == "absolute" else np.maximum(weight, 0.0)
    return usable, ~negative if policy == "drop" else everything


def resampled(
    X: NDArray[Any], y: NDArray[np.bool_], weight: NDArray[np.float64], process: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Share negative weights among neighbouring events until no weight is negative.

    A cell starts with an event of negative weight, the most negative first. The nearest events of the same class and
    process join it until the sum of its weights is not negative. Each weight w in it becomes |w|, scaled to that sum.
    Distances are Euclidean over features scaled to unit variance; missing values count as the median, and a flag for
    missing values is a feature too. A process with a negative sum shares with the other processes of its class.

    Source: Andersen and Maier, "Unbiased elimination of negative weights in Monte Carlo samples", Eur. Phys. J. C 82
    (2022) 433; Andersen, Guetschow, Maier and Prestel, Eur. Phys. J. C 80 (2020) 1007.

    Args:
        X: (n, p) features, NaN where missing.
        y: (n,) truth.
        weight: (n,) weights; each class has a positive sum.
        process: (n,) number of each event's process; None where it is unknown.

    Returns:
        (n,) weights that are not negative; the sums of each cell and each class are unchanged.
    """
    from sklearn.pipeline import make_pipeline

    from higgsbench.models.parts import BlockwiseScaler, FlaggedMedians

    points = make_pipeline(FlaggedMedians(), BlockwiseScaler()).fit_transform(X)
    out = weight.copy()
    processes = [] if process is None else [process == number for number in np.unique(process)]
    for members in (*(y & own for own in processes), *(~y & own for own in processes), y, ~y):
        rows = np.flatnonzero(members)
        if (out[rows] < 0.0).any() and out[rows].sum() >= 0.0:
            out[rows] = _shared(points[rows], out[rows])
    return out


def _shared(points: NDArray[Any], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Resample weights w (n,), whose sum is not negative, at points (n, q)."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors().fit(points)
    for size in sorted({min(size, w.size) for size in (*_NEAR, w.size)}):
        waiting = np.flatnonzero(w < 0.0)
        waiting = waiting[np.argsort(w[waiting], kind="stable")]
        for seed, near in _neighbours(search, points, waiting, size, w):
            cell = np.append(seed, near[near != seed])  # another event may be at the same point
            total = np.cumsum(w[cell])
            enough = total >= 0.0
            if size < w.size and not enough.any():
                continue
            last = int(np.argmax(enough)) if enough.any() else w.size - 1  # the sum of all is negative only by rounding
            cell = cell[: last + 1]
            size_of = np.abs(w[cell])
            w[cell] = size_of * (max(total[last], 0.0) / size_of.sum())
    return w


def _neighbours(
    search: Any, points: NDArray[Any], waiting: NDArray[np.int64], size: int, w: NDArray[np.float64]
) -> Iterator[tuple[np.int64, NDArray[np.int64]]]:
    """Yield seeds that are still negative, with their `size` nearest events."""
    step = max(1, _TOGETHER // size)
    for first in range(0, waiting.size, step):
        part = waiting[first : first + step]
        part = part[w[part] < 0.0]
        if part.size:
            for seed, near in zip(part, search.kneighbors(points[part], size, return_distance=False), strict=True):
                if w[seed] < 0.0:
                    yield seed, near
