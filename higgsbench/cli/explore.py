"""`higgsbench explore`: what a data set looks like before any model."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command(
    name="explore",
    epilog="Example:  higgsbench explore training.csv --test test.csv --html explore.html",
)
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--test",
    type=click.Path(path_type=Path),
    help="A second event file, compared with DATA for drift.",
)
@click.option(
    "--subset",
    "subsets",
    multiple=True,
    metavar="NAME",
    help="Subset to describe (repeatable); by default the training subset where the file names subsets.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write one self-contained page with pictures (needs the extra 'report').",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="What to print; json keeps full precision.",
)
def command(data: Path | None, test: Path | None, subsets: tuple[str, ...], page: Path | None, style: str) -> None:
    """Describe events before any model: columns, missing values, class balance, features, correlations, drift.

    DATA is an event file: CSV, gzipped CSV or Parquet, of any size.
    """
    if data is None:
        raise click.UsageError("Name an event file: higgsbench explore DATA")
    import json
    import shutil
    import sys

    from higgsbench.explore import explore

    if page is not None:
        # Better to learn before the reading than after it that the page cannot be made.
        from higgsbench.explore.page import check_page

        check_page(page)
    found = explore(data, test=test, subsets=subsets or None)
    if page is not None:
        from higgsbench.explore.page import write_page

        write_page(found, page)
    if style == "json":
        click.echo(json.dumps(found.to_dict(), indent=1, allow_nan=False))
    else:
        from higgsbench.explore.terminal import render_terminal

        click.echo(render_terminal(found, shutil.get_terminal_size().columns, color=sys.stdout.isatty()), nl=False)
    if page is not None:
        click.echo(f"Wrote {page}", err=True)
