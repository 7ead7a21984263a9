"""What share of one-cell corruptions does `higgsbench data validate` notice?

For every kind of corruption, one cell of each event is changed in a copy of the table, at random among the cells that
this kind can change. Kinds that change columns which rules compare between events (Label, KaggleSet) change only a few
events, so that most events stay unchanged.

Usage: python -m benchmarks.validation_corruptions [FILE] [--events N] [--seed S]

FILE is an event file; the default is the real sample beside the project if it exists, otherwise simulated events.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks.common import SAMPLE
from higgsbench.events import load_events
from higgsbench.events.simulate import SimulationSettings, simulate
from higgsbench.events.validate import validate_events
from higgsbench.events.validate.table import RuleTable
from higgsbench.schema import ATLAS_HIGGS, FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from higgsbench.events.derived import BoolArray, FloatArray

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
        strict: events that then violate a rule or cause a warning.
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
    names = [name for name in _NUMBERS if name in frame.columns]
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
    """Return a copy in which a few events have another value of the column."""
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
        frame: valid events with missing values as null; more events give a more precise answer.
        seed: seed for the choice of cells and values.

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


def _events(file: Path | None, events: int) -> tuple[str, pl.DataFrame]:
    chosen = file or (SAMPLE if SAMPLE.exists() else None)
    if chosen is not None:
        return chosen.name, load_events(chosen, cache=False).frame.head(events)
    frame = simulate(SimulationSettings(events=events))
    measured = [name for name in FEATURES if name != "PRI_jet_num"]
    return "simulated events", frame.with_columns(pl.when(pl.col(measured) != -999.0).then(pl.col(measured)))


def _print_by(results: list[Caught], attribute: str) -> None:
    print(f"\n{attribute:<30}{'cells':>9}{'caught':>9}{'strict':>9}")
    for name in dict.fromkeys(getattr(r, attribute) for r in results):
        rows = [r for r in results if getattr(r, attribute) == name]
        cells = sum(r.cells for r in rows)
        print(f"{name:<30}{cells:>9,}{total_share(rows):>9.1%}{total_share(rows, strict=True):>9.1%}")


def main() -> None:
    """Print the shares by kind of corruption and by column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--events", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name, frame = _events(arguments.file, arguments.events)
    start = time.perf_counter()
    validate_events(frame)
    print(f"{name}: {frame.height:,} events, validated in {time.perf_counter() - start:.2f} s")
    results = corruptions_caught(frame, arguments.seed)
    _print_by(results, "kind")
    _print_by(results, "column")
    print(f"\nall: {total_share(results):.1%} caught, {total_share(results, strict=True):.1%} strict")


if __name__ == "__main__":
    main()
