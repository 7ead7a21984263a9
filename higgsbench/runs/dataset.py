"""The events of a run: which rows train, which are held out, their weights, folds and matrices."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.challenge import TEST_SETS
from higgsbench.config.load import source_events
from higgsbench.config.model import format_size, parse_size
from higgsbench.errors import ConfigError, DataError
from higgsbench.events.read import open_events
from higgsbench.events.table import Events
from higgsbench.files import canonical_digest
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.runs.environment import available_memory
from higgsbench.validation.folds import fold_assignments, group_index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.config import RunConfig

TRAIN_SETS = ("t",)

_PER_SIMULATED = 600.0
"""Bytes of the main process per simulated event: the table and a copy of it, as measured up to 600,000 events."""


@dataclass(frozen=True)
class Dataset:
    """Events of a run.

    Attributes:
        train: labelled events that are cross-validated.
        test: held-out events, or None.
        y: (n,) truth of the training events.
        weight: (n,) their evaluation weights at the reference totals.
        totals: reference totals (N_s, N_b).
        group: (n,) index of the jet group, or None where the layout has no groups.
        groups: the numbers that form each group.
        fold: (repeats, n) fold numbers.
        fold_digest: identity of the folds.
    """

    train: Events
    test: Events | None
    y: NDArray[np.bool_]
    weight: NDArray[np.float64]
    totals: tuple[float, float]
    group: NDArray[np.int64] | None
    groups: tuple[tuple[int, ...], ...]
    fold: NDArray[np.int64]
    fold_digest: str


def load_dataset(config: RunConfig) -> Dataset:
    """Load and split the events that a configuration asks for.

    Raises:
        ConfigError: if the configuration names no events or sets that do not exist, or simulates more than fit.
        DataError: if a file breaks a rule.
    """
    _check_simulation(config)
    events = source_events(config.data, stored=True)
    if not events.labelled:
        raise DataError(f"{events.source}: no columns {events.schema.label} and {events.schema.weight}: cannot train")
    train, test = _split(events, config)
    y = train.y
    for name, members in (("signal", y), ("background", ~y)):
        if not members.any():
            labels = sorted(str(label) for label in train.frame[train.schema.label].unique())[:5]
            raise DataError(
                f"{train.source}: no {name} events among the {len(train)} training events; column "
                f"{train.schema.label} has {', '.join(repr(label[:30]) for label in labels)}"
            )
    totals = (config.data.n_s or events.totals()[0], config.data.n_b or events.totals()[1])
    weight = evaluation_weights(y, train.weight, *totals)
    groups = tuple(tuple(g) for g in config.jet_groups) if config.jet_groups else train.schema.groups
    group = _group_of(train, groups)
    if test is not None:
        _group_of(test, groups)
    fold = fold_assignments(y, group, config.folds, config.repeats, config.seed, train.event_id)
    # A digest of the assignment itself, so that a splitter that changes between versions shows.
    digest = canonical_digest([train.digest, hashlib.sha256(fold.tobytes()).hexdigest()])
    return Dataset(train, test, y, weight, totals, group, groups, fold, digest)


def _group_of(events: Events, groups: Sequence[Sequence[int]]) -> NDArray[np.int64] | None:
    """Return the position of each event's group; None where there are no groups.

    Raises:
        ConfigError: naming the file, the column and the numbers that belong to no group.
    """
    if events.group is None or not groups:
        return None
    try:
        return group_index(events.group, groups)
    except ConfigError as error:
        raise ConfigError(f"{events.source}, column {events.schema.group}: {error}") from error


def _split(events: Events, config: RunConfig) -> tuple[Events, Events | None]:
    data = config.data
    subset = events.subset
    if subset is None:
        if data.train_sets is not None or (data.test_sets is not None and data.test is None):
            column = events.schema.subset or "of subsets (KaggleSet)"
            raise ConfigError(f"data: train_sets and test_sets need a column {column}, which {events.source} lacks")
        return events, _test_file(config, events)
    train_sets = _known_sets(data.train_sets, TRAIN_SETS, events, "train_sets")
    test_sets = _known_sets(data.test_sets, TEST_SETS, events, "test_sets")
    both = sorted(set(train_sets) & set(test_sets))
    if both and data.test is None:
        raise ConfigError(f"data: set {both[0]!r} is in train_sets and in test_sets")
    chosen = events.in_subsets(train_sets)
    if not chosen.any():
        have = ", ".join(sorted(set(subset.tolist())))
        raise ConfigError(f"data.train_sets: {events.source} has no events of {', '.join(train_sets)}; it has {have}")
    train = events if chosen.all() else events.take(chosen)
    if data.test is not None:
        return train, _test_file(config, train)
    held_out = events.in_subsets(test_sets)
    if not held_out.any():
        if data.test_sets is not None and data.test_sets:
            raise ConfigError(f"data.test_sets: {events.source} has no events of {', '.join(test_sets)}")
        return train, None
    return train, events.take(held_out)


def _known_sets(chosen: Sequence[str] | None, default: Sequence[str], events: Events, key: str) -> Sequence[str]:
    allowed = events.schema.subset_values
    for name in chosen or ():
        if allowed and name not in allowed:
            raise ConfigError(f"data.{key}: no set named {name!r}; sets are {', '.join(allowed)}")
    if chosen is not None and not chosen and key == "train_sets":
        raise ConfigError("data.train_sets: the list is empty")
    return default if chosen is None else chosen


def _test_file(config: RunConfig, train: Events) -> Events | None:
    path = config.data.test
    if path is None:
        return None
    test = open_events(path, train.schema)
    if test.subset is not None and config.data.test_sets is not None:
        chosen = test.in_subsets(config.data.test_sets)
        if not chosen.any():
            raise ConfigError(f"data.test_sets: {path} has no events of {', '.join(config.data.test_sets)}")
        test = test.take(chosen)
    shared = np.intersect1d(train.event_id, test.event_id)
    if train.schema.event_id is not None and shared.size:
        raise DataError(
            f"{path}: {shared.size} events are also training events, e.g. {train.schema.event_id} {int(shared[0])}; "
            "a test on them would be worthless"
        )
    return test


def _check_simulation(config: RunConfig) -> None:
    """Refuse more simulated events than memory holds, before any is simulated.

    Raises:
        ConfigError: with the numbers.
    """
    if config.data.source != "simulated" or config.data.events is None:
        return
    need = _PER_SIMULATED * config.data.events
    limit, source = available_memory(), "the available memory"
    if config.memory_limit:
        limit, source = parse_size(config.memory_limit), "memory_limit"
    if need > limit:
        raise ConfigError(
            f"data.events: {config.data.events:,} simulated events need about {format_size(need)} of memory "
            f"({_PER_SIMULATED:.0f} bytes each); {source} is {format_size(limit)}: take at most "
            f"{int(limit / _PER_SIMULATED):,}, or write a file with `higgsbench data simulate` and train from that"
        )
