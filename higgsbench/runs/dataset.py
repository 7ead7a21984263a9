"""The events of a run: loaded, checked and split, with their folds; and the copy that workers read."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from higgsbench.challenge import TEST_SETS
from higgsbench.config.document import format_size, parse_size
from higgsbench.config.load import source_events
from higgsbench.config.model import FoldRule
from higgsbench.errors import ConfigError, DataError, StoreError
from higgsbench.events import open_events
from higgsbench.events.shifts import Shifts, apply_shifts
from higgsbench.events.table import Events
from higgsbench.expressions import parse_expression
from higgsbench.features import feature_matrix
from higgsbench.files import canonical_digest, temporary_prefix
from higgsbench.metrics import processes_of
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.runs.environment import available_memory
from higgsbench.validation import fold_assignments, folds_by_value, group_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.config.model import DataConfig, RunConfig
    from higgsbench.features import Features
    from higgsbench.metrics import Processes
    from higgsbench.runs.unit import Workspace
    from higgsbench.schema import TableSchema

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
        fold, fold_digest: (repeats, n) fold numbers, and their identity.
        fold_values: value of `folds.by` in each fold, empty without such a rule.
        processes: physics process of each training event, or None where it is not known.
        merged: why jet groups were merged, one line for each; empty if none were.
        spectators: (n,) values of the spectators of the training events, NaN where missing, by name.
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
    fold_values: tuple[int, ...] = ()
    processes: Processes | None = None
    merged: tuple[str, ...] = ()
    spectators: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1

    def digest_of(self, repeat: int) -> str:
        """Return the identity of the folds of one repeat; the only one has that of the whole."""
        return _fold_digest(self.train, self.fold[repeat])

    @property
    def training_size(self) -> int:
        """Number of training events of a fit, those outside one fold; the smallest where folds differ."""
        return self.y.size - max(int(np.bincount(fold).max()) for fold in self.fold)

    def about_totals(self, data: DataConfig) -> Iterator[str]:
        """Say that the reference totals are not the expected events of an experiment, where that is known."""
        schema, (n_s, n_b) = self.train.schema, self.totals
        stated = (data.n_s or schema.n_s) and (data.n_b or schema.n_b)
        if stated or (schema.weight is not None and not schema.weight_note):
            return
        what = f"sums of the weights, and {schema.weight_note}"
        if schema.weight is None:
            what = "numbers of events, because the layout has no weights"
        yield (
            f"N_s = {n_s:,.0f} and N_b = {n_b:,.0f} are {what}: the AMS compares models, but is not the significance "
            "of an experiment; set data.n_s and data.n_b to its expected events"
        )


def load_dataset(config: RunConfig) -> Dataset:
    """Load and split the events that a configuration asks for.

    Raises:
        ConfigError: if the configuration names no events or sets that do not exist, or simulates more than fits.
        DataError: if a file breaks a rule.
    """
    _check_simulation(config)
    events = source_events(config.data, stored=True, by=config.folds_by)
    if not events.labelled:
        raise DataError(f"{events.source}: no columns {events.schema.label} and {events.schema.weight}: cannot train")
    train, test = _split(events, config)
    train = train.with_categories()
    if test is not None:
        test = replace(test, schema=train.schema)
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
    if isinstance(config.folds, FoldRule):
        values = train.lazy().select(fold_expression(config.folds.by, train.schema).alias("fold")).collect()["fold"]
        fold, fold_values = folds_by_value(values.fill_null(np.nan).to_numpy(), y, config.folds.k, config.folds.by)
        fold = np.tile(fold, (len(config.seeds), 1))
    else:
        split = [fold_assignments(y, group, config.folds, 1, seed, train.event_id) for seed, _ in config.seeds]
        fold, fold_values = np.concatenate(split), ()
    digest = _fold_digest(train, fold)
    processes = processes_of(train.process, y, weight)
    dataset = Dataset(train, test, y, weight, totals, group, groups, fold, digest, fold_values, processes)
    by_group = any((entry.jet_split or config.jet_split) != "none" for entry in config.models)
    return with_trainable_groups(dataset) if by_group else dataset


def _fold_digest(train: Events, fold: NDArray[np.int64]) -> str:
    """Return a digest of the assignment itself, so that a splitter that changes between versions shows."""
    return canonical_digest([train.digest, hashlib.sha256(fold.tobytes()).hexdigest()])


def with_trainable_groups(dataset: Dataset) -> Dataset:
    """Merge each jet group that lacks training events of a class with the next by number, the last with the one before.

    The submodel of the merged group then serves both, in training and for new events. The folds stay as they are.
    Groups that could only be merged into a single one are left alone: `group_problem` says what they lack.
    """
    found, numbers = dataset, dataset.train.group
    while numbers is not None and (problem := group_problem(found)) is not None:
        groups = sorted(found.groups, key=min)
        at = groups.index(found.groups[problem.group])
        first = at if at + 1 < len(groups) else at - 1
        if len(groups) < 3:
            return dataset
        other = groups[first + 1 if first == at else first]
        groups[first : first + 2] = [tuple(sorted((*groups[first], *groups[first + 1])))]
        note = f"{problem.text}; merged with {_listed(other)}: one submodel for both"
        found = replace(found, groups=tuple(groups), group=group_index(numbers, groups), merged=(*found.merged, note))
    return found


class GroupProblem(NamedTuple):
    """A jet group that cannot be trained: its position, and the class that it lacks, as one line."""

    group: int
    text: str


def group_problem(dataset: Dataset) -> GroupProblem | None:
    """Return the first jet group that lacks training events of a class, in all folds or in one; None if none does."""
    if dataset.group is None:
        return None
    y, weight, group = dataset.y, dataset.weight, dataset.group
    for index, numbers in enumerate(dataset.groups):
        for name, members in (("signal", y), ("background", ~y)):
            inside = members & (group == index)
            for repeat, fold in enumerate(dataset.fold):
                sums = np.bincount(fold[inside], weights=weight[inside], minlength=int(fold.max()) + 1)
                left = [float(np.sum(np.delete(sums, held_out))) for held_out in range(sums.size)]
                if min(left) > 0.0:
                    continue
                where = f" without fold {int(np.argmin(left))} of repeat {repeat}" if max(left) > 0.0 else ""
                what = f"group {_listed(numbers)} has no {name} events of positive total weight{where}"
                return GroupProblem(index, f"jet_groups: {what}")
    return None


def _listed(numbers: Sequence[int]) -> str:
    """Return the numbers of a group as a list, shortened where it is long."""
    return str(list(numbers)) if len(numbers) < 8 else f"[{numbers[0]}, {numbers[1]}, ..., {numbers[-1]}]"


def fold_expression(by: str, schema: TableSchema) -> pl.Expr:
    """Return the float64 value of `folds.by` over a table of events, which may already have it as a column."""
    if schema.fold is not None:
        return parse_expression(f'"{schema.fold}"', (schema.fold,), "folds.by", vectors=False).polars
    number = () if schema.event_id is None else (schema.event_id,)
    never = [name for name in schema.not_features if name not in number]
    columns = (*schema.numeric, *number, *(() if schema.group is None else (schema.group,)))
    reason = "cannot decide the fold of an event; use its number, or a column that does not depend on the truth"
    return parse_expression(by, columns, "folds.by", never=never, reason=reason, vectors=False).polars


def _check_simulation(config: RunConfig) -> None:
    """Refuse more simulated events than memory holds, before any is simulated."""
    if config.data.source != "simulated" or config.data.events is None:
        return
    need = _PER_SIMULATED * config.data.events
    limit, source = available_memory(), "the available memory"
    if config.memory_limit:
        limit, source = parse_size(config.memory_limit), "memory_limit"
    if need > limit:
        raise ConfigError(
            f"data.events: {config.data.events:,} simulated events need about {format_size(need)} of memory "
            f"({_PER_SIMULATED:.0f} bytes each); {source} is {format_size(limit)}: use at most "
            f"{int(limit / _PER_SIMULATED):,}, or write a file with `higgsbench data simulate` and train from that"
        )


def _group_of(events: Events, groups: Sequence[Sequence[int]]) -> NDArray[np.int64] | None:
    """Return the position of each event's group; None where there are no groups."""
    if events.group is None or not groups:
        return None
    try:
        return group_index(events.group, groups)
    except ConfigError as error:
        raise ConfigError(f"{events.source}, column {events.schema.group}: {error}") from error


def _split(events: Events, config: RunConfig) -> tuple[Events, Events | None]:
    """Return the training events, and the held-out ones of the same file or of a file of their own."""
    data = config.data
    if events.subset is None:
        if data.train_sets is not None or (data.test_sets is not None and data.test is None):
            column = events.schema.subset or "of subsets (KaggleSet)"
            raise ConfigError(f"data: train_sets and test_sets need a column {column}, which {events.source} lacks")
        return events, _test_file(config, events)
    if data.train_sets is not None and not data.train_sets:
        raise ConfigError("data.train_sets: the list is empty")
    allowed = events.schema.subset_values
    for key, chosen in (("train_sets", data.train_sets), ("test_sets", data.test_sets)):
        unknown = [name for name in chosen or () if allowed and name not in allowed]
        if unknown:
            raise ConfigError(f"data.{key}: no set named {unknown[0]!r}; sets are {', '.join(allowed)}")
    train_sets = data.train_sets or ["t"]
    test_sets = TEST_SETS if data.test_sets is None else data.test_sets
    both = sorted(set(train_sets) & set(test_sets))
    if both and data.test is None:
        raise ConfigError(f"data: set {both[0]!r} is in train_sets and in test_sets")
    members = events.in_subsets(train_sets)
    if not members.any():
        have = ", ".join(sorted(set(events.subset.tolist())))
        raise ConfigError(f"data.train_sets: {events.source} has no events of {', '.join(train_sets)}; it has {have}")
    train = events if members.all() else events.take(members)
    if data.test is not None:
        return train, _test_file(config, train)
    held_out = events.in_subsets(test_sets)
    if data.test_sets and not held_out.any():
        raise ConfigError(f"data.test_sets: {events.source} has no events of {', '.join(test_sets)}")
    return train, events.take(held_out) if held_out.any() else None


def _test_file(config: RunConfig, train: Events) -> Events | None:
    """Return the events of the separate test file, if there is one."""
    path = config.data.test
    if path is None:
        return None
    if config.data.samples is not None and config.data.sample_of(path, train.schema).name:
        raise ConfigError(f"data.test: {path} is a file of the samples; a test on training events would be worthless")
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


def working_folder(shared: Path | None) -> tempfile.TemporaryDirectory[str]:
    """Make the folder of the workspace: in the system's folder for temporary files, or in one that machines share.

    Raises:
        StoreError: if writing fails.
    """
    try:
        if shared is not None:
            return tempfile.TemporaryDirectory(prefix=temporary_prefix(), dir=shared)
        return tempfile.TemporaryDirectory(prefix="higgsbench-")
    except OSError as error:
        raise StoreError(f"no folder for the workers' copy of the events: {error.strerror}; set TMPDIR") from error


def process_numbers(events: Events) -> NDArray[np.int64]:
    """Return a number for the process of each event (n,); all 0 if the processes are unknown."""
    name = events.schema.process
    if name is None or name not in events.frame.columns:
        return np.zeros(len(events), dtype=np.int64)
    return events.frame[name].fill_null("").rank("dense").cast(pl.Int64).to_numpy()


class Matrix(NamedTuple):
    """Values of features (n, p) that workers read, of the events as they are or shifted."""

    features: Features
    shifts: Shifts | None = None

    @property
    def name(self) -> str:
        """Name of the matrix of the training events in the workspace."""
        return f"X-{self.features.digest}" + (f"-{self._digest}" if self.shifts is not None else "")

    @property
    def _digest(self) -> str:
        return "" if self.shifts is None else canonical_digest(asdict(self.shifts))[:15]

    def values(self, frame: pl.DataFrame, schema: TableSchema) -> NDArray[np.float32]:
        """Return the values for a table of events."""
        if self.shifts is not None:  # each copy has its own vectors of soft missing momentum
            frame = apply_shifts(frame, self.shifts, int(self._digest, 16), schema=schema)
        return feature_matrix(frame, self.features)


def save_events(workspace: Workspace, dataset: Dataset, matrices: Iterable[Matrix]) -> None:
    """Write numbers, labels, weights, folds, groups and matrices; for held-out events, only matrices without shifts.

    Raises:
        StoreError: if writing fails.
    """
    wanted = {matrix.name: matrix for matrix in matrices}
    try:
        for name, values in (("y", dataset.y), ("weight", dataset.weight), ("fold", dataset.fold)):
            workspace.save(name, values)
        workspace.save("process", process_numbers(dataset.train))
        for prefix, kind, events in (("", "X", dataset.train), ("test_", "T", dataset.test)):
            if events is None:
                continue
            numbers = np.zeros(len(events), np.int64) if events.group is None else events.group
            workspace.save(f"{prefix}group", numbers)
            workspace.save(f"{prefix}event_id", events.event_id)
            chosen = {f"{kind}{name[1:]}": m for name, m in wanted.items() if kind == "X" or m.shifts is None}
            with contextlib.ExitStack() as stack:
                files = {
                    name: stack.enter_context(workspace.matrix(name, (len(events), len(m.features.columns))))
                    for name, m in chosen.items()
                }
                # In one pass over the events; features are elementwise, so parts give the same bits.
                for part in events.batches():
                    for name, matrix in chosen.items():
                        files[name].write(matrix.values(part, events.schema).data)
    except OSError as error:
        why = error.strerror or "no space is left"
        raise StoreError(
            f"{workspace.folder}: the workers' copy of the events cannot be written: {why}; set TMPDIR"
        ) from error
