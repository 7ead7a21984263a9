"""What a validation rule is, and the view of the events that rules look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from higgsbench.events.derived import columns_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["BoolArray", "FloatArray", "Rule", "RuleTable"]

FloatArray: TypeAlias = "npt.NDArray[np.float64]"
BoolArray: TypeAlias = "npt.NDArray[np.bool_]"


class RuleTable:
    """Rows of an event table as rules see them: numpy columns on demand, each converted once.

    Attributes:
        frame: the rows, missing values null.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self._columns: dict[str, FloatArray] = {}

    def __len__(self) -> int:
        return self.frame.height

    def __getitem__(self, name: str) -> FloatArray:
        """Return (n,) values of a numeric column, NaN where missing; not to be written to."""
        if name not in self._columns:
            self._columns[name] = columns_of(self.frame, (name,))[name]
        return self._columns[name]

    def has(self, *names: str) -> bool:
        """Whether all the named columns exist."""
        return all(name in self.frame.columns for name in names)

    def present(self, *names: str) -> BoolArray:
        """(n,) whether all the named columns hold a number."""
        there = np.ones(len(self), dtype=np.bool_)
        for name in names:
            there &= ~np.isnan(self[name])
        return there


@dataclass(frozen=True)
class Rule:
    """One statement about events that is true or false for each row.

    Attributes:
        name: short identifier, unique in the registry.
        group: heading under which the rule is shown.
        description: the statement, with units.
        columns: columns the rule needs and shows for an offending row; without one of them it is not applicable.
        offenders: takes the table, returns (n,) True for rows that break the rule.
        checked: takes the table, returns (n,) True for rows the statement speaks about; None means all rows.
        warning: whether breaking it is rare but legal, so that only a strict validation fails.
        whole: whether the rule compares rows with each other and therefore needs all of them at once.
        cells: takes a table of one offending row, returns the columns at fault; None means `columns`.
    """

    name: str
    group: str
    description: str
    columns: tuple[str, ...]
    offenders: Callable[[RuleTable], BoolArray]
    checked: Callable[[RuleTable], BoolArray] | None = None
    warning: bool = False
    whole: bool = False
    cells: Callable[[RuleTable], tuple[str, ...]] | None = None
