"""Run every rule over a table in blocks of rows, and report what each of them found."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.check import check_columns
from higgsbench.events.read import read_table
from higgsbench.events.table import Events
from higgsbench.events.validate.rules import RULES
from higgsbench.events.validate.table import RuleTable
from higgsbench.files import printable
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from higgsbench.events.validate.table import BoolArray, Rule


@dataclass(frozen=True)
class RuleResult:
    """What one rule found.

    Attributes:
        rule: the rule.
        checked: number of rows the rule applies to; None if the file lacks a column the rule needs.
        offenders: number of rows that break it.
        first: the first offending rows: row number (from 1, header not counted; with the line in a
            text file), EventId and the rule's columns.
    """

    rule: Rule
    checked: int | None
    offenders: int
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
            "first": [{k: _plain(v) for k, v in row.items()} for row in self.first],
        }


@dataclass(frozen=True, eq=False)
class ValidationReport:
    """What all rules found in one table of events.

    Attributes:
        source: name of the file or data.
        rows: number of events.
        results: one per rule, in the order of the registry.
        violating: (rows,) True where an event breaks a rule.
        unusual: (rows,) True where an event sets off a warning.
    """

    source: str
    rows: int
    results: tuple[RuleResult, ...]
    violating: BoolArray
    unusual: BoolArray

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


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


_BLOCK = 1 << 16


def validate_file(path: str | Path, *, shown: int = 5, rules: Sequence[Rule] = RULES) -> ValidationReport:
    """Check a file against every rule of the challenge's layout.

    Args:
        path: an event file in any format that can be read.
        shown: how many offending rows to keep per rule.
        rules: the rules to run.

    Returns:
        What every rule found; broken rules are results, not errors.

    Raises:
        DataError: if the file cannot be parsed into the layout's columns at all.
    """
    frame, is_text = read_table(path, ATLAS_HIGGS)
    return validate_events(frame, source=printable(path), shown=shown, rules=rules, lines=is_text)


def validate_events(
    events: Events | pl.DataFrame,
    *,
    source: str = "events",
    shown: int = 5,
    rules: Sequence[Rule] = RULES,
    lines: bool = False,
) -> ValidationReport:
    """Check events against every rule of the challenge's layout.

    Args:
        events: events, or a frame of them with missing values null (or -999).
        source: name for the report where a frame is given.
        shown: how many offending rows to keep per rule.
        rules: the rules to run.
        lines: whether to name the line of an offending row as well (text files).

    Returns:
        What every rule found; broken rules are results, not errors.

    Raises:
        DataError: if there are no events or the columns are not those of the layout.
    """
    if isinstance(events, Events):
        source, frame = events.source, events.frame
    else:
        frame = events
    check_columns(frame.columns, ATLAS_HIGGS, source)
    if frame.height == 0:
        raise DataError(f"{source}: no events to validate")
    table = RuleTable(frame)
    applicable = [rule for rule in rules if all(name in frame.columns for name in rule.columns)]
    tallies = {rule.name: _Tally() for rule in applicable}
    masks = {warning: np.zeros(frame.height, dtype=np.bool_) for warning in (False, True)}
    for start, rule, checked, bad in _judged(applicable, table):
        masks[rule.warning][start : start + bad.size] |= bad
        tallies[rule.name].add(checked, bad, start, shown)
    outcome = tuple(_result(rule, tallies.get(rule.name), table, lines=lines) for rule in rules)
    return ValidationReport(source, frame.height, outcome, violating=masks[False], unusual=masks[True])


@dataclass
class _Tally:
    """Counts of one rule and its first offending rows, added block by block in the order of the rows."""

    checked: int = 0
    offenders: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, checked: int, bad: BoolArray, start: int, shown: int) -> None:
        rows = np.flatnonzero(bad)
        self.checked += checked
        self.offenders += rows.size
        self.first += [start + int(row) for row in rows[: shown - len(self.first)]]


def _judged(rules: Sequence[Rule], table: RuleTable) -> Iterator[tuple[int, Rule, int, BoolArray]]:
    """Yield the first row of a block, a rule, and how many of the block's rows it checks and which of them break it."""

    def judge(start: int | None) -> list[tuple[int, Rule, int, BoolArray]]:
        block = table if start is None else RuleTable(table.frame.slice(start, _BLOCK), table.precision)
        found = []
        with np.errstate(all="ignore"):  # comparisons with missing numbers are false, as they should be
            for rule in rules:
                if rule.whole == (start is None):
                    bad = rule.offenders(block)
                    checked = len(block) if rule.checked is None else int((rule.checked(block) | bad).sum())
                    found.append((start or 0, rule, checked, bad))
        return found

    # numpy releases the interpreter in its loops, so threads share the work without copying the table.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for found in pool.map(judge, (None, *range(0, len(table), _BLOCK))):
            yield from found


def _result(rule: Rule, tally: _Tally | None, table: RuleTable, *, lines: bool) -> RuleResult:
    if tally is None:
        return RuleResult(rule, None, 0, ())
    first = tuple(_shown_row(rule, table.take(np.array([row])), row, lines=lines) for row in tally.first)
    return RuleResult(rule, tally.checked, tally.offenders, first)


def _shown_row(rule: Rule, row: RuleTable, number: int, *, lines: bool) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        columns = rule.columns if rule.cells is None else rule.cells(row)
    names = [name for name in dict.fromkeys(("EventId", *columns)) if name in row.frame.columns]
    place = {"row": number + 1, "line": number + 2} if lines else {"row": number + 1}
    return {**place, **dict(zip(names, row.frame.select(names).row(0), strict=True))}
