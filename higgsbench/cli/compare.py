"""`higgsbench compare`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command(
    "compare",
    epilog="Example:  higgsbench compare --run results/all-1a2b3c4d xgboost catboost stack",
)
@click.argument("what", nargs=-1, metavar="[RUN | RUN:MODEL | MODEL]...")
@click.option("--run", help="Run that bare names of models refer to; alone: all its models.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder that holds runs.")  # fmt: skip
@click.option("--common", is_flag=True, help="Compare runs of different events on those they share.")
@click.option("--replicas", type=click.IntRange(2), default=1000, show_default=True, help="Bootstrap replicas.")
@click.option("--format", "form", type=click.Choice(["table", "markdown", "json"]), default="table",
              show_default=True, help="json carries full precision.")  # fmt: skip
@click.option("--events", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write, per event, who selects it (Parquet or CSV).")  # fmt: skip
def command(
    what: tuple[str, ...], run: str | None, results: Path, common: bool, replicas: int, form: str, events: Path | None
) -> None:
    """Compare models of stored runs on the same events.

    Paired differences with errors and p-values, what one selects and the other does not, and what can be concluded.
    """
    from higgsbench.compare import compare, load_contenders
    from higgsbench.compare.contest import check_target, render, show, write_selections

    if events is not None:
        check_target(events)
    contenders, notes = load_contenders(what, run=run, results=results, common=common)
    comparison = compare(contenders, notes, replicas=replicas)
    if events is not None:
        write_selections(events, contenders[0], comparison)
    if form == "table":
        from higgsbench.leaderboard.render import output_console

        show(comparison, output_console())
        return
    click.echo(render(comparison, form), nl=False)
