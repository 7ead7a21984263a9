"""Folds that every model and every variant shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["fold_assignments", "group_index"]


def group_index(group: NDArray[np.int64], groups: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return, for each event, the position of its group in `groups`.

    Args:
        group: (n,) group number of each event, e.g. PRI_jet_num.
        groups: the numbers that form one group each, e.g. ((0,), (1,), (2, 3)).

    Raises:
        ConfigError: if an event's number stands in no group.
    """
    index = np.full(group.size, -1, dtype=np.int64)
    for position, members in enumerate(groups):
        index[np.isin(group, list(members))] = position
    if (index < 0).any():
        lost = sorted(int(v) for v in np.unique(group[index < 0]))
        raise ConfigError(f"jet_groups: the events have {lost[:5]} in the group column, which stand in no group")
    return index


def fold_assignments(
    y: NDArray[np.bool_], strata: NDArray[np.int64] | None, folds: int, repeats: int, seed: int
) -> NDArray[np.int64]:
    """Assign every event to a fold, stratified by label x jet group, once per repeat.

    The folds are those of scikit-learn's `StratifiedKFold(folds, shuffle=True, random_state=seed + repeat)`, number by
    number, without the second that importing scikit-learn costs a command that trains nothing.

    Args:
        y: (n,) truth.
        strata: (n,) group index, or None to stratify by label only.
        folds: number of folds, at least 2.
        repeats: number of repeats; repeat r shuffles with seed + r.
        seed: seed of the shuffle.

    Returns:
        (repeats, n) fold numbers from 0 to folds - 1.

    Raises:
        ConfigError: if a class has fewer events than there are folds.
    """
    for name, members in (("signal", y), ("background", ~y)):
        if int(members.sum()) < folds:
            raise ConfigError(
                f"folds: {folds} folds need at least {folds} {name} events, there are {int(members.sum())}"
            )
    stratum = y.astype(np.int64) if strata is None else 2 * strata + y
    out = np.empty((repeats, y.size), dtype=np.int64)
    # Strata in the order in which they occur; one smaller than the number of folds is spread as far as it goes.
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
