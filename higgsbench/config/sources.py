"""Where the events of a run come from: a file, the cached official file, or the toy simulation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from higgsbench.errors import ConfigError
from higgsbench.events import Events, load_events
from higgsbench.events.stored import open_events
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from higgsbench.config.data import DataConfig
    from higgsbench.schema import TableSchema

__all__ = ["DEFAULT_EVENTS", "opened_events", "source_events"]

DEFAULT_EVENTS = 48_000
"""Simulated events when the configuration gives no number; 15,000 of them train."""


def source_events(data: DataConfig) -> Events:
    """Load the events that a `data` section names.

    Raises:
        ConfigError: if it names none.
        DataError: if a file breaks a rule or has not been fetched yet.
    """
    return _events_of(data, load_events)


def opened_events(data: DataConfig) -> Events:
    """Return the events that a `data` section names, the measured columns of a file on disk (`open_events`).

    Raises:
        ConfigError: if it names none.
        DataError: if a file breaks a rule or has not been fetched yet.
    """
    return _events_of(data, open_events)


def _events_of(data: DataConfig, load: Callable[[str | Path, TableSchema], Events]) -> Events:
    if data.source == "simulated":
        return _simulated(data)
    if data.source == "opendata":
        from higgsbench.events.fetch import opendata_path

        return load(opendata_path(), ATLAS_HIGGS)
    if data.path is None:
        raise ConfigError(
            "data: no events are named; give a file with --data training.csv or with data.path in the configuration, "
            "or take simulated events with data.source: simulated"
        )
    return load(data.path, data.table_schema())


def _simulated(data: DataConfig) -> Events:
    from higgsbench.events.shifts import Shifts
    from higgsbench.events.simulate import SimulationSettings
    from higgsbench.events.toy import simulated_events

    settings = SimulationSettings(
        events=DEFAULT_EVENTS if data.events is None else data.events,
        seed=0 if data.seed is None else data.seed,
        mix=data.mix,
        shifts=Shifts() if data.shifts is None else Shifts(**data.shifts.model_dump()),
    )
    if data.higgs_mass is not None:
        settings = dataclasses.replace(settings, higgs_mass=data.higgs_mass)
    if data.luminosity is not None:
        settings = dataclasses.replace(settings, luminosity=data.luminosity)
    if data.set_proportions:
        settings = dataclasses.replace(settings, set_proportions=data.set_proportions)
    return simulated_events(settings)
