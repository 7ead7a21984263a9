"""`higgsbench leaderboard`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command(
    "leaderboard",
    epilog="Example:  higgsbench leaderboard results --sort auc --format markdown",
)
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--results", type=click.Path(path_type=Path), show_default="results", help="The same as FOLDER.")
@click.option("--format", "form", type=click.Choice(["table", "markdown", "csv", "json", "html"]), default="table",
              show_default=True, help="csv and json carry full precision.")  # fmt: skip
@click.option("--sort", default="ams_cv", show_default=True, help="Column that ranks.")
@click.option("--columns", help="Columns to show, separated by commas.")
@click.option("--watch", "watching", is_flag=True, help="Refresh until the runs that are going on are done.")
def command(
    folder: Path | None, results: Path | None, form: str, sort: str, columns: str | None, watching: bool
) -> None:
    """Rank the rows of all runs in FOLDER (or of one run); rows that cannot be compared are never ranked together."""
    from higgsbench.leaderboard import Leaderboard

    if folder is not None and results is not None:
        raise click.UsageError(f"FOLDER and --results mean the same; leave one of {folder} and {results} out")
    results = folder or results or Path("results")
    if watching and form != "table":
        raise click.UsageError("--watch shows a table; leave --format out")
    chosen = [name.strip() for name in columns.split(",") if name.strip()] if columns is not None else None
    if chosen == []:
        raise click.UsageError("--columns names no column; leave it out for all")
    if watching:
        from higgsbench.leaderboard.watch import watch

        watch(results, sort, chosen)
        return
    board = Leaderboard.read(results, sort=sort)
    if form == "table":
        from higgsbench.leaderboard.render import output_console, show

        if not board.tables and not board.notes:
            click.echo(f"{results}: no runs yet; `higgsbench run` makes some")
        show(board, output_console(), chosen)
        return
    from higgsbench.leaderboard.render import render

    click.echo(render(board, form, chosen), nl=False)
