"""Check whether events obey every rule of their layout; for the challenge's, every rule that the real events obey.

`validate_file` and `validate_events` run the rules of the layout (`rules_of`) over blocks of rows and report, per rule,
how many rows were checked, how many broke it and which ones came first. To add a rule for the challenge's layout, add
one record to `RULES`.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.errors import DataError
from higgsbench.events import EventStream
from higgsbench.events.check import check_columns
from higgsbench.events.table import Events
from higgsbench.events.validate.rules import RULES, rules_of
from higgsbench.events.validate.table import Rule, RuleTable
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.events.derived import BoolArray
    from higgsbench.schema import TableSchema

__all__ = ["RULES", "Rule", "RuleResult", "ValidationReport", "validate_events", "validate_file"]

_BLOCK = 1 << 16


@dataclass(frozen=True)
class RuleResult:
    """What one rule found."""

    rule: Rule  # the rule
    checked: int | None  # number of rows the rule applies to; None if the file lacks a column the rule needs
    offenders: int  # number of rows that break it
    # of the first offending rows: row number (from 1 without the header), line in a text file, EventId, rule's columns
    first: tuple[dict[str, Any], ...]

    @property
    def status(self) -> str:
        """`held`, `violated`, `warning`, or `not applicable`."""
        if self.checked is None:
            return "not applicable"
        if self.offenders == 0:
            return "held"
        return "warning" if self.rule.warning else "violated"

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready content; a missing value is null, a value that JSON cannot hold is text."""
        return {
            "rule": self.rule.name,
            "group": self.rule.group,
            "description": self.rule.description,
            "status": self.status,
            "checked": self.checked,
            "offenders": self.offenders,
            "first": [
                {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
                for row in self.first
            ],
        }


@dataclass(frozen=True, eq=False)
class ValidationReport:
    """What all rules found in one table of events."""

    source: str  # name of the file or data
    rows: int  # number of events
    results: tuple[RuleResult, ...]  # one per rule, in the order of the registry
    violating: BoolArray  # (rows,) True where an event breaks a rule
    unusual: BoolArray  # (rows,) True where an event sets off a warning

    def passed(self, *, strict: bool = False) -> bool:
        """Whether no rule is violated, nor, if strict, any warning set off."""
        bad = ("violated", "warning") if strict else ("violated",)
        return not any(result.status in bad for result in self.results)

    def as_dict(self, *, strict: bool = False) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "source": self.source,
            "rows": self.rows,
            "strict": strict,
            "passed": self.passed(strict=strict),
            "violating_rows": int(self.violating.sum()),
            "unusual_rows": int(self.unusual.sum()),
            "rules": [result.as_dict() for result in self.results],
        }


def validate_file(path: str | Path, *, schema: TableSchema = ATLAS_HIGGS, shown: int = 5) -> ValidationReport:
    """Check an event file of any format, as `validate_events` does; a `DataError` names what cannot be parsed."""
    stream = EventStream(path, schema)
    table = stream.table(check=False)
    return validate_events(table, schema=schema, source=stream.source, shown=shown, first_line=stream.first_line)


def validate_events(
    events: Events | pl.DataFrame,
    *,
    schema: TableSchema = ATLAS_HIGGS,
    source: str = "events",
    shown: int = 5,
    first_line: int | None = None,
) -> ValidationReport:
    """Check events against every rule of their layout.

    Args:
        events: events, or a frame of them with missing values null (or -999).
        schema: layout of a frame.
        source: name for the report where a frame is given.
        shown: how many offending rows to keep per rule.
        first_line: number of the line of the first row, to name those of offending rows too (text files).

    Returns:
        What every rule found; broken rules are results, not errors.

    Raises:
        DataError: if there are no events or the columns are not those of the layout.
    """
    if isinstance(events, Events):
        source, schema, events = events.source, events.schema, events.lazy().collect()
    frame, known = events, rules_of(schema)
    check_columns(frame.columns, schema, source)
    if frame.height == 0:
        raise DataError(f"{source}: no events to validate")
    table = RuleTable(frame)
    rules = [rule for rule in known if all(name in frame.columns for name in rule.columns)]
    checked = {rule.name: 0 for rule in rules}
    offenders, first = dict(checked), {rule.name: list[int]() for rule in rules}
    masks = {warning: np.zeros(frame.height, dtype=np.bool_) for warning in (False, True)}

    def judge(start: int | None) -> list[tuple[Rule, int, NDArray[np.int64]]]:
        """Return, per rule, how many rows are checked and which break it, in the block from `start` on or in all."""
        block = table if start is None else RuleTable(frame.slice(start, _BLOCK), table.precision)
        judged = []
        with np.errstate(all="ignore"):  # comparisons with missing numbers are false, as they should be
            for rule in rules:
                if rule.whole == (start is None):
                    bad = rule.offenders(block)
                    number = len(block) if rule.checked is None else int((rule.checked(block) | bad).sum())
                    judged.append((rule, number, (start or 0) + np.flatnonzero(bad)))
        return judged

    # numpy releases the interpreter in its loops, so threads share the work without copying the table.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for rule, number, rows in chain.from_iterable(pool.map(judge, (None, *range(0, len(table), _BLOCK)))):
            masks[rule.warning][rows] = True
            checked[rule.name] += number
            offenders[rule.name] += rows.size
            first[rule.name] += rows[: shown - len(first[rule.name])].tolist()
    results = []
    for rule in known:
        rows_shown = tuple(_shown(rule, table, row, schema, first_line) for row in first.get(rule.name, ()))
        results.append(RuleResult(rule, checked.get(rule.name), offenders.get(rule.name, 0), rows_shown))
    return ValidationReport(source, frame.height, tuple(results), violating=masks[False], unusual=masks[True])


def _shown(rule: Rule, table: RuleTable, number: int, schema: TableSchema, line: int | None) -> dict[str, Any]:
    """Return where an offending row is, and its number and columns at fault."""
    row = table.take(np.array([number]))
    with np.errstate(all="ignore"):
        columns = rule.columns if rule.cells is None else rule.cells(row)
    names = [name for name in dict.fromkeys((schema.event_id, *columns)) if name in row.frame.columns]
    place = {"row": number + 1} if line is None else {"row": number + 1, "line": number + line}
    return {**place, **dict(zip(names, row.frame.select(names).row(0), strict=True))}
