"""The events of a stored run, loaded again, and moved by systematic shifts."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from higgsbench.config.document import parse_yaml
from higgsbench.config.load import configured_events, source_events, validated
from higgsbench.config.model import DataConfig
from higgsbench.errors import ConfigError, DataError, HiggsbenchError, nearest_hint, repeated
from higgsbench.events import Events, load_events
from higgsbench.events.check import OF_SAMPLES
from higgsbench.events.shifts import Shifts, apply_shifts
from higgsbench.schema import TableSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.runs.stored import StoredRun

Shift: TypeAlias = tuple[str, Path, Path]
"""A shift as files: its name, the file of the upward and that of the downward shift."""

_SIZES = tuple(item.name for item in fields(Shifts))
_SCORES = TableSchema("of `higgsbench predict`", features=("score",), label="", event_id="EventId",
                      subset_weight="weight", negative_weights=True, ignore_unknown=True)  # fmt: skip
"""Layout of scores as `higgsbench predict` writes them, and of weights where a shift changes them."""


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
    try:
        document = parse_yaml(run.configuration, str(run.folder / "config.yaml"))
        section = document.value["data"] = dict(document.value.get("data") or {})
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
        return RunEvents(notes=(f"The run's events cannot be loaded again: {error}. Use --data to name the file.",))
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
        ConfigError: for a single file where the run has samples, or a configuration of other features.
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


@dataclass(frozen=True)
class Systematic:
    """A systematic shift, upward and downward.

    Attributes:
        name: its name.
        size: one standard deviation of a shift that `higgsbench data shift` knows: relative change of an energy scale
            or of a normalisation, GeV per axis of soft missing momentum.
        files: files for the upward and the downward shift, instead of a size.
    """

    name: str
    size: float | None = None
    files: tuple[Path, Path] | None = None

    @property
    def sides(self) -> tuple[Shifts, Shifts]:
        """The shift of this size and its opposite; a factor 1 + size and its inverse for normalisations."""
        size = self.size or 0.0
        if self.name.endswith("_scale"):
            up = Shifts(**{self.name: 1.0 + size})
            return up, up.inverse()
        return Shifts(**{self.name: size}), Shifts(**{self.name: -size})

    def __str__(self) -> str:
        """Name and size, or name and files."""
        if self.files is not None:
            return f"{self.name} from {' and '.join(file.name for file in self.files)}"
        unit = f"{self.size:g} GeV" if self.name == "soft_met" else f"{100 * (self.size or 0.0):g}%"
        return f"{self.name} ± {unit}"


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
        _parse(shift) if isinstance(shift, str) else Systematic(shift[0], files=(Path(shift[1]), Path(shift[2])))
        for shift in shifts
    )
    if (twice := repeated([systematic.name for systematic in found])) is not None:
        raise ConfigError(f"--shift {twice}: named twice")
    return found


def _parse(text: str) -> Systematic:
    name, _, value = text.partition("=")
    if not (name.isidentifier() and value):
        raise ConfigError(f"--shift {text}: write NAME=SIZE, such as tes=0.03, or NAME=UP.csv,DOWN.csv")
    up, comma, down = value.partition(",")
    if comma:
        if not (up and down):
            raise ConfigError(f"--shift {text}: two files are needed, NAME=UP.csv,DOWN.csv")
        return Systematic(name, files=(Path(up), Path(down)))
    try:
        size = float(value)
    except ValueError:
        what = "is neither a size, such as 0.03, nor two files with a comma"
        raise ConfigError(f"--shift {text}: {value!r} {what}") from None
    if name not in _SIZES:
        hint = nearest_hint(name, list(_SIZES), f"; choose from {', '.join(_SIZES)}")
        raise ConfigError(f"--shift {text}: no built-in shift {name!r}{hint}; for other shifts write NAME=UP,DOWN")
    if not math.isfinite(size) or size == 0.0:
        raise ConfigError(f"--shift {text}: the size must be a finite number other than 0")
    found = Systematic(name, size)
    _ = found.sides  # raises if the size is out of range
    return found


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
    moved, column = [], nominal.weight_column
    for side, way in enumerate(("up", "down")):
        name = f"{systematic.name} {way}"
        if systematic.files is not None:
            path = systematic.files[side]
            if nominal.schema.event_id is None:
                raise DataError(f"{path}: the layout {nominal.schema.name} has no event numbers to match moved events")
            events = named_events(path, nominal.schema)
            at, known = positions_of(events.event_id, nominal.event_id)
            if not known.any():
                raise DataError(f"{path}: none of its {len(events):,} events is among those of {nominal.source}")
            frame, at = events.frame.filter(known), at[known]
        else:
            try:
                frame = apply_shifts(nominal.frame, systematic.sides[side], schema=nominal.schema)
                at = np.arange(len(nominal))
            except HiggsbenchError as error:
                raise DataError(f"{nominal.source}: shift {name}: {error}") from error
        weight = frame[column].cast(pl.Float64).to_numpy() if column in frame.columns else nominal.weight[at]
        moved.append(Moved(name, frame, at, weight))
    return moved[0], moved[1]


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
    return Moved(name, found.frame, at, nominal.weight[at] if found.weight_column is None else found.weight)
