"""`higgsbench explore`: what a data set looks like before any model."""

from __future__ import annotations

from pathlib import Path

import click

from higgsbench.cli.file_name import FILE_NAME

__all__ = ["command"]


@click.command(
    name="explore",
    epilog="Example:  higgsbench explore training.csv --test test.csv --html explore.html",
)
@click.argument("data", required=False, type=FILE_NAME)
@click.option(
    "--test",
    type=FILE_NAME,
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
    "--schema",
    metavar="NAME|FILE",
    help="Layout of DATA: atlas-higgs-2014 (default), uci-higgs, or a YAML file with the keys of data.schema.",
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
@click.option(
    "--events", type=click.IntRange(min=1), help="Number of simulated events, without DATA.  [default: 50000]"
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the simulation, without DATA.  [default: 0]")
def command(
    data: Path | None,
    test: Path | None,
    subsets: tuple[str, ...],
    schema: str | None,
    page: Path | None,
    style: str,
    events: int | None,
    seed: int | None,
) -> None:
    """Describe events before any model: columns, missing values, class balance, features, correlations, drift.

    DATA is an event file: CSV, gzipped CSV, Parquet or ROOT, of any size. Without it, events of the built-in toy
    simulation are described.
    """
    if data is not None and (events is not None or seed is not None):
        raise click.UsageError("--events and --seed are for simulated events; leave them out or leave out DATA.")
    import json
    import shutil
    import sys

    from higgsbench.config.model import named_schema
    from higgsbench.events.simulate import SimulationSettings
    from higgsbench.explore import SimulatedStream, explore
    from higgsbench.schema import ATLAS_HIGGS

    if page is not None:
        # Better to learn before the reading than after it that the page cannot be made.
        from higgsbench.pages.drawing import check_page

        check_page(page)
    # 50,000 events make statistics good to a per cent in seconds.
    what = data or SimulatedStream(SimulationSettings(events=50_000 if events is None else events, seed=seed or 0))
    layout = ATLAS_HIGGS if schema is None else named_schema(schema)
    found = explore(what, test=test, schema=layout, subsets=subsets or None)
    if page is not None:
        from higgsbench.explore.display import write_page

        write_page(found, page)
    if style == "json":
        click.echo(json.dumps(found.to_dict(), indent=1, allow_nan=False))
    else:
        from higgsbench.explore.display import render_terminal

        click.echo(render_terminal(found, shutil.get_terminal_size().columns, color=sys.stdout.isatty()), nl=False)
    if page is not None:
        click.echo(f"Wrote {page}", err=True)
