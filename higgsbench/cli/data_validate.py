"""`higgsbench data validate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from higgsbench.cli.data_output import console, echo_json, format_option, quantity
from higgsbench.cli.file_name import FILE_NAME

if TYPE_CHECKING:
    from rich.console import Console

    from higgsbench.events.validate import RuleResult, ValidationReport

__all__ = ["command"]

_COLOURS = {"held": "green", "violated": "bold red", "warning": "yellow", "not applicable": "dim"}


@click.command("validate", epilog="Example:  higgsbench data validate training.csv --strict")
@click.argument("file", type=FILE_NAME)
@click.option("--strict", is_flag=True, help="Fail on warnings, too: things that are rare but legal.")
@click.option(
    "--rows", type=click.IntRange(0), default=5, show_default=True, help="How many offending rows to show per rule."
)
@format_option
@click.pass_context
def command(ctx: click.Context, file: Path, strict: bool, rows: int, form: str) -> None:
    """Check FILE against every rule that the challenge's real events obey.

    Schema, ranges, the six patterns of missing values, derived against primary quantities within rounding, jets and
    weights. Exit code 0 if all rules hold, 1 if some are violated, 2 if FILE cannot be read as events at all.
    """
    from higgsbench.events.validate import validate_file

    report = validate_file(file, shown=rows)
    if form == "json":
        echo_json(report.as_dict(strict=strict))
    else:
        _show(console(), report, strict=strict)
    ctx.exit(0 if report.passed(strict=strict) else 1)


def _show(out: Console, report: ValidationReport, *, strict: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"{report.source}: {quantity(report.rows, 'event')}"))
    table.add_column("rule", overflow="fold")
    table.add_column("statement")
    table.add_column("checked", justify="right")
    table.add_column("offenders", justify="right")
    table.add_column("outcome")
    group = ""
    for result in report.results:
        if result.rule.group != group and group:
            table.add_section()
        group = result.rule.group
        checked = "-" if result.checked is None else f"{result.checked:,}"
        status = f"[{_COLOURS[result.status]}]{result.status}[/]"
        table.add_row(result.rule.name, result.rule.description, checked, f"{result.offenders:,}", status)
    out.print(table)
    for result in report.results:
        if result.first:
            _show_rows(out, result)
    out.print(_verdict(report, strict=strict))


def _show_rows(out: Console, result: RuleResult) -> None:
    colour = _COLOURS[result.status]
    out.print(f"[{colour}]{result.status}[/] {result.rule.name}: {result.rule.description}")
    for row in result.first:
        cells = ", ".join(f"{name} {_cell(value)}" for name, value in row.items() if name not in ("row", "line"))
        line = f" (line {row['line']})" if "line" in row else ""
        out.print(f"  row {row['row']}{line}: {cells}", markup=False)
    if result.offenders > len(result.first):
        out.print(f"  and {quantity(result.offenders - len(result.first), 'more row')}")


def _cell(value: Any) -> str:
    return "missing" if value is None else str(value)


def _verdict(report: ValidationReport, *, strict: bool) -> str:
    counts = {status: sum(r.status == status for r in report.results) for status in _COLOURS}
    facts = [f"{quantity(counts['held'], 'rule')} held"]
    if counts["violated"]:
        facts.append(f"{counts['violated']} violated in {quantity(int(report.violating.sum()), 'row')}")
    if counts["warning"]:
        facts.append(f"{quantity(counts['warning'], 'warning')} in {quantity(int(report.unusual.sum()), 'row')}")
    if counts["not applicable"]:
        facts.append(f"{counts['not applicable']} not applicable")
    verdict = "passed" if report.passed(strict=strict) else "failed"
    return f"[{'green' if verdict == 'passed' else 'bold red'}]{verdict}[/]: {', '.join(facts)}"
