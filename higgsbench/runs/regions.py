"""Regions and systematics: which events are in a region, and checks that need no trained model."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from higgsbench.config.regions import SCORE, parse_systematic
from higgsbench.config.samples import SchemaConfig
from higgsbench.errors import ConfigError, DataError, nearest_hint
from higgsbench.events.check import split_tree
from higgsbench.events.samples import matched_files
from higgsbench.events.shifts import apply_shifts
from higgsbench.expressions import parse_expression

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from higgsbench.config.document import Document, KeyPath
    from higgsbench.config.model import DataConfig
    from higgsbench.config.regions import RegionConfig, StatisticalModel, SystematicConfig
    from higgsbench.events import Events
    from higgsbench.metrics import Processes

_SCORES = (-15.0, 5.0)
"""Range of the random scores with which regions are checked."""


class Placed(NamedTuple):
    """Events (n,) in one region: their observable, and whether they pass its selection."""

    value: NDArray[np.float64]
    inside: NDArray[np.bool_]


def _numbers(schema: Mapping[str, pl.DataType]) -> list[str]:
    return [SCORE, *(name for name, kind in schema.items() if kind.is_numeric() or kind == pl.Boolean)]


def region_columns(
    regions: Sequence[RegionConfig], frame: pl.DataFrame, score: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the columns (n,) that regions use, with NaN for missing values.

    Raises:
        ConfigError: if an expression uses a column that is not there or not a number.
    """
    known = _numbers(frame.schema)
    used: dict[str, None] = {}
    for region in regions:
        for key in ("select", "observable"):
            if (text := getattr(region, key)) is not None:
                expression = parse_expression(text, known, f"regions: {region.name}: {key}", vectors=False)
                used |= dict.fromkeys(leaf.name for leaf in expression.leaves)
    columns = {name: frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in used if name != SCORE}
    return columns | ({SCORE: score} if SCORE in used else {})


def placed(region: RegionConfig, columns: Mapping[str, NDArray[np.float64]]) -> Placed:
    """Return the observable of events (n,), and which events are in the region; those without an observable are not."""
    table = pl.DataFrame(dict(columns), nan_to_null=True)
    chosen = pl.lit(value=True)
    if region.select is not None:
        chosen = parse_expression(region.select, None, region.name, vectors=False).holds
    values = parse_expression(region.observable, None, region.name, vectors=False).polars
    found = table.select(values.cast(pl.Float64).fill_null(np.nan).alias("value"), chosen.alias("inside"))
    value = found["value"].to_numpy()
    return Placed(value, found["inside"].to_numpy() & np.isfinite(value))


def check_model(
    model: StatisticalModel, document: Document, data: DataConfig, events: Events, processes: Processes | None
) -> None:
    """Refuse regions and systematics that do not fit the events, before any score is known.

    Args:
        model: the regions and systematics.
        document: where they come from.
        data: section `data` of the run.
        events: events of the run.
        processes: their processes; signal and background if None.

    Raises:
        ConfigError: with file, line and key.
    """
    if not model.regions:
        return
    _check_regions(model.regions, document, events)
    names = ("background", "signal") if processes is None else processes.names
    for at, entry in enumerate(model.systematics or ()):
        path: KeyPath = ("systematics", at)
        for name in entry.processes or ():
            if name not in names:
                hint = nearest_hint(name, names, f" (choose from {', '.join(names)})")
                raise document.refusal((*path, "processes"), f"no process {name!r}{hint}")
        try:
            _check_systematic(entry, data, events)
        except (DataError, ConfigError) as error:
            key = next(kind for kind in entry.kinds if getattr(entry, kind))
            raise document.refusal((*path, key), str(error)) from error


def _check_regions(regions: Sequence[RegionConfig], document: Document, events: Events) -> None:
    """Check the columns, and with a random score for each event that regions do not overlap."""
    known, used = _numbers(events.lazy().collect_schema()), dict[str, None]()
    for at, region in enumerate(regions):
        for key in ("select", "observable"):
            if (text := getattr(region, key)) is not None:
                try:
                    expression = parse_expression(text, known, "", vectors=False)
                except ConfigError as error:
                    raise document.refusal(("regions", at, key), str(error).removeprefix(": ")) from error
                used |= dict.fromkeys(leaf.name for leaf in expression.leaves)
    frame = events.lazy().select(name for name in used if name != SCORE).collect()
    score = np.random.default_rng(0).uniform(*_SCORES, len(events))
    columns = region_columns(regions, frame, score) | {SCORE: score}
    inside = [placed(region, columns).inside for region in regions]
    for one, other in combinations(range(len(regions)), 2):
        if common := int(np.sum(inside[one] & inside[other])):
            names = f"{regions[one].name} and {regions[other].name} overlap ({common:,} events, with random scores)"
            raise document.refusal(("regions", other), f"{names}; change `select`")


def _check_systematic(entry: SystematicConfig, data: DataConfig, events: Events) -> None:
    if entry.shift is not None:
        shifts, frame = parse_systematic(entry.shift).sides[0], events.frame
        few = next(events.batches()).head(10) if shifts.moves_energy else frame
        apply_shifts(few, shifts, schema=events.schema)
    if entry.weights is not None and data.samples is None and not isinstance(data.layout, SchemaConfig):
        raise ConfigError("this needs `data.samples` or your own `data.schema`")
    for files in entry.files or ():
        if len(files) > 1 and data.samples is None:
            raise ConfigError("name one file for each side, unless the run has samples")
        for file in map(split_tree, matched_files(files)):
            if not file[0].exists():
                raise ConfigError(f"{file[0]}: no such file")
