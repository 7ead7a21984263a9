"""The events of a stored run, loaded again: what was measured in them, and the truth of the held-out ones."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from pydantic import ValidationError

from higgsbench.config.data import DataConfig
from higgsbench.config.sources import source_events
from higgsbench.config.yaml_lines import read_yaml
from higgsbench.errors import DataError, HiggsbenchError
from higgsbench.events import Events, load_events
from higgsbench.events.processes import recognise_processes
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.report.stored import Scores
from higgsbench.schema import ATLAS_HIGGS, UNITS
from higgsbench.sealed import read_vouched

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.report.stored import StoredReport

__all__ = ["Feature", "Reloaded", "reload_events"]

_MASSES = ("DER_mass_MMC", "DER_mass_vis")


@dataclass(frozen=True)
class Feature:
    """A measured quantity.

    Attributes:
        name: column.
        unit: its unit, empty for a pure number, None where the layout does not say.
        values: (n,) values, NaN where missing.
        whole: whether it counts something (the jet number).
    """

    name: str
    unit: str | None
    values: NDArray[np.float64]
    whole: bool


@dataclass(frozen=True)
class Reloaded:
    """The events of a run, as far as they could be found again.

    Attributes:
        features: quantities of the cross-validated events in the order of the stored scores; none if the data are gone.
        process: (n,) process of each event; s and b where processes cannot be told.
        train: the cross-validated events themselves, or None.
        held_out: scores of the held-out events with their truth, or None.
        test: these events, or None.
        notes: what is missing, and why.
    """

    features: tuple[Feature, ...]
    process: NDArray[np.str_]
    train: Events | None
    held_out: Scores | None
    test: Events | None
    notes: tuple[str, ...]


def reload_events(run: StoredReport, data: Path | None = None, test: Path | None = None) -> Reloaded:
    """Load the events of a run again.

    Args:
        run: the run as stored.
        data: event file, instead of the one that the run's configuration names (it may have moved).
        test: file of held-out events, likewise.

    Returns:
        The events; where they are gone or have changed, a note says so.

    Raises:
        HiggsbenchError: if a file that the caller names cannot be used.
    """
    y = run.scores.y
    plain = np.where(y, "signal", "background").astype(np.str_)
    try:
        config = _data_config(run.folder / "config.yaml", data, test)
        events = source_events(config)
        train = _matching(events, run.event_id, run.table.comparability.get("data"))
    except HiggsbenchError as error:
        if data is not None:
            raise
        return Reloaded(
            (), plain, None, None, None, (f"The run's events cannot be loaded again: {error}. --data names the file.",)
        )
    notes: list[str] = []
    held_out = found = None
    if run.test_event_id is not None:
        try:
            found = _test_events(run, run.test_event_id, config, events)
            held_out = _held_out(run, found)
        except HiggsbenchError as error:
            if test is not None:
                raise
            notes.append(f"The held-out events cannot be loaded again: {error}. --test names the file.")
    return Reloaded(_features(train), _processes(train, plain), train, held_out, found, tuple(notes))


def _data_config(file: Path, data: Path | None, test: Path | None) -> DataConfig:
    with contextlib.suppress(OSError):  # said by read_yaml
        read_vouched(file.parent, file.name)
    content = read_yaml(file).value
    section = dict(content.get("data") or {}) if isinstance(content, dict) else {}
    if data is not None:
        layout = {key: section[key] for key in ("schema", "test", "train_sets", "test_sets") if key in section}
        section = {**layout, "source": "file", "path": str(data)}
    if test is not None:
        section["test"] = str(test)
    try:
        return DataConfig.model_validate(section)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{file}: data.{at}: {first['msg']}") from error


def _matching(events: Events, wanted: NDArray[np.int64], digest: object) -> Events:
    """Return the events of the given numbers in their order, if they are those of the run.

    Raises:
        DataError: if events are missing, or their content is not what the run saw.
    """
    order = np.argsort(events.event_id, kind="stable")
    place = np.minimum(np.searchsorted(events.event_id[order], wanted), len(events) - 1)
    rows = order[place]
    lost = events.event_id[rows] != wanted
    if lost.any():
        raise DataError(f"{events.source}: {int(lost.sum())} of the run's {wanted.size} events are not in it")
    found = events.take(rows.astype(np.int64))
    if found.digest != digest:
        raise DataError(f"{events.source}: holds other events, or other values, than the run saw")
    return found


def _test_events(run: StoredReport, wanted: NDArray[np.int64], config: DataConfig, events: Events) -> Events:
    source = events if config.test is None else load_events(config.test, events.schema)
    return _matching(source, wanted, run.table.comparability.get("test"))


def _held_out(run: StoredReport, test: Events) -> Scores | None:
    if not test.labelled:
        return None
    weight = evaluation_weights(test.y, test.weight, *run.totals)
    return Scores(test.y, weight, {name: values[None, :] for name, values in run.test_scores.items()})


def _features(events: Events) -> tuple[Feature, ...]:
    schema = events.schema
    names = [] if schema.group is None else [schema.group]
    names += [name for name in _MASSES if name in schema.features]
    units = UNITS if schema.name == ATLAS_HIGGS.name else {}
    out = []
    for name in names:
        values = events.frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        out.append(Feature(name, units.get(name), values, name == schema.group))
    return tuple(out)


def _processes(events: Events, plain: NDArray[np.str_]) -> NDArray[np.str_]:
    """Name the process of each event; signal is one class, whatever made it."""
    schema = events.schema
    if schema.name != ATLAS_HIGGS.name or schema.weight not in events.frame.columns:
        return plain
    try:
        names = recognise_processes(events.frame[schema.weight], events.frame[schema.label].cast(pl.String))
    except DataError:
        return plain
    return np.where(events.y, "signal", names.to_numpy().astype(np.str_))
