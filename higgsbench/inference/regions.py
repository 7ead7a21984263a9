"""The statistical model of a run: events in regions, nominal and shifted, and one workspace per row from their sums.

A region is a channel, a process is a sample. `smoothed` and `pruned` state the rules for shifted contents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench.config.document import parse_yaml, read_yaml
from higgsbench.config.load import validated
from higgsbench.config.model import DataConfig
from higgsbench.config.regions import ModelRules, StatisticalModel
from higgsbench.errors import ConfigError, MetricError, StoreError
from higgsbench.inference import nominal_events, score_parts
from higgsbench.inference.events import reload_events, systematic_events
from higgsbench.inference.workspace import Sample, pruned, smoothed, workspace_of
from higgsbench.metrics import Processes, processes_of
from higgsbench.metrics.significance import BinningRules, optimal_edges
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.runs.regions import Placed, check_model, placed, region_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from higgsbench.config.document import Document
    from higgsbench.config.regions import RegionConfig, SystematicConfig
    from higgsbench.events import Events
    from higgsbench.inference.events import Moved
    from higgsbench.runs.predictor import FittedRun
    from higgsbench.runs.stored import StoredRow, StoredRun


def read_model(run: StoredRun, file: Path | None = None) -> tuple[StatisticalModel, Document]:
    """Return the regions and systematics of a run's configuration, or of another configuration file, and the document.

    Raises:
        ConfigError: if there are none, or they are not valid.
    """
    document = parse_yaml(run.configuration, str(run.folder / "config.yaml")) if file is None else read_yaml(file)
    found = document.value if isinstance(document.value, dict) else {}
    document.value = {key: found[key] for key in StatisticalModel.model_fields if key in found}
    model = validated(document, StatisticalModel)
    if not model.regions:
        raise ConfigError(f"{document.source}: no `regions`; add them, or name a file that has them with --regions")
    return model, document


def has_regions(run: StoredRun) -> bool:
    """Whether the configuration of a run has regions; one that is missing or damaged has none."""
    try:
        return bool(parse_yaml(run.configuration, "config.yaml").value.get("regions"))
    except (StoreError, ConfigError):
        return False


class Side(NamedTuple):
    """Events after one shift: where they are, their weights (n,) aligned with the nominal events; lost ones have 0."""

    moved: Moved
    weight: NDArray[np.float64]


@dataclass(frozen=True)
class ModelEvents:
    """Events of the statistical model, nominal and shifted, with the scores of all rows.

    Attributes:
        run: the run.
        model: its regions and systematics.
        events: the n nominal events.
        train: the cross-validated events, which choose edges; None if they are not available.
        where: what the nominal events are.
        weight: (n,) evaluation weights.
        processes: their processes; signal and background if the processes are not known.
        sides: upward and downward shift by the position of the systematic; those without events are absent.
        scores: scores of the nominal events and of all sides, in order, by the row's name.
        notes: which rows have no scores, and why.
    """

    run: StoredRun
    model: StatisticalModel
    events: Events
    train: Events | None
    where: str
    weight: NDArray[np.float64]
    processes: Processes
    sides: Mapping[int, tuple[Side, Side]]
    scores: Mapping[str, Sequence[NDArray[np.float64]]]
    notes: tuple[str, ...]

    @property
    def systematics(self) -> tuple[SystematicConfig, ...]:
        """The systematics of the model."""
        return tuple(self.model.systematics or ())

    @property
    def rules(self) -> ModelRules:
        """The rules for templates."""
        return self.model.templates or ModelRules()

    def affected(self, entry: SystematicConfig) -> NDArray[np.bool_]:
        """(processes,) which processes a systematic changes."""
        return np.array([entry.processes is None or name in entry.processes for name in self.processes.names])


def load_model_events(run: StoredRun, file: Path | None, models: FittedRun, names: Sequence[str]) -> ModelEvents:
    """Load the events of a run, shift them, and score them by the stored models of some rows.

    These are the held-out events with labels, or else the training events, each scored by a model that did not see it.
    `file` is a configuration whose regions and systematics are used instead of the run's.

    Raises:
        HiggsbenchError: if the events are not available, or a systematic cannot be applied to them.
    """
    model, document = read_model(run, file)
    loaded = reload_events(run)
    events, held_out, where = nominal_events(run, loaded, need="the regions need the run's events")
    weight = evaluation_weights(events.y, events.weight, *run.totals)
    known = processes_of(events.process, events.y, weight)
    processes = known or Processes.of(["background", "signal"], events.y.astype(np.int64), events.y, weight)
    factor = np.where(events.y, *(weight[of].sum() / events.weight[of].sum() for of in (events.y, ~events.y)))
    own = parse_yaml(run.configuration, str(run.folder / "config.yaml"))
    data = validated(own, DataConfig, ("data",))
    check_model(model, document, data, events, processes)
    sides: dict[int, tuple[Side, Side]] = {}
    parts, place = [(events.frame, events.event_id)], [0]
    for at, entry in enumerate(model.systematics or ()):
        pair = systematic_events(entry, events, data)
        if pair is None:
            continue
        sides[at] = (_side(pair[0], factor, weight), _side(pair[1], factor, weight))
        for side in pair:
            same = side.frame is events.frame
            place.append(0 if same else len(parts))
            parts += [] if same else [(side.frame, events.event_id[side.at])]
    scores, notes = score_parts(run, models, names, parts, held_out=held_out)
    by_side = {name: [found[at] for at in place] for name, found in scores.items()}
    notes = (*loaded.notes, *notes)
    return ModelEvents(run, model, events, loaded.train, where, weight, processes, sides, by_side, notes)


def _side(moved: Moved, factor: NDArray[np.float64], nominal: NDArray[np.float64]) -> Side:
    weight = np.zeros_like(nominal)
    weight[moved.at] = moved.weight * factor[moved.at]
    return Side(moved, weight)


@dataclass(frozen=True)
class RegionBins:
    """The bins of a region for one row.

    Attributes:
        config: the region.
        edges: (k,) ascending lower edges, the first -inf.
        nominal: the nominal events in it.
    """

    config: RegionConfig
    edges: NDArray[np.float64]
    nominal: Placed

    def index(self, value: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the bin of each value."""
        return np.searchsorted(self.edges, value, side="right") - 1

    def sums(self, place: Placed, weight: NDArray[np.float64], process: NDArray[Any], number: int) -> Any:
        """Return the sums (number, k) of weights by process."""
        inside = place.inside
        cell = process[inside].astype(np.int64) * self.edges.size + self.index(place.value[inside])
        return np.bincount(cell, weight[inside], number * self.edges.size).reshape(number, -1)


@dataclass(frozen=True)
class RowModel:
    """The statistical model of one row.

    Attributes:
        name: the row.
        columns: columns (n,) of the nominal events that the regions use.
        moved: columns that an upward and a downward shift change, by position of the systematic; an event that the
            shift lost or does not concern has its nominal values.
        regions: its regions with their bins.
        channels: the samples of each region.
        mc_stat: whether the finite number of simulated events counts as uncertainty.
    """

    name: str
    columns: Mapping[str, NDArray[np.float64]]
    moved: Mapping[int, tuple[Mapping[str, NDArray[np.float64]], Mapping[str, NDArray[np.float64]]]]
    regions: tuple[RegionBins, ...]
    channels: Mapping[str, Mapping[str, Sample]]
    mc_stat: bool = True

    @property
    def workspace(self) -> dict[str, Any]:
        """HistFactory workspace as JSON content; a MetricError if a bin has no background."""
        return workspace_of(self.channels, mc_stat=self.mc_stat)


def row_model(found: ModelEvents, row: StoredRow) -> RowModel:
    """Bin the events of the regions by the scores of one row.

    Raises:
        ConfigError: if regions overlap, or one has no events.
        MetricError: if the events of a region do not fill one bin.
    """
    scores, configs = found.scores[row.name], found.model.regions or []
    columns = region_columns(configs, found.events.frame, scores[0])
    moved = {}
    for number, (at, pair) in enumerate(found.sides.items()):
        touched = found.affected(found.systematics[at])[found.processes.index]
        up, down = (
            _changed(columns, touched, side.moved.at, region_columns(configs, side.moved.frame, score))
            for side, score in zip(pair, scores[1 + 2 * number :], strict=False)
        )
        moved[at] = (up, down)
    regions = tuple(_region(found, config, row, columns) for config in configs)
    for one, other in combinations(regions, 2):
        if common := int(np.sum(one.nominal.inside & other.nominal.inside)):
            names = f"{one.config.name} and {other.config.name}"
            raise ConfigError(
                f"regions: {names} share {common:,} events; change `select`, because they must not overlap"
            )
    whole = RowModel(row.name, columns, moved, regions, {}, found.rules.mc_stat)
    return replace(whole, channels={region.config.name: _samples(found, whole, region) for region in regions})


def _changed(
    columns: Mapping[str, NDArray[np.float64]],
    touched: NDArray[np.bool_],
    at: NDArray[np.int64],
    own: Mapping[str, NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """Return the columns that a shift changes, with its events at the positions `at` of the nominal ones."""
    out = {}
    for name, nominal in columns.items():
        value, here = nominal.copy(), touched[at]
        value[at[here]] = own[name][here]
        if not np.array_equal(value, nominal, equal_nan=True):
            out[name] = value
    return out


def _region(
    found: ModelEvents, config: RegionConfig, row: StoredRow, columns: Mapping[str, NDArray[np.float64]]
) -> RegionBins:
    nominal = placed(config, columns)
    if not nominal.inside.any():
        raise ConfigError(f"regions: {config.name}: none of the {len(found.events):,} events is in it; change `select`")
    if config.edges is not None:
        edges = np.array([-np.inf, *config.edges[1:-1]])
    elif config.most_bins == 1:
        edges = np.array([-np.inf])
    else:
        edges = _chosen_edges(found, config, row)
    return RegionBins(config, edges, nominal)


def _chosen_edges(found: ModelEvents, config: RegionConfig, row: StoredRow) -> NDArray[np.float64]:
    """Choose edges by the out-of-fold scores of the cross-validated events."""
    run, rules = found.run, found.rules
    if found.train is None:
        raise StoreError(
            f"{run.folder}: the training events, which choose the edges of {config.name}, are not available"
        )
    value, inside = placed(config, region_columns([config], found.train.frame, row.scores[0]))
    conditions = BinningRules(config.most_bins, rules.min_background, rules.min_effective)
    try:
        return optimal_edges(run.y[inside], value[inside], run.weight[inside], conditions)[-1]
    except MetricError as error:
        raise MetricError(f"regions: {config.name}: {error}") from error


def _samples(found: ModelEvents, row: RowModel, region: RegionBins) -> dict[str, Sample]:
    """Return the samples of a region; a process without events in it is left out."""
    processes, rules = found.processes, found.rules
    number, index = len(processes.names), processes.index
    nominal = region.sums(region.nominal, found.weight, index, number)
    variance = region.sums(region.nominal, found.weight**2, index, number)
    samples: dict[str, Sample] = {}
    shifted: dict[int, list[Any]] = {}
    for at, pair in found.sides.items():
        touched = found.affected(found.systematics[at])[index]
        shifted[at] = []
        for side, moved in zip(pair, row.moved[at], strict=True):
            place, weight = (
                placed(region.config, {**row.columns, **moved}),
                np.where(touched, side.weight, found.weight),
            )
            shifted[at].append(region.sums(place, weight, index, number))
    for p, name in enumerate(processes.names):
        if not nominal[p].any():
            continue
        norms: dict[str, tuple[float, float]] = {}
        shapes: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        free: list[str] = []
        for at, entry in enumerate(found.systematics):
            if not found.affected(entry)[p]:
                continue
            if at in shifted:
                sides = smoothed(nominal[p], variance[p], [side[p] for side in shifted[at]], rules.smooth)
                norm, shape = pruned(nominal[p], sides, rules.prune)
                shapes |= {} if shape is None else {entry.name: shape}
                norms |= {} if norm is None else {entry.name: norm}
            elif entry.norm is not None:
                norms[entry.name] = (entry.norm[0], entry.norm[1])
            else:
                free.append(entry.name)
        samples[name] = Sample(nominal[p], variance[p], processes.signal[p], shapes, norms, tuple(free))
    return samples
