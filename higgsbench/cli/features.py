"""`higgsbench features`."""

from __future__ import annotations

import json

import click

__all__ = ["command"]

_KEYS = ("name", "unit", "formula", "source", "group")


@click.command("features", epilog="Example:  higgsbench features physics")
@click.argument("name", metavar="[SET]", required=False)
@click.option("--format", "form", type=click.Choice(["table", "json", "markdown"]), default="table", show_default=True)
def command(name: str | None, form: str) -> None:
    """List the feature sets, those of installed packages included; with SET, the formula and source of each feature.

    Sets are shown for the layout of the challenge.
    """
    from higgsbench.features import feature_set, feature_sets
    from higgsbench.schema import ATLAS_HIGGS

    if name is None:
        titles: tuple[str, ...] = ("name", "features", "what")
        rows: list[tuple[str, ...]] = [
            (s.name, str(len(s.quantities(ATLAS_HIGGS))), s.description) for s in feature_sets()
        ]
    else:
        titles = _KEYS
        rows = [tuple(getattr(q, key) for key in _KEYS) for q in feature_set(name).quantities(ATLAS_HIGGS)]
    if form == "json":
        click.echo(json.dumps([dict(zip(titles, row, strict=True)) for row in rows], indent=1))
    elif form == "markdown":
        for row in (titles, ("---",) * len(titles), *rows):
            click.echo("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    else:
        _print_table(titles, rows)


def _print_table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Show rows; a column of groups becomes rules between them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    grouped = titles[-1] == "group"
    table = Table(header_style="bold")
    for title in titles[:-1] if grouped else titles:
        table.add_column(title, overflow="fold")
    for row, following in zip(rows, [*rows[1:], rows[-1]], strict=True):
        shown = row[:-1] if grouped else row
        table.add_row(*map(escape, shown), end_section=grouped and row[-1] != following[-1])
    Console().print(table, highlight=False)
