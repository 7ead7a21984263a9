"""The events of a stored run, loaded again, and moved by systematic shifts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from higgsbench import __version__
from higgsbench.config.document import parse_yaml
from higgsbench.config.load import configured_events, source_events, validated
from higgsbench.config.model import DataConfig
from higgsbench.config.regions import Systematic, parse_systematic
from higgsbench.config.samples import SchemaConfig
from higgsbench.errors import ConfigError, DataError, HiggsbenchError, repeated
from higgsbench.events import Events, load_events, open_samples
from higgsbench.events.check import OF_SAMPLES
from higgsbench.events.samples import matched_files
from higgsbench.events.shifts import apply_shifts
from higgsbench.schema import TableSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.config.regions import SystematicConfig
    from higgsbench.runs.stored import StoredRun

Shift: TypeAlias = tuple[str, Path, Path]
"""A shift as files: its name, the file of the upward and that of the downward shift."""

_SCORES = TableSchema("of `higgsbench predict`", features=("score",), label="", event_id="EventId",
                      subset_weight="weight", negative_weights=True, ignore_unknown=True)  # fmt: skip
"""Layout of scores as `higgsbench predict` writes them, and of weights where a shift changes them."""

_LARGEST, _ALIKE, _FEWEST = 3.0, 0.7, 50
"""Limits within which shifted events are the nominal ones: largest factor on the weights of a class, and smallest
correlation of the feature that correlates best, which is checked from this number of events on."""


class RunEvents(NamedTuple):
    """The events of a run, as far as they could be loaded again, in the order of the stored scores.

    Attributes:
        train: the cross-validated events, or None.
        test: the held-out events, or None.
        notes: what is missing, and why.
    """

    train: Events | None = None
    test: Events | None = None
    notes: tuple[str, ...] = ()


def reload_events(run: StoredRun, data: Path | None = None, test: Path | None = None) -> RunEvents:
    """Load the events of a run again; if they are gone or have changed, a note says so.

    Args:
        run: the run.
        data: event file, if it has moved from where the run's configuration says.
        test: file of held-out events, if that has moved.

    Raises:
        HiggsbenchError: if a file that the caller names cannot be used.
    """
    advice = "Put it back where config.yaml says, or name it: `report --data`, `stats --events`."
    try:
        document = parse_yaml(run.configuration, str(run.folder / "config.yaml"))
        section = document.value["data"] = dict(document.value.get("data") or {})
        if section.get("source") == "simulated":
            made = f"higgsbench {run.version or 'of an unknown version'} made the run, and this is {__version__}"
            advice = f"The simulation may have changed since ({made}): run the configuration again."
        if data is not None and section.get("samples"):
            raise ConfigError(f"--data {data}: the run's events are samples; put their files where config.yaml says")
        if data is not None:
            for key in section.keys() - {"schema", "test", "train_sets", "test_sets"}:
                del section[key]
            section.update(source="file", path=str(data))
        if test is not None:
            section["test"] = str(test)
        config = validated(document, DataConfig, ("data",))
        folds = document.value.get("folds")
        events = source_events(config, by=folds.get("by") if isinstance(folds, dict) else None)
        train = _matching(events, run.event_id, run.comparability.get("data"))
    except HiggsbenchError as error:
        if data is not None:
            raise
        return RunEvents(notes=(f"The run's events cannot be loaded again: {error}. {advice}",))
    if run.test_event_id is None:
        return RunEvents(train)
    try:
        source = events if config.test is None else load_events(config.test, events.schema)
        return RunEvents(train, _matching(source, run.test_event_id, run.comparability.get("test")))
    except HiggsbenchError as error:
        if test is not None:
            raise
        return RunEvents(train, None, (f"The held-out events cannot be loaded again: {error}. Use --test to name it.",))


def _matching(events: Events, wanted: NDArray[np.int64], digest: object) -> Events:
    """Return the events of the given numbers in their order, if they are those of the run."""
    at, known = positions_of(wanted, events.event_id)
    if not known.all():
        raise DataError(f"{events.source}: {int((~known).sum())} of the run's {wanted.size} events are not in it")
    found = events.take(at)
    if found.digest != digest:
        raise DataError(f"{events.source}: its events or their values differ from those of the run")
    return found


def named_events(path: Path, schema: TableSchema | None) -> Events:
    """Load events that a user names: a file in the layout of the run's events (if known), or a configuration.

    Raises:
        ConfigError: for a single file if the run has samples, or a configuration with other features.
        DataError: if the events cannot be read.
    """
    found = configured_events(path)
    if found is None and schema is not None and schema.name == OF_SAMPLES:
        raise ConfigError(
            f"{path}: the run has samples, so name a configuration instead: a YAML file with the run's section `data`, "
            "in which `files` are the files of these events"
        )
    if found is None:
        return load_events(path, schema)
    if schema is not None and _definitions(found.schema) != _definitions(schema):
        raise ConfigError(f"{path}: the features are not those of the run; copy `data.features` from its config.yaml")
    return found


def _definitions(schema: TableSchema) -> dict[str, str]:
    return {name: schema.derived.get(name, name).strip('"') for name in schema.features}


def positions_of(wanted: NDArray[np.int64], event_id: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the positions of (m,) event numbers among (n,) others, and which of them are there at all."""
    order = np.argsort(event_id, kind="stable")
    place = np.minimum(np.searchsorted(event_id, wanted, sorter=order), event_id.size - 1)
    at = order[place].astype(np.int64)
    return at, event_id[at] == wanted


def parse_systematics(shifts: Sequence[Shift | str], events: object = None) -> tuple[Systematic, ...]:
    """Read shifts of the form NAME=SIZE or NAME=UP,DOWN.

    Args:
        shifts: the shifts, as text or as (name, up, down).
        events: the value of --events, which needs a shift.

    Raises:
        ConfigError: if a text has another form, names an unknown size or one out of range, or a name appears twice.
    """
    if events is not None and not shifts:
        raise ConfigError("--events names the events to shift: add --shift, such as --shift tes=0.03")
    found = tuple(
        _of_option(shift) if isinstance(shift, str) else Systematic(shift[0], files=(Path(shift[1]), Path(shift[2])))
        for shift in shifts
    )
    if (twice := repeated([systematic.name for systematic in found])) is not None:
        raise ConfigError(f"--shift {twice}: named twice")
    return found


def _of_option(text: str) -> Systematic:
    try:
        return parse_systematic(text)
    except ConfigError as error:
        raise ConfigError(f"--shift {text}: {error}") from error


class Moved(NamedTuple):
    """Events after a shift; lost ones are absent.

    Attributes:
        name: name and direction of the shift.
        frame: (m,) events, in the layout of the nominal ones, or their scores.
        at: (m,) their positions among the nominal events.
        weight: (m,) their weights as stored.
    """

    name: str
    frame: pl.DataFrame
    at: NDArray[np.int64]
    weight: NDArray[np.float64]


def moved_events(systematic: Systematic, nominal: Events) -> tuple[Moved, Moved]:
    """Return events after the upward and the downward shift of nominal ones.

    Raises:
        DataError: if the events lack what the shift needs, a file cannot be read, or none of its events is among the
            nominal ones.
    """
    moved = []
    for side, way in enumerate(("up", "down")):
        name = f"{systematic.name} {way}"
        if systematic.files is not None:
            path = systematic.files[side]
            moved.append(matched_events(name, path, named_events(path, nominal.schema), nominal))
            continue
        try:
            frame = apply_shifts(nominal.frame, systematic.sides[side], schema=nominal.schema)
        except HiggsbenchError as error:
            raise DataError(f"{nominal.source}: shift {name}: {error}") from error
        moved.append(_moved(name, frame, np.arange(len(nominal)), nominal))
    return moved[0], moved[1]


def matched_events(name: str, source: object, events: Events, nominal: Events) -> Moved:
    """Return the shifted events whose numbers are among the nominal ones; errors call them `source`.

    Raises:
        DataError: if the file has no event numbers, none of the nominal events, or other events with the same numbers.
    """
    if nominal.schema.event_id is None:
        raise DataError(f"{source}: the layout {nominal.schema.name} has no event numbers to match shifted events")
    at, known = positions_of(events.event_id, nominal.event_id)
    if not known.any():
        raise DataError(f"{source}: none of its {len(events):,} events is among those of {nominal.source}")
    moved = _moved(name, events.frame.filter(known), at[known], nominal)
    _check_same(source, moved, nominal)
    return moved


def _check_same(source: object, moved: Moved, nominal: Events) -> None:
    """Refuse other events with the same numbers, by their labels, processes, weights, or uncorrelated features."""
    before, after, schema = nominal.frame[moved.at], moved.frame, nominal.schema
    for column in (schema.label, schema.process):
        if column not in before.columns or column not in after.columns:
            continue
        there, own = (frame[column].cast(pl.String).fill_null("") for frame in (before, after))
        other = there != own if column == schema.process else (there == schema.signal) != (own == schema.signal)
        if other.any():
            at = int(other.to_numpy().argmax())
            event = f"{schema.event_id} {int(nominal.event_id[moved.at[at]])}"
            raise _others(source, column, f"event {event} is {own[at]}, but {there[at]} in {nominal.source}")
    _check_weights(source, moved, nominal)
    both = [name for name in schema.numeric if name in after.columns]
    kind = pl.Series(np.where(nominal.y, "signal", "background")) if nominal.process is None else nominal.process
    for name in kind.unique().sort():
        old, new = (frame.filter(kind[moved.at] == name) for frame in (before, after))
        found = [value for n in both if math.isfinite(value := _correlation(old[n], new[n]))]
        if found and max(found) < _ALIKE:
            said = f"{name} is not correlated with the same events in {nominal.source} (at most {max(found):.2f})"
            raise _others(source, ", ".join(both[:3]), said)


def _check_weights(source: object, moved: Moved, nominal: Events) -> None:
    y, weight = nominal.y[moved.at], nominal.weight[moved.at]
    for name, of in (("signal", y), ("background", ~y)):
        now, then = float(np.sum(moved.weight[of])), float(np.sum(weight[of]))
        if then > 0.0 and not then / _LARGEST <= now <= then * _LARGEST:
            said = f"{name} sums to {now:.4g}, and the same events to {then:.4g} in {nominal.source}"
            raise _others(source, str(nominal.weight_column), said)


def _others(source: object, column: str, said: str) -> DataError:
    rule = "a shifted file must hold the run's own events after the shift, with their numbers, labels and weights"
    return DataError(f"{source}: column {column}: {said}; {rule}")


def _correlation(one: pl.Series, other: pl.Series) -> float:
    """Return the correlation of two columns, without missing values; NaN for constants or few values."""
    pair = pl.DataFrame({"one": one.cast(pl.Float64), "other": other.cast(pl.Float64)}).fill_nan(None).drop_nulls()
    found = pair.select(pl.corr("one", "other")).item() if pair.height >= _FEWEST else None
    return float("nan") if found is None else float(found)


def _moved(name: str, frame: pl.DataFrame, at: NDArray[np.int64], nominal: Events) -> Moved:
    column = nominal.weight_column
    weight = frame[column].cast(pl.Float64).to_numpy() if column in frame.columns else nominal.weight[at]
    return Moved(name, frame, at, weight)


def systematic_events(entry: SystematicConfig, events: Events, data: DataConfig) -> tuple[Moved, Moved] | None:
    """Return events after the upward and the downward shift; None for a normalisation.

    The table of the nominal events itself stands for features that do not change; `data` is the section of the run.

    Raises:
        ConfigError: if the systematic does not fit the run's events.
        DataError: if the events lack what it needs, or a file cannot be read.
    """
    if entry.shift is not None:
        systematic = parse_systematic(entry.shift)
        up, down = moved_events(systematic, events)
        if not systematic.sides[0].moves_energy:
            return up._replace(frame=events.frame), down._replace(frame=events.frame)
        return up, down
    if entry.weights is None and entry.files is None:
        return None
    if entry.files is None:
        up, down = (_reweighted(entry, text, data, events) for text in entry.weights or ())
    else:
        up, down = (_from_files(entry, files, data, events) for files in entry.files)
    return up, down


def _reweighted(entry: SystematicConfig, text: str, data: DataConfig, events: Events) -> Moved:
    """Return the events with weights by another expression over columns of their files."""
    if data.samples is not None:
        wanted = [one for one in data.samples if entry.processes is None or one.process in entry.processes]
        samples = [one.model_copy(update={"weight": text}) for one in wanted]
        data = data.model_copy(update={"samples": samples})
    elif isinstance(data.layout, SchemaConfig):
        data = data.model_copy(update={"layout": data.layout.model_copy(update={"weight": text})})
    found = source_events(data)
    at, known = positions_of(events.event_id, found.event_id)
    needed = np.ones(len(events), dtype=np.bool_)
    if entry.processes is not None and events.process is not None:
        needed = events.process.is_in(entry.processes).to_numpy()
    if (needed & ~known).any():
        lost = int((needed & ~known).sum())
        raise ConfigError(f"systematics: {entry.name}: {lost:,} events of {events.source} are not in {found.source}")
    return Moved(entry.name, events.frame, np.arange(len(events)), np.where(known, found.weight[at], events.weight))


def _from_files(entry: SystematicConfig, files: Sequence[str], data: DataConfig, events: Events) -> Moved:
    """Return the events of the given files that are among the nominal ones, and all other processes as they are."""
    if events.schema.name == OF_SAMPLES and not files[0].endswith((".yaml", ".yml")):
        samples = data.sample_list(events.schema)
        own = [one for one in samples if entry.processes and one.constants["Process"] in entry.processes]
        sample = own[0] if len(own) == 1 else data.sample_of(files[0], events.schema)
        if not sample.name:
            raise ConfigError(f"systematics: {entry.name}: {files[0]} belongs to no sample; name one in `processes`")
        found = open_samples([replace(sample, files=matched_files(files))], events.schema)
    else:
        found = named_events(Path(files[0]), events.schema)
    return matched_events(entry.name, files[0], found, events)


def scored_events(name: str, path: Path, nominal: Events) -> Moved:
    """Read scores, computed elsewhere, of nominal or shifted events, and sort them by event number.

    Args:
        name: name and direction of the shift.
        path: file with EventId, score and, where a shift changes weights, `weight` as in the event file.
        nominal: the events without a shift; a shift may lose some.

    Raises:
        DataError: if the file cannot be read, or holds other events.
    """
    found = load_events(path, _SCORES, cache=False)
    if found.frame["score"].null_count():
        raise DataError(f"{path}: column 'score' has missing values")
    found = found.take(np.argsort(found.event_id))
    at, known = positions_of(found.event_id, nominal.event_id)
    if not known.all():
        raise DataError(f"{path}: {(~known).sum():,} of {len(found):,} events are not among the expected ones")
    moved = Moved(name, found.frame, at, nominal.weight[at] if found.weight_column is None else found.weight)
    _check_weights(path, moved, nominal)
    return moved
