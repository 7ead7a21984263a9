"""The validation rule, and the view of the events that rules check, with the precision of their columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from higgsbench.events.derived import HALF_STEP, columns_of
from higgsbench.schema import ATLAS_HIGGS, FEATURES, MISSING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.events.derived import BoolArray, FloatArray

Test: TypeAlias = "Callable[[RuleTable], BoolArray]"

DECIMAL: tuple[str, ...] = tuple(name for name in FEATURES if name not in ATLAS_HIGGS.integers)
"""Features that the official files keep to three decimals."""

WEIGHTS = ("Weight", "KaggleWeight")
_LOOKED_AT = 5_000  # rows whose digits are counted
_CONVINCING = 20  # distinct values, which all end in a zero by chance once in 10^20 files
_FEWEST_DIGITS = 3  # a weight of fewer digits is a number that somebody chose, not one that was rounded


class _Written(NamedTuple):
    """How the numbers of a column are written."""

    single: bool  # whether each of them is a number of single precision
    values: FloatArray  # (n,) sizes of the distinct values
    decimals: int  # most digits behind the point
    digits: int  # most significant digits

    def is_cut(self) -> bool:
        """Whether three decimals do not fit into the significant digits, in enough values to be sure."""
        with np.errstate(divide="ignore"):
            needed = np.floor(np.log10(self.values)) + 4
        return int((needed > self.digits).sum()) >= _CONVINCING


def _written(column: pl.Series) -> _Written:
    values = column.cast(pl.Float64).drop_nulls()
    values = values.filter(values.is_finite() & (values != MISSING)).unique()
    single = bool((values.cast(pl.Float32).cast(pl.Float64) == values).all())
    # The shortest text that gives the same number back, e.g. -12.5, 0.0 or 4.6e-7.
    text = (values.cast(pl.Float32) if single else values).cast(pl.String)
    parts = text.str.extract_groups(r"^-?(\d+)\.?(\d*)(?:e(-?\d+))?$").struct
    whole, rest = parts.field("1"), parts.field("2").str.strip_chars_end("0")
    exponent = parts.field("3").cast(pl.Int64).fill_null(0)
    decimals = rest.str.len_chars().cast(pl.Int64) - exponent
    digits = (whole + rest).str.strip_chars("0").str.len_chars()
    most, figures = (int(counts.drop_nulls().to_numpy().max(initial=0)) for counts in (decimals, digits))
    return _Written(single, values.abs().to_numpy(), most, figures)


class Precision:
    """How precisely the columns of a table are stored, judged by their values, whatever the format of the file.

    The official files keep three decimals of a feature and twelve digits of a weight. Single precision and text with
    fewer digits move a value away from the official one; rules widen their limits by as much.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        rows = frame.gather_every(max(1, frame.height // _LOOKED_AT))
        self._written = {name: _written(rows[name]) for name in (*DECIMAL, *WEIGHTS) if name in frame.columns}
        features = [self._written[name] for name in DECIMAL if name in self._written]
        values = np.concatenate([w.values for w in features] or [np.empty(0)])
        decimals = max((w.decimals for w in features), default=0)
        digits = max((w.digits for w in features), default=0)
        # What a column with few values leaves open follows from all columns together.
        self._whole = _Written(False, values, decimals, digits)

    def slack(self, name: str, values: FloatArray) -> FloatArray | float:
        """Return how far values of a column may lie from the official ones: (n,), or 0 where none is moved."""
        if name not in self._written:
            return 0.0
        found = self._written[name]
        step, digits, kept = self._rounding(name, found)
        if not (step or digits or found.single):
            return 0.0
        size = np.abs(values)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            last = 0.5 * 10.0 ** (np.floor(np.log10(size)) + 1 - digits) if digits else np.zeros_like(size)
            slack = np.maximum(last, step)
            slack = np.where(slack > kept, slack + 1e-9 * size, 0.0)  # decimals have a binary tail
            if found.single:
                slack = slack + np.spacing(size.astype(np.float32)) / 2
        return np.where(np.isfinite(slack), slack, 0.0)

    def _rounding(self, name: str, found: _Written) -> tuple[float, int, float]:
        """Return half the last decimal, the significant digits (0: all are kept), and what official files lose too."""
        if name in WEIGHTS:
            known = found.values.size >= _CONVINCING and found.digits >= _FEWEST_DIGITS
            return (0.5 * 10.0**-found.decimals, found.digits, 0.0) if known else (0.0, 0, 0.0)
        judge = found if found.values.size >= _CONVINCING else self._whole
        coarse = judge.values.size >= _CONVINCING and judge.decimals < 3
        cut = next((w.digits for w in (found, self._whole) if w.is_cut()), 0)
        return 0.5 * 10.0**-judge.decimals if coarse else 0.0, cut, HALF_STEP * 1.000001


class RuleTable:
    """Rows of an event table as rules see them: numpy columns on demand, each converted once.

    Attributes:
        frame: the rows, missing values null.
        precision: how precisely the whole table is stored.
    """

    def __init__(self, frame: pl.DataFrame, precision: Precision | None = None) -> None:
        self.frame = frame
        self.precision = Precision(frame) if precision is None else precision
        self._columns: dict[str, FloatArray] = {}

    def __len__(self) -> int:
        return self.frame.height

    def __getitem__(self, name: str) -> FloatArray:
        """Return (n,) values of a numeric column, NaN where missing; do not write to them."""
        if name not in self._columns:
            self._columns[name] = columns_of(self.frame, (name,))[name]
        return self._columns[name]

    def take(self, rows: NDArray[np.int64], columns: Sequence[str] | None = None) -> RuleTable:
        """Return some rows, and some columns or all."""
        return RuleTable(self.frame.select(columns or pl.all())[rows], self.precision)

    def slack(self, *names: str) -> FloatArray | float:
        """Return how far the values of some columns, added up, may lie from the official ones: (n,), or 0."""
        return sum((self.precision.slack(name, self[name]) for name in names), start=0.0)

    def present(self, *names: str) -> BoolArray:
        """(n,) whether all the named columns hold a number."""
        there = np.ones(len(self), dtype=np.bool_)
        for name in names:
            there &= ~np.isnan(self[name])
        return there


@dataclass(frozen=True)
class Rule:
    """One statement about events that is true or false for each row."""

    name: str  # short identifier, unique in the registry
    group: str  # heading under which the rule is shown
    description: str  # the statement, with units
    # columns the rule needs and shows for an offending row; without one of them it is not applicable
    columns: tuple[str, ...]
    offenders: Test  # takes the table, returns (n,) True for rows that break the rule
    checked: Test | None = None  # takes the table, returns (n,) True for rows the rule applies to; None means all rows
    warning: bool = False  # whether breaking it is rare but legal, so that only a strict validation fails
    whole: bool = False  # whether the rule compares rows with each other and therefore needs all of them at once
    # takes a table of one offending row, returns the columns at fault; None means `columns`
    cells: Callable[[RuleTable], tuple[str, ...]] | None = None
