"""Systematic shifts: as a physicist names them, the moved events, and what they do to a selection."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.errors import ConfigError, DataError, HiggsbenchError, MetricError, nearest_hint
from higgsbench.events import Events, load_events
from higgsbench.events.shifts import Shifts, apply_shifts
from higgsbench.files import no_panic
from higgsbench.metrics.ams import ams, ams_gradient
from higgsbench.metrics.significance import BinnedSums, bin_sums
from higgsbench.metrics.weights import checked_labels, checked_scores, checked_weights, evaluation_weights
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "Moved",
    "ShiftRow",
    "ShiftedScores",
    "Systematic",
    "binned",
    "moved_events",
    "parse_shift",
    "parse_systematics",
    "read_shifts",
    "shift_table",
]


@dataclass(frozen=True)
class ShiftedScores:
    """Scored events, nominal or after one shift.

    Attributes:
        name: `nominal`, or name and direction of the shift.
        y: (n,) truth.
        score: (n,) log-odds.
        weight: (n,) weights, scaled by the factors of the nominal events.
        event_id: (n,) event numbers, each once; without them a change has no standard error.
    """

    name: str
    y: NDArray[np.bool_]
    score: NDArray[np.float64]
    weight: NDArray[np.float64]
    event_id: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        y = checked_labels(self.y)
        checked_scores(self.score, y.size)
        checked_weights(self.weight, y.size)


@dataclass(frozen=True)
class ShiftRow:
    """Selection at the frozen cut under one shift.

    Attributes:
        name: name and direction of the shift.
        s: selected signal, b: background.
        ams: AMS.
        s_change: change of s against nominal, relative; b_change: of b.
        ams_change: change of the AMS, absolute.
        ams_change_se: its standard error from the finite number of simulated events, both selections on the same events
            (delta method); NaN where event numbers are not known.
    """

    name: str
    s: float
    b: float
    ams: float
    s_change: float
    b_change: float
    ams_change: float
    ams_change_se: float


def shift_table(
    nominal: ShiftedScores, shifted: Sequence[ShiftedScores], threshold: float, b_reg: float = B_REG
) -> list[ShiftRow]:
    """Tabulate the selection at a frozen cut, nominal first, then under each shift.

    Args:
        nominal: events as they are.
        shifted: events after each shift.
        threshold: frozen cut; events with score >= threshold are selected.
        b_reg: regularisation of the background in the AMS.
    """
    s0, b0 = _selected(nominal, threshold)
    reference = ams(s0, b0, b_reg)
    rows = []
    for events in (nominal, *shifted):
        s, b = _selected(events, threshold)
        value = ams(s, b, b_reg)
        se = _error_of_change(nominal, events, threshold, b_reg)
        rows.append(ShiftRow(events.name, s, b, value, _relative(s, s0), _relative(b, b0), value - reference, se))
    return rows


def _error_of_change(nominal: ShiftedScores, moved: ShiftedScores, threshold: float, b_reg: float) -> float:
    """Standard error of the AMS of moved events minus that of the nominal ones, paired event by event."""
    if nominal.event_id is None or moved.event_id is None:
        return float("nan")
    order = np.argsort(nominal.event_id)
    at = order[np.searchsorted(nominal.event_id, moved.event_id, sorter=order)]
    deviation = -_influence(nominal, nominal, threshold, b_reg)
    deviation[at] += _influence(moved, nominal, threshold, b_reg)
    return float(np.sqrt(np.sum(deviation**2)))


def _influence(events: ShiftedScores, nominal: ShiftedScores, threshold: float, b_reg: float) -> NDArray[np.float64]:
    """What each event contributes to the deviation of the AMS, class totals held at those of the nominal events."""
    selected = _selected(events, threshold)
    keep = events.weight * (events.score >= threshold)
    gradient = ams_gradient(*selected, max(b_reg, 1e-12))
    out = np.zeros(events.y.size)
    for of, whole, total, slope in zip((events.y, ~events.y), (nominal.y, ~nominal.y), selected, gradient, strict=True):
        share = total / float(np.sum(nominal.weight[whole]))
        out += np.where(of, slope * (keep - share * events.weight), 0.0)
    return out


def _selected(events: ShiftedScores, threshold: float) -> tuple[float, float]:
    keep = events.score >= threshold
    s, b = (float(np.sum(events.weight[keep & rows])) for rows in (events.y, ~events.y))
    if s < 0.0 or b < 0.0:
        raise MetricError(f"{events.name}: the selected sums are negative (s = {s:g}, b = {b:g})")
    return s, b


def _relative(value: float, reference: float) -> float:
    return value / reference - 1.0 if reference else float("nan")


def binned(events: ShiftedScores, edges: NDArray[np.float64]) -> BinnedSums:
    """Contents of score bins with the given lower edges, the first -inf."""
    index: NDArray[Any] = np.searchsorted(edges, events.score, side="right") - 1
    return bin_sums(events.y, index.astype(np.int64), events.weight, edges.size)


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


Shift = tuple[str, Path, Path]


def parse_shift(text: str) -> Shift:
    """Split NAME=UP.parquet,DOWN.parquet.

    Raises:
        ConfigError: if the text is of another form.
    """
    name, equals, files = text.partition("=")
    up, comma, down = files.partition(",")
    if not (name.isidentifier() and equals and up and comma and down):
        raise ConfigError(f"--shift {text}: write NAME=UP.parquet,DOWN.parquet, the name of letters, digits and _")
    return name, Path(up), Path(down)


def read_shifts(
    events: Path, nominal: Path, shifts: Sequence[Shift], totals: tuple[float, float]
) -> tuple[ShiftedScores, dict[str, tuple[ShiftedScores, ShiftedScores]]]:
    """Read nominal and shifted scores of the same labelled events.

    Args:
        events: event file with labels and weights.
        nominal: Parquet with EventId and score of the events as they are.
        shifts: name, file of the upward and of the downward shift; events that a shift lost may be absent, and a column
            `weight` (as in the event file) replaces the event file's where a shift moves weights.
        totals: reference totals (N_s, N_b), met by the nominal events.

    Returns:
        The nominal scores and the shifted ones by name.

    Raises:
        DataError: if a file cannot be read, or its events are not those of the event file.
    """
    loaded = load_events(events)
    if not loaded.labelled:
        raise DataError(f"{events}: has no labels and weights")
    truth = pl.DataFrame({"EventId": loaded.event_id, "y": loaded.y, "stored": loaded.weight})
    frame = _joined(nominal, truth)
    y, stored = frame["y"].to_numpy().astype(np.bool_), frame["stored"].to_numpy()
    weight = evaluation_weights(y, stored, *totals)
    factors = [float(np.sum(weight[rows]) / np.sum(stored[rows])) for rows in (y, ~y)]
    base = ShiftedScores("nominal", y, frame["score"].to_numpy(), weight, frame["EventId"].to_numpy())
    known = frame.select("EventId", "y", "stored")
    out = {}
    for name, *sides in shifts:
        up, down = (
            _side(f"{name} {way}", path, known, factors) for way, path in zip(("up", "down"), sides, strict=True)
        )
        out[name] = (up, down)
    return base, out


def _side(name: str, path: Path, known: pl.DataFrame, factors: list[float]) -> ShiftedScores:
    frame = _joined(path, known)
    y = frame["y"].to_numpy().astype(np.bool_)
    stored = frame["weight" if "weight" in frame.columns else "stored"].cast(pl.Float64).to_numpy()
    scaled = stored * np.where(y, *factors)
    return ShiftedScores(name, y, frame["score"].to_numpy(), scaled, frame["EventId"].to_numpy())


def _joined(path: Path, truth: pl.DataFrame) -> pl.DataFrame:
    try:
        with no_panic():
            frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    missing = [name for name in ("EventId", "score") if name not in frame.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; `higgsbench predict` writes EventId and score")
    kinds = {"EventId": pl.Int64, "score": pl.Float64, "weight": pl.Float64}
    try:
        frame = frame.select(pl.col(name).cast(kind) for name, kind in kinds.items() if name in frame.columns)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: EventId, score or weight holds values that are no numbers") from error
    if frame["EventId"].is_duplicated().any():
        raise DataError(f"{path}: an EventId stands twice")
    if not frame["score"].is_finite().fill_null(value=False).all():
        raise DataError(f"{path}: column 'score' holds values that are missing or not finite")
    joined = frame.join(truth, on="EventId", how="inner").sort("EventId")
    if joined.height < frame.height or not frame.height:
        raise DataError(
            f"{path}: {frame.height - joined.height:,} of {frame.height:,} events are not among the expected"
        )
    return joined
