"""The statistical model of a run: its regions, and the systematic uncertainties of their contents."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from higgsbench.config.section import NotNegative, Number, OrText, Positive, Strict, Texts, problem, several, shift_size
from higgsbench.errors import ConfigError, nearest_hint, repeated, shortened
from higgsbench.events.shifts import Shifts
from higgsbench.expressions import parse_expression

SCORE = "score"
"""Name of the score of the evaluated row in expressions of regions."""

_SIZES = tuple(item.name for item in fields(Shifts))
_NAME = re.compile(r"[A-Za-z]\w{0,39}", re.ASCII)


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value) or value == "mu" or value.startswith("mcstat_"):
        rule = "use 1 to 40 letters, digits or _, start with a letter, and avoid mu and mcstat_"
        raise problem(f"name {shortened(value)!r}: {rule}")
    return value


class RegionConfig(Strict):
    """A region of the statistical model: one channel of the workspace."""

    name: str
    """Name of the channel."""
    select: str | None = None
    """Expression over the columns of the events and `score`; all events by default. Regions must not overlap."""
    observable: str = SCORE
    """What is binned: `score`, the score of the evaluated row, or an expression over the columns of the events."""
    control: bool = False
    """Whether it is a control region, which has one bin by default."""
    bins: Annotated[int, Field(ge=1, le=100)] | None = None
    """Largest number of bins, with edges chosen for the highest significance; 10 by default."""
    edges: Annotated[list[Number], Field(min_length=2)] | None = None
    """Edges of the bins, instead of `bins`; events beyond the first or last edge count in the outermost bins."""

    _name = field_validator("name")(_checked_name)

    @field_validator("edges")
    @classmethod
    def _ascending(cls, value: list[float] | None) -> list[float] | None:
        if any(high <= low for low, high in pairwise(value or [])):
            raise problem("the edges must be in ascending order")
        return value

    @model_validator(mode="after")
    def _expressions(self) -> RegionConfig:
        if self.bins is not None and self.edges is not None:
            raise problem("`bins` lets higgsbench choose the edges, `edges` lists them; remove one", "bins")
        for key in ("select", "observable"):
            if (text := getattr(self, key)) is not None:
                try:
                    parse_expression(text, None, "", vectors=False)
                except ConfigError as error:
                    raise problem(str(error).removeprefix(": "), key) from error
        return self

    @property
    def most_bins(self) -> int:
        """Largest number of bins whose edges are chosen."""
        return self.bins or (1 if self.control else 10)


def _factors(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return [1.0 + value, 1.0 / (1.0 + value)] if number and 0 < value < 10 else value


_TWO = {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "minItems": 2, "maxItems": 2}
_Factors = Annotated[
    list[Positive], BeforeValidator(_factors), Field(min_length=2, max_length=2),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _TWO]}),
]  # fmt: skip
_Sides = Annotated[list[Texts], Field(min_length=2, max_length=2)]


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


def parse_systematic(text: str) -> Systematic:
    """Read one shift of the form NAME=SIZE or NAME=UP,DOWN; errors as for `parse_systematics`, without the option."""
    name, _, value = text.partition("=")
    if not (name.isidentifier() and value):
        raise ConfigError("write NAME=SIZE, such as tes=0.03, or NAME=UP.csv,DOWN.csv")
    up, comma, down = value.partition(",")
    if comma:
        if not (up and down):
            raise ConfigError("two files are needed, NAME=UP.csv,DOWN.csv")
        return Systematic(name, files=(Path(up), Path(down)))
    size = shift_size(name, value)
    if size is None:
        raise ConfigError(f"{value!r} is neither a size, such as 0.03, nor two files separated by a comma")
    if name not in _SIZES:
        hint = nearest_hint(name, list(_SIZES), f"; choose from {', '.join(_SIZES)}")
        raise ConfigError(f"no built-in shift {name!r}{hint}; for other shifts, name files of shifted events")
    if not math.isfinite(size) or size == 0.0:
        raise ConfigError("the size must be a finite number other than 0")
    found = Systematic(name, size)
    _ = found.sides  # raises if the size is out of range
    return found


class SystematicConfig(Strict):
    """A systematic uncertainty; entries with the same name vary together, by one nuisance parameter."""

    name: str
    """Name of the nuisance parameter."""
    processes: Annotated[list[str], BeforeValidator(several), Field(min_length=1), OrText()] | None = None
    """Processes that it changes; all by default."""
    shift: str | None = None
    """A shift that `higgsbench data shift` knows, with its size of one standard deviation: `tes=0.03`."""
    files: _Sides | None = None
    """Files (or trees, `file.root:tes_up`) of the events after an upward and after a downward shift."""
    weights: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    """Weights after an upward and after a downward shift: expressions over columns of the files."""
    norm: _Factors | None = None
    """Relative uncertainty of the normalisation, 0.1 for 10% (log-normal); or the factors [up, down]."""
    free: bool = False
    """Whether the normalisation has no constraint and the regions alone determine it."""

    kinds: ClassVar[tuple[str, ...]] = ("shift", "files", "weights", "norm", "free")
    _name = field_validator("name")(_checked_name)

    @field_validator("shift")
    @classmethod
    def _with_size(cls, value: str | None) -> str | None:
        try:
            found = None if value is None else parse_systematic(value)
        except ConfigError as error:
            raise problem(f"{shortened(str(value))!r}: {error}") from error
        if found is not None and found.files is not None:
            raise problem("expected a size, such as tes=0.03; name files under the key `files`")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> SystematicConfig:
        given = [kind for kind in self.kinds if getattr(self, kind)]
        if len(given) != 1:
            raise problem(f"expected one of the keys {', '.join(self.kinds)}, got {' and '.join(given) or 'none'}")
        if self.free and not self.processes:
            raise problem("a free normalisation needs `processes`", "free")
        return self


class ModelRules(Strict):
    """Rules for the templates of the statistical model."""

    smooth: NotNegative = 0.5
    """Relative simulation error below which neighbouring bins are merged to measure a shift; 0 turns smoothing off."""
    prune: NotNegative = 0.002
    """Relative change below which the normalisation or the shape of a shift is left out; 0 keeps all."""
    min_background: Positive = 10.0
    """Expected background that a bin with chosen edges must hold."""
    min_effective: Positive = 25.0
    """Effective number of simulated background events that it must hold."""
    mc_stat: bool = True
    """Whether the finite number of simulated events counts as uncertainty."""


class StatisticalModel(Strict):
    """Keys of a configuration that describe the statistical model; they do not change scores."""

    regions: Annotated[list[RegionConfig], Field(min_length=1)] | None = None
    """Regions of the statistical model, for `stats --fit`, `interval` and `export cabinetry`."""
    systematics: list[SystematicConfig] | None = None
    """Systematic uncertainties of the statistical model."""
    templates: ModelRules | None = None
    """Rules for its templates."""

    @model_validator(mode="after")
    def _distinct(self) -> StatisticalModel:
        if (twice := repeated([region.name for region in self.regions or []])) is not None:
            raise problem(f"the name {twice!r} is used twice", "regions")
        for key in ("systematics", "templates"):
            if getattr(self, key) and not self.regions:
                raise problem(f"`{key}` needs `regions`", key)
        entries = self.systematics or []
        for at, entry in enumerate(entries):
            for other in entries[:at]:
                mine, theirs = entry.processes, other.processes
                if entry.name == other.name and (mine is None or theirs is None or set(mine) & set(theirs)):
                    same = f"systematics with the same name {entry.name!r} need different `processes`"
                    raise problem(same, "systematics")
                if entry.name == other.name and entry.free != other.free:
                    raise problem(f"{entry.name!r} is free in one entry and has a size in another", "systematics")
        return self
