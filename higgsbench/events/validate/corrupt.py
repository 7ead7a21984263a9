"""How much would the rules notice? Change one cell per event, thousands of times, and count.

Every kind of corruption gets a copy of the table in which each event has one cell changed, at random among the cells
that the kind can change at all. Kinds that touch what rules compare between events (Label, KaggleSet) change few
events, so that the bulk stays what it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from higgsbench.events.validate.rules import BoolArray, FloatArray, RuleTable
from higgsbench.events.validate.run import validate_events
from higgsbench.schema import ATLAS_HIGGS, FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["KINDS", "Caught", "corruptions_caught", "total_share"]

_FEW = 0.02
_NUMBERS = (*FEATURES, "Weight", "KaggleWeight")


@dataclass(frozen=True)
class Caught:
    """Corruptions of one kind in one column.

    Attributes:
        kind: name of the corruption.
        column: the column changed.
        cells: number of cells changed, one per event.
        violations: events that then violate a rule.
        strict: events that then violate a rule or set off a warning.
    """

    kind: str
    column: str
    cells: int
    violations: int
    strict: int


def total_share(results: list[Caught], *, strict: bool = False) -> float:
    """Share of all the changed cells that was noticed, 0 to 1."""
    return sum(r.strict if strict else r.violations for r in results) / sum(r.cells for r in results)


def _from_others(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    present = values[~np.isnan(values)]
    return rng.choice(present, len(values)) if present.size else values


def _to_value(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    return np.where(np.isnan(values), _from_others(values, rng), np.nan)


def _other_value(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    return np.where(np.isnan(values), np.nan, _from_others(values, rng))


KINDS: dict[str, Callable[[FloatArray, np.random.Generator], FloatArray]] = {
    "sign flipped": lambda values, rng: -values,
    "times 10": lambda values, rng: values * 10.0,
    "plus 1": lambda values, rng: values + 1.0,
    "last digit plus 1": lambda values, rng: np.round(values + 0.001, 3),
    "another event's value": _other_value,
    "value to missing": lambda values, rng: np.full_like(values, np.nan),
    "missing to value": _to_value,
}
"""Corruptions of numbers; a cell whose content would not change is left out."""


def _changed(before: FloatArray, after: FloatArray, kind: str) -> BoolArray:
    was, now = np.isnan(before), np.isnan(after)
    if kind == "value to missing":
        return ~was
    changed: BoolArray = was & ~now if kind == "missing to value" else ~was & ~now & (before != after)
    return changed


def _numeric_copy(frame: pl.DataFrame, kind: str, rng: np.random.Generator) -> tuple[pl.DataFrame, list[str]]:
    """Return a copy with one cell per event changed, and the name of the changed column ("" where none could be)."""
    table = RuleTable(frame)
    names = [name for name in _NUMBERS if table.has(name)]
    names = [name for name in names if kind != "last digit plus 1" or name not in ATLAS_HIGGS.integers]
    after = {name: KINDS[kind](table[name], rng) for name in names}
    possible = np.column_stack([_changed(table[name], after[name], kind) for name in names])
    draw = np.where(possible, rng.random(possible.shape), -1.0)
    chosen = np.where(possible.any(axis=1), draw.argmax(axis=1), -1)
    columns = []
    for position, name in enumerate(names):
        values = np.where(chosen == position, after[name], table[name])
        series = pl.Series(name, values, nan_to_null=True)
        columns.append(series.cast(frame.schema[name], strict=False))
    return frame.with_columns(columns), [names[i] if i >= 0 else "" for i in chosen]


def _text_copy(
    frame: pl.DataFrame, column: str, values: tuple[str, ...], rng: np.random.Generator
) -> tuple[pl.DataFrame, list[str]]:
    """Return a copy in which a few events have another of the column's values."""
    old = np.asarray(frame[column].to_list(), dtype=object)
    drawn = rng.choice(np.asarray(values, dtype=object), len(old))
    few = (rng.random(len(old)) < _FEW) & (drawn != old)
    return frame.with_columns(pl.Series(column, np.where(few, drawn, old).tolist())), [column if f else "" for f in few]


def _copies(frame: pl.DataFrame, rng: np.random.Generator) -> Iterator[tuple[str, pl.DataFrame, list[str]]]:
    for kind in KINDS:
        yield kind, *_numeric_copy(frame, kind, rng)
    for column, values in (("Label", ("s", "b")), ("KaggleSet", ("t", "b", "v"))):
        if column in frame.columns:
            yield f"another {column}", *_text_copy(frame, column, values, rng)


def corruptions_caught(frame: pl.DataFrame, seed: int = 0) -> list[Caught]:
    """Corrupt copies of valid events and count what the rules notice.

    Args:
        frame: valid events, missing values null; the more events the finer the answer.
        seed: seed of the choice of cells and values.

    Returns:
        One entry per kind of corruption and column that occurred.
    """
    rng = np.random.default_rng(seed)
    clean = validate_events(frame, shown=0)
    found = []
    for kind, copy, columns in _copies(frame, rng):
        report = validate_events(copy, shown=0)
        column = np.asarray(columns, dtype=object)
        for name in dict.fromkeys(columns):
            rows = (column == name) & ~clean.violating & ~clean.unusual
            if name and rows.any():
                violations = report.violating[rows]
                strict = violations | report.unusual[rows]
                found.append(Caught(kind, name, int(rows.sum()), int(violations.sum()), int(strict.sum())))
    return found
