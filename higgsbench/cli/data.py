"""`higgsbench data`: download, simulate, check, describe and convert event files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from higgsbench.cli import options as opt

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

    from higgsbench.events.table import EventsInfo
    from higgsbench.events.validate import RuleResult, ValidationReport


_COLOURS = {"held": "green", "violated": "bold red", "warning": "yellow", "not applicable": "dim"}


@opt.command("fetch", "data fetch --from ~/Downloads/higgs.csv.gz")
@click.option("--from", "source", metavar="URL|FILE", help="A mirror's address, or the file already downloaded.")
@click.option("-o", "--output", type=opt.PATH, help="Also copy the verified file to this path or folder.")
@click.option("--force", is_flag=True, help="Download the file even if the cache has it.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True,
              help="Give up an attempt after this many seconds without an answer.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(1), default=3, show_default=True, help="How often to try.")
def fetch(source: str | None, output: Path | None, force: bool, timeout: float, attempts: int) -> None:
    """Download the challenge's file (818,238 events, 65 MB) from CERN Open Data, record 328, into the cache.

    The content is verified before the file gets its name: columns, number of events per KaggleSet, sums of weights.
    The cache is in the user's cache folder; HIGGSBENCH_CACHE_DIR moves it. Afterwards `data: {source: opendata}`
    in a configuration means this file.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from higgsbench.events.fetch import fetch_opendata

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    screen = opt.console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=screen, disable=not screen.is_terminal) as bar:
        fetched = fetch_opendata(
            source, output=output, force=force, timeout=timeout, attempts=attempts, progress=_PoochProgress(bar)
        )
    state = "verified" if fetched.fresh else "already in the cache"
    click.echo(f"{fetched.path}: {state}, {opt.quantity(fetched.rows, 'event')}, {opt.file_size(fetched.path)}")
    click.echo(f"SHA-256 {fetched.sha256}, from {fetched.source}")
    if output is not None:
        click.echo(f"copied to {output}")


class _PoochProgress:
    """A rich progress bar with the four methods pooch asks for; starts afresh with each attempt."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("downloading", total=None, visible=False)

    @property
    def total(self) -> float | None:
        """Bytes to come, None if the server does not say."""
        return self.bar.tasks[0].total

    @total.setter
    def total(self, size: int) -> None:
        self.bar.reset(self.task, total=size or None, visible=True)

    def update(self, size: int) -> None:
        """Count bytes that have arrived."""
        self.bar.update(self.task, advance=size)

    def reset(self) -> None:
        """Go back to zero; pooch does so before it fills the bar."""
        self.bar.reset(self.task)

    def close(self) -> None:
        """Show the next step, which takes seconds."""
        self.bar.update(self.task, description="verifying")


@opt.command("convert", "data convert training.csv training.parquet")
@click.argument("source", metavar="IN", type=opt.FILE_NAME)
@click.argument("target", metavar="OUT", type=opt.PATH)
def convert(source: Path, target: Path) -> None:
    """Convert IN to OUT: the file ending selects the format of OUT (.csv, .csv.gz, .parquet or .root).

    The format of IN is detected from its content.

    Columns come out in the official order and missing values as -999.0; the events and so their digest stay the same.
    ROOT files need the extra `root`.
    """
    from higgsbench.events import load_events
    from higgsbench.events.formats import output_format, write_events

    output_format(target)  # before the reading, which takes time
    opt.must_differ(source, target)
    events = load_events(source, cache=False)
    written = write_events(events.frame, target, events.schema)
    click.echo(
        f"{written}: {opt.quantity(len(events), 'event')}, {opt.file_size(written)}, content {events.digest[:12]}"
    )


@opt.command("simulate", "data simulate --events 100000 --seed 1 --mix ttbar=2 -o toy.parquet")
@click.option("--events", type=click.IntRange(1), required=True, help="Number of events.")
@opt.seed_option
@click.option("-o", "--output", type=opt.PATH, required=True, help="File to write: .csv, .csv.gz or .parquet.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True,
              help="Processes; no effect on the events.")  # fmt: skip
@click.option("--higgs-mass", type=float, default=125.0, show_default=True, help="Mass of the Higgs boson, GeV.")
@click.option("--luminosity", type=float, default=1.0, show_default=True, help="Factor on all expected events.")
@click.option("--mix", multiple=True, metavar="PROCESS=FACTOR",
              help="Factor on the share of a process in its class; repeatable.")  # fmt: skip
@click.option("--set-proportions", default="t=250,b=100,v=450", show_default=True, metavar="SET=NUMBER,...",
              help="Relative sizes of the KaggleSets.")  # fmt: skip
@opt.shift_options
def simulate(
    events: int, seed: int, output: Path, jobs: int, higgs_mass: float, luminosity: float, mix: tuple[str, ...],
    set_proportions: str, **shifts: Any,
) -> None:  # fmt: skip
    """Write events of the built-in toy Monte-Carlo in the official layout.

    The same seed gives the same events whatever the number of processes. The systematic shifts act on every event, as
    `data shift` does. This is a toy for learning and testing, fitted to real events; it is not ATLAS simulation.
    """
    from higgsbench.events.simulate import SimulationSettings, write_simulated

    settings = SimulationSettings(
        events=events,
        seed=seed,
        mix=opt.number_pairs(mix, "--mix"),
        higgs_mass=higgs_mass,
        luminosity=luminosity,
        set_proportions=opt.number_pairs([set_proportions], "--set-proportions"),
        shifts=opt.shifts_from(**shifts),
    )
    written = write_simulated(settings, output.expanduser(), jobs=jobs)
    click.echo(f"{written}: {opt.quantity(events, 'toy simulated event')}, seed {seed}, {opt.file_size(written)}")


@opt.command("shift", "data shift training.csv shifted.csv --tes 0.03 --bkg-scale 1.01")
@click.argument("source", metavar="IN", type=opt.FILE_NAME)
@click.argument("target", metavar="OUT", type=opt.PATH)
@opt.shift_options
@opt.seed_option
@click.option("--reselect", is_flag=True, help="Drop events that fall below the selection thresholds after the shift.")
def shift(source: Path, target: Path, seed: int, reselect: bool, **options: Any) -> None:
    """Apply systematic shifts to the events of IN, real or simulated, and write them to OUT.

    Energy scales and soft missing momentum move the primary quantities together; the derived ones follow. The format
    of OUT goes by its ending: .csv, .csv.gz, .parquet or .root. Without options the events stay as they are.
    """
    import polars as pl

    from higgsbench.errors import DataError
    from higgsbench.events import load_events
    from higgsbench.events.formats import output_format, write_events
    from higgsbench.events.shifts import apply_shifts

    shifts = opt.shifts_from(**options)
    output_format(target)
    opt.must_differ(source, target)
    events = load_events(source, cache=False)
    schema = events.schema
    measured = [name for name in schema.features if name not in schema.integers]
    frame = events.frame.with_columns(pl.col(measured).fill_null(schema.missing))
    try:
        shifted = apply_shifts(frame, shifts, seed, reselect=reselect)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    written = write_events(shifted, target, schema)
    dropped = f", {opt.quantity(frame.height - shifted.height, 'event')} dropped" if reselect else ""
    click.echo(f"{written}: {opt.quantity(shifted.height, 'event')}{dropped}, {opt.file_size(written)}")


@opt.command("info", "data info training.csv --format json")
@click.argument("file", type=opt.FILE_NAME)
@opt.format_option("table", "json")
def info(file: Path, form: str) -> None:
    """Show what FILE contains: layout, digest, subsets with classes and weights, missing values per jet number."""
    from higgsbench.events import load_events
    from higgsbench.events.table import describe

    found = describe(load_events(file))
    if form == "json":
        opt.echo_json({**found.as_dict(), "bytes": file.expanduser().stat().st_size})
        return
    out = opt.console()
    out.print(_summary(found, opt.file_size(file.expanduser())))
    out.print(_subsets(found))
    if found.missing:
        out.print(_missing(found))


def _summary(info: EventsInfo, size: str) -> Table:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    facts = {
        "file": f"{info.source} ({size})",
        "layout": info.layout,
        "events": f"{info.rows:,}",
        "columns": f"{len(info.columns)}: {info.columns[0]} ... {info.columns[-1]}",
        "labels": "yes" if info.labelled else "none: test events",
        "weights": info.weight or "none: every event counts 1",
        "content": info.digest,
    }
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def _subsets(info: EventsInfo) -> Table:
    numbers = ("events", "signal", "background", "sum of signal weights", "sum of background weights")
    table = opt.plain_table(("subset", *numbers), right=1, title="Subsets")
    for row in info.subsets:
        counts = [f"{n:,}" if n is not None else "-" for n in (row.events, row.signal, row.background)]
        sums = [f"{w:,.3f}" if w is not None else "-" for w in (row.signal_weight, row.background_weight)]
        table.add_row(row.name, *counts, *sums)
    return table


def _missing(info: EventsInfo) -> Table:
    """Missing values by jet number; columns with the same counts share a line."""
    groups: list[int | None] = list(info.groups) or [None]
    headings = [f"{group} ({info.groups[group]:,} events)" if group is not None else "events" for group in groups]
    title = "Missing values" + (" by jet number" if info.groups else "")
    table = opt.plain_table(("columns", *headings), right=1, title=title)
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, counts in info.missing.items():
        alike.setdefault(tuple(counts[group] for group in groups), []).append(name)
    for numbers, names in alike.items():
        table.add_row("\n".join(names), *(f"{n:,}" for n in numbers))
    return table


@opt.command("validate", "data validate training.csv --strict")
@click.argument("file", type=opt.FILE_NAME)
@click.option("--strict", is_flag=True, help="Also fail on warnings (rare but valid values).")
@click.option("--rows", type=click.IntRange(0), default=5, show_default=True,
              help="How many offending rows to show per rule.")  # fmt: skip
@opt.format_option("table", "json")
@click.pass_context
def validate(ctx: click.Context, file: Path, strict: bool, rows: int, form: str) -> None:
    """Check FILE against every rule that the challenge's real events obey.

    Schema, ranges, the six patterns of missing values, derived against primary quantities within rounding, jets and
    weights. Exit code 0 if all rules hold, 1 if some are violated, 2 if FILE cannot be read as events at all.
    """
    from higgsbench.events.validate import validate_file

    report = validate_file(file, shown=rows)
    if form == "json":
        opt.echo_json(report.as_dict(strict=strict))
    else:
        _show(opt.console(), report, strict=strict)
    ctx.exit(0 if report.passed(strict=strict) else 1)


def _show(out: Console, report: ValidationReport, *, strict: bool) -> None:
    from rich.text import Text

    title = f"{report.source}: {opt.quantity(report.rows, 'event')}"
    table = opt.plain_table(("rule", "statement", "checked", "offenders"), right=2, title=title)
    table.add_column("outcome")
    group = ""
    for result in report.results:
        if result.rule.group != group and group:
            table.add_section()
        group = result.rule.group
        checked = "-" if result.checked is None else f"{result.checked:,}"
        status = Text(result.status, style=_COLOURS[result.status])
        table.add_row(result.rule.name, result.rule.description, checked, f"{result.offenders:,}", status)
    out.print(table)
    for result in report.results:
        if result.first:
            _show_rows(out, result)
    out.print(_verdict(report, strict=strict))


def _show_rows(out: Console, result: RuleResult) -> None:
    from rich.text import Text

    head = Text.assemble((result.status, _COLOURS[result.status]), f" {result.rule.name}: {result.rule.description}")
    out.print(head)
    for row in result.first:
        values = {name: value for name, value in row.items() if name not in ("row", "line")}
        cells = ", ".join(f"{name} {'missing' if value is None else value}" for name, value in values.items())
        line = f" (line {row['line']})" if "line" in row else ""
        out.print(f"  row {row['row']}{line}: {cells}")
    if result.offenders > len(result.first):
        out.print(f"  and {opt.quantity(result.offenders - len(result.first), 'more row')}")


def _verdict(report: ValidationReport, *, strict: bool) -> Text:
    from rich.text import Text

    counts = {status: sum(r.status == status for r in report.results) for status in _COLOURS}
    facts = [f"{opt.quantity(counts['held'], 'rule')} held"]
    if counts["violated"]:
        facts.append(f"{counts['violated']} violated in {opt.quantity(int(report.violating.sum()), 'row')}")
    if counts["warning"]:
        facts.append(
            f"{opt.quantity(counts['warning'], 'warning')} in {opt.quantity(int(report.unusual.sum()), 'row')}"
        )
    if counts["not applicable"]:
        facts.append(f"{counts['not applicable']} not applicable")
    passed = report.passed(strict=strict)
    return Text.assemble(("passed", "green") if passed else ("failed", "bold red"), f": {', '.join(facts)}")
