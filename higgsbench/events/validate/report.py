"""The outcome of a validation: per rule how many rows were checked, how many broke it, and which came first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from higgsbench.events.validate.rule import BoolArray, Rule

__all__ = ["RuleResult", "ValidationReport"]


@dataclass(frozen=True)
class RuleResult:
    """What one rule found.

    Attributes:
        rule: the rule.
        checked: number of rows it spoke about; None where the file lacks a column the rule needs.
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
