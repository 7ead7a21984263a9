"""Systematic shifts as a physicist names them, by a size or by files of moved events, and the moved events."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from higgsbench.errors import ConfigError, DataError, HiggsbenchError, nearest_hint
from higgsbench.events import Events, load_events
from higgsbench.events.shifts import Shifts, apply_shifts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Moved", "Systematic", "moved_events", "parse_systematics"]

_SIZES = tuple(item.name for item in fields(Shifts))


@dataclass(frozen=True)
class Systematic:
    """A systematic shift, upward and downward.

    Attributes:
        name: its name.
        size: one standard deviation of a shift that `higgsbench data shift` knows: relative change of an energy scale
            or of a normalisation, GeV per axis of soft missing momentum.
        files: files of the events after the upward and the downward shift, instead of a size.
    """

    name: str
    size: float | None = None
    files: tuple[Path, Path] | None = None

    @property
    def sides(self) -> tuple[Shifts, Shifts]:
        """The shift of this size and its opposite; a factor 1 + size and its inverse for normalisations.

        Raises:
            ConfigError: for a size out of range.
        """
        size = self.size or 0.0
        if self.name.endswith("_scale"):
            up = Shifts(**{self.name: 1.0 + size})
            return up, up.inverse()
        return Shifts(**{self.name: size}), Shifts(**{self.name: -size})


@dataclass(frozen=True)
class Moved:
    """Events after a shift.

    Attributes:
        name: name and direction of the shift.
        frame: (m,) events, in the layout of the nominal ones; lost events are absent.
        at: (m,) their positions among the nominal events.
        weight: (m,) their weights as stored.
    """

    name: str
    frame: pl.DataFrame
    at: NDArray[np.int64]
    weight: NDArray[np.float64]


def parse_systematics(texts: Sequence[str], events: object = None) -> tuple[Systematic, ...]:
    """Read shifts of the form NAME=SIZE or NAME=UP,DOWN.

    Args:
        texts: the shifts.
        events: what --events says, which without a shift has no meaning.

    Raises:
        ConfigError: if a text is of another form, names a size that is not known or out of range, or a name stands
            twice.
    """
    if events is not None and not texts:
        raise ConfigError("--events names the events of shifts: give --shift too, such as --shift tes=0.03")
    found = tuple(_parse(text) for text in texts)
    names = [systematic.name for systematic in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
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
        raise ConfigError(
            f"--shift {text}: {value!r} is neither a size, such as 0.03, nor two files with a comma"
        ) from None
    if name not in _SIZES:
        hint = nearest_hint(name, list(_SIZES), f"; known are {', '.join(_SIZES)}")
        raise ConfigError(f"--shift {text}: no shift {name!r} has a size{hint}; events moved elsewhere: NAME=UP,DOWN")
    if not math.isfinite(size) or size == 0.0:
        raise ConfigError(f"--shift {text}: the size must be a finite number other than 0")
    found = Systematic(name, size)
    _ = found.sides  # whether the size is in range
    return found


def moved_events(systematic: Systematic, nominal: Events) -> tuple[Moved, Moved]:
    """Return events after the upward and the downward shift.

    Args:
        systematic: the shift.
        nominal: the events as they are.

    Raises:
        DataError: if the events lack what the shift needs, a file cannot be read, or none of its events is among the
            nominal ones.
    """
    names = (f"{systematic.name} up", f"{systematic.name} down")
    if systematic.files is not None:
        up, down = (_from_file(n, f, nominal) for n, f in zip(names, systematic.files, strict=True))
        return up, down
    up, down = (_by_size(n, s, nominal) for n, s in zip(names, systematic.sides, strict=True))
    return up, down


def _by_size(name: str, shifts: Shifts, nominal: Events) -> Moved:
    try:
        frame = apply_shifts(nominal.frame, shifts)
    except HiggsbenchError as error:
        raise DataError(f"{nominal.source}: shift {name}: {error}") from error
    return Moved(name, frame, np.arange(len(nominal)), _weights(frame, nominal, np.arange(len(nominal))))


def _from_file(name: str, path: Path, nominal: Events) -> Moved:
    if nominal.schema.event_id is None:
        raise DataError(f"{path}: the layout {nominal.schema.name} has no event numbers to find moved events by")
    events = load_events(path, nominal.schema)
    order = np.argsort(nominal.event_id)
    place = np.minimum(np.searchsorted(nominal.event_id, events.event_id, sorter=order), len(nominal) - 1)
    at = order[place]
    known = nominal.event_id[at] == events.event_id
    if not known.any():
        raise DataError(f"{path}: none of its {len(events):,} events is among those of {nominal.source}")
    frame, at = events.frame.filter(known), at[known].astype(np.int64)
    return Moved(name, frame, at, _weights(frame, nominal, at))


def _weights(frame: pl.DataFrame, nominal: Events, at: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights of moved events, from the column that the nominal ones have theirs from."""
    column = nominal.weight_column
    if column is None or column not in frame.columns:
        return nominal.weight[at]
    return frame[column].cast(pl.Float64).to_numpy()
