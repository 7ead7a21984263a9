"""`higgsbench data`: download, simulate, check, describe and convert event files."""

from __future__ import annotations

import contextlib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from higgsbench.cli import options as opt
from higgsbench.pages import Table, count

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table as RichTable
    from rich.text import Text

    from higgsbench.events.validate import ValidationReport
    from higgsbench.schema import TableSchema


_COLOURS = {"held": "green", "violated": "bold red", "warning": "yellow", "not applicable": "dim"}


@opt.command("fetch", "data fetch uci-higgs")
@click.argument("name", default="atlas-higgs-2014")
@click.option("--from", "source", metavar="URL|FILE", help="A mirror's address, or the file already downloaded.")
@click.option("-o", "--output", type=opt.PATH, help="Also copy the verified file to this path or folder.")
@click.option("--force", is_flag=True, help="Download the file even if the cache has it.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True,
              help="Give up an attempt after this many seconds without an answer.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(1), default=3, show_default=True, help="How often to try.")
def fetch(name: str, output: Path | None, **choices: Any) -> None:
    """Download a public data set into the cache and verify it.

    `higgsbench data layouts` lists the choices for NAME. The default is the challenge's file (818,238 events, 65 MB)
    from CERN Open Data, which configurations use with `data: {source: opendata}`. For the others, pass the path that
    this command prints to `--data`. The command verifies columns, number of events and, if known, the checksum or the
    sums of weights before it puts the file into the cache. HIGGSBENCH_CACHE_DIR moves the cache.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from higgsbench.events.fetch import fetch_public, public_set

    public = public_set(name)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    screen = opt.console(stderr=True)
    bar = Progress(*columns, TimeRemainingColumn(), console=screen, disable=not screen.is_terminal)
    # Without a terminal, older versions of rich end a bar that is switched off with an empty line.
    with bar if screen.is_terminal else contextlib.nullcontext():
        fetched = fetch_public(public, output=output, progress=_PoochProgress(bar), **choices)
    state = "verified" if fetched.fresh else "already in the cache"
    click.echo(f"{fetched.path}: {state}, {opt.quantity(fetched.rows, 'event')}, {opt.file_size(fetched.path)}")
    click.echo(f"SHA-256 {fetched.sha256}, from {fetched.source}")
    if output is not None:
        click.echo(f"copied to {output}")


class _PoochProgress:
    """A rich progress bar with what pooch asks for; starts afresh with each attempt."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("downloading", total=None, visible=False)

    def begin(self, size: int) -> None:
        """Start an attempt; 0 bytes to come if the server does not say how many."""
        self.bar.reset(self.task, total=size or None, visible=True)

    total = property(None, begin)
    """Set by pooch before each attempt."""

    def update(self, size: int) -> None:
        """Count bytes that have arrived."""
        self.bar.update(self.task, advance=size)

    def reset(self) -> None:
        """Go back to zero; pooch does so before it fills the bar."""
        self.bar.reset(self.task)

    def close(self) -> None:
        """Show the next step, which takes seconds."""
        self.bar.update(self.task, description="verifying")


@opt.command("layouts", "data layouts --format json")
@opt.format_option("table", "json")
def layouts(form: str) -> None:
    """List the built-in layouts of event files and the public data sets that have them.

    higgsbench recognises files by the columns of these layouts. `higgsbench data fetch NAME` downloads the data of a
    layout. Describe other files under `data.schema` in a configuration.
    """
    from higgsbench.events.fetch import PUBLIC
    from higgsbench.schema import SCHEMAS

    if form == "json":
        keys = ("name", "features", "label", "signal", "background", "weight", "event_id", "process", "group", "groups",
                "missing")  # fmt: skip
        found = [
            {key: getattr(schema, key) for key in keys}
            | {key: getattr(PUBLIC.get(name), key, None) for key in ("events", "size", "doi")}
            for name, schema in SCHEMAS.items()
        ]
        opt.echo_json(found)
        return
    rows = [
        (
            schema.name,
            str(len(schema.features)),
            f"{schema.label}: {schema.signal} or {schema.background}",
            *(name or "-" for name in (schema.weight, schema.group)),
            "-" if schema.missing is None else f"{schema.missing:g}",
            *(("-", "-", "-") if public is None else (count(public.events), public.size, f"doi:{public.doi}")),
        )
        for schema, public in ((schema, PUBLIC.get(schema.name)) for schema in SCHEMAS.values())
    ]
    headings = ("layout", "features", "label", "weight", "group", "missing", "events", "download", "source")
    Table("", headings, rows, text=(0, 2, 3, 4, 8)).show(opt.console(width=opt.WIDE), stack=True)


@opt.command("convert", "data convert training.csv training.parquet")
@click.argument("source", metavar="IN", type=opt.FILE_NAME)
@click.argument("target", metavar="OUT", type=opt.PATH)
@opt.schema_option("IN")
def convert(source: Path, target: Path, schema: str | None) -> None:
    """Convert IN to OUT: the extension selects the format of OUT (.csv, .csv.gz, .parquet or .root).

    The format of IN is detected from its content.

    OUT has the columns of the layout, in its order, and marks missing values as the layout does (-999.0 for the
    challenge). It keeps the order of the rows of IN, and the digest of the content stays the same.
    ROOT files need the extra `root`. IN may also be a configuration, for the events that it names.
    """
    from higgsbench.events import content_digest, in_order
    from higgsbench.events.write import output_format, write_events

    output_format(target)  # before reading, which takes time
    opt.must_differ(source, target)
    table, layout = _events_of(source, schema)
    written = write_events(table, target, layout)
    digest = content_digest(in_order(table, layout))
    click.echo(f"{written}: {opt.quantity(len(table), 'event')}, {opt.file_size(written)}, content {digest[:12]}")


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
@opt.schema_option("IN")
@click.option("--reselect", is_flag=True, help="Drop events that fall below the selection thresholds after the shift.")
def shift(source: Path, target: Path, seed: int, schema: str | None, reselect: bool, **options: Any) -> None:
    """Apply systematic shifts to the events of IN, real or simulated, and write them to OUT.

    Energy scales and soft missing momentum move the primary quantities together; the derived ones follow. The
    extension of OUT selects its format: .csv, .csv.gz, .parquet or .root. Without options the events stay as they are.
    IN may also be a configuration, for the events that it names.

    Factors on weights apply to every layout that has weights. Energy shifts need the momentum columns of the challenge
    or of FAIR Universe, under their names, and no feature that cannot be recomputed from them.
    """
    from higgsbench.errors import DataError
    from higgsbench.events.shifts import apply_shifts
    from higgsbench.events.write import output_format, write_events

    shifts = opt.shifts_from(**options)
    output_format(target)
    opt.must_differ(source, target)
    frame, layout = _events_of(source, schema)
    try:
        shifted = apply_shifts(frame, shifts, seed, reselect=reselect, schema=layout)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    written = write_events(shifted, target, layout)
    dropped = f", {opt.quantity(frame.height - shifted.height, 'event')} dropped" if reselect else ""
    click.echo(f"{written}: {opt.quantity(shifted.height, 'event')}{dropped}, {opt.file_size(written)}")


def _events_of(source: Path, schema: str | None) -> tuple[pl.DataFrame, TableSchema]:
    """Return the events of a file, in its order, or of a configuration, with their layout."""
    from higgsbench.config.load import configured_events, named_schema
    from higgsbench.events import EventStream

    events = configured_events(source)
    if events is not None:
        return events.lazy().collect(), events.schema
    stream = EventStream(source, named_schema(schema))
    return stream.table(), stream.schema


@opt.command("info", "data info training.csv --format json")
@click.argument("file", type=opt.FILE_NAME)
@opt.schema_option("FILE")
@opt.format_option("table", "json")
def info(file: Path, schema: str | None, form: str) -> None:
    """Show what FILE contains: layout, digest, subsets with classes and weights, missing values per jet number.

    FILE may also be a configuration, for the events that it names.
    """
    from higgsbench.config.load import configured_events, named_schema
    from higgsbench.events import load_events
    from higgsbench.events.check import named_file
    from higgsbench.events.table import describe

    events = configured_events(file)
    found = describe(load_events(file, named_schema(schema)) if events is None else events)
    if form == "json":
        opt.echo_json({**found, "bytes": named_file(file)[0].stat().st_size})
        return
    out = opt.console()
    out.print(_summary(found, opt.file_size(named_file(file)[0]) if events is None else str(file)))
    headings = ("subset", "events", "signal", "background", "signal weight", "background weight")
    rows = [
        (
            row["name"],
            *(count(row[name]) for name in headings[1:4]),
            *("-" if w is None else f"{w:,.3f}" for w in (row["signal_weight"], row["background_weight"])),
        )
        for row in found["subsets"]
    ]
    Table("Subsets: events of each class, and sums of their weights", headings, rows).show(out, stack=True)
    alike: dict[tuple[int, ...], list[str]] = {}  # columns with the same counts share a row
    for name, counts in found["missing"].items():
        alike.setdefault(tuple(counts.values()), []).append(name)
    if alike:
        by_group = found["groups"] or {"events": found["rows"]}
        rows = [("all events", *map(count, by_group.values()))]
        rows += [("\n".join(names), *map(count, numbers)) for numbers, names in alike.items()]
        title = "Missing values" + (" by jet number" if found["groups"] else "")
        Table(title, ("columns", *by_group), rows, rules=(0,)).show(out, stack=True)


def _summary(info: dict[str, Any], size: str) -> RichTable:
    from rich.table import Table as RichTable

    columns = info["columns"]
    table = RichTable(show_header=False, box=None)
    table.add_row("file", f"{info['source']} ({size})")
    table.add_row("layout", info["layout"])
    table.add_row("events", f"{info['rows']:,}")
    table.add_row("columns", f"{len(columns)}: {columns[0]} ... {columns[-1]}")
    table.add_row("labels", "yes" if info["labelled"] else "none: test events")
    table.add_row("weights", info["weight"] or "none: every event counts 1")
    table.add_row("content", info["digest"])
    return table


@opt.command("validate", "data validate training.csv --strict")
@click.argument("file", type=opt.FILE_NAME)
@click.option("--strict", is_flag=True, help="Also fail on warnings (rare but valid values).")
@click.option("--rows", type=click.IntRange(0), default=5, show_default=True,
              help="How many offending rows to show per rule.")  # fmt: skip
@opt.schema_option("FILE")
@opt.format_option("table", "json")
@click.pass_context
def validate(ctx: click.Context, file: Path, strict: bool, rows: int, schema: str | None, form: str) -> None:
    """Check FILE against every rule of its layout.

    For the challenge's layout, these are the rules that the real events obey: schema, ranges, the six patterns of
    missing values, derived quantities (within rounding), jets and weights. For other layouts, they cover what the
    layout states: event numbers, labels, weights, groups, missing values. FILE may also be a configuration, for the
    events that it names. Exit code 0 if all rules hold, 1 if some are violated, 2 if FILE cannot be read.
    """
    from higgsbench.config.load import configured_events, named_schema
    from higgsbench.events.samples import recognised
    from higgsbench.events.validate import validate_events, validate_file
    from higgsbench.schema import ATLAS_HIGGS

    events = configured_events(file)
    if events is None:
        layout = named_schema(schema) or recognised(file, ATLAS_HIGGS)
        report = validate_file(file, schema=layout, shown=rows)
    else:
        report = validate_events(events, shown=rows)
    if form == "json":
        opt.echo_json(report.as_dict(strict=strict))
    else:
        _show(opt.console(), report, strict=strict)
    ctx.exit(0 if report.passed(strict=strict) else 1)


def _show(out: Console, report: ValidationReport, *, strict: bool) -> None:
    from rich.text import Text

    rows = [
        (result.rule.name, result.rule.description, count(result.checked), count(result.offenders), result.status)
        for result in report.results
    ]
    Table(
        f"{report.source}: {opt.quantity(report.rows, 'event')}",
        ("rule", "statement", "checked", "offenders", "outcome"),
        rows,
        text=(0, 1, 4),
        marks=[{"violated": "failed"}.get(result.status, result.status) for result in report.results],
        rules=[at for at, (a, b) in enumerate(pairwise(report.results)) if a.rule.group != b.rule.group],
    ).show(out)
    for result in (result for result in report.results if result.first):
        rule = result.rule
        out.print(Text.assemble((result.status, _COLOURS[result.status]), f" {rule.name}: {rule.description}"))
        for row in result.first:
            values = {name: value for name, value in row.items() if name not in ("row", "line")}
            cells = ", ".join(f"{name} {'missing' if value is None else value}" for name, value in values.items())
            line = f" (line {row['line']})" if "line" in row else ""
            out.print(f"  row {row['row']}{line}: {cells}")
        if result.offenders > len(result.first):
            out.print(f"  and {opt.quantity(result.offenders - len(result.first), 'more row')}")
    out.print(_verdict(report, strict=strict))


def _verdict(report: ValidationReport, *, strict: bool) -> Text:
    from rich.text import Text

    number = Counter(result.status for result in report.results)
    violating, unusual = (opt.quantity(int(rows.sum()), "row") for rows in (report.violating, report.unusual))
    facts = {
        "held": f"{opt.quantity(number['held'], 'rule')} held",
        "violated": f"{number['violated']} violated in {violating}",
        "warning": f"{opt.quantity(number['warning'], 'warning')} in {unusual}",
        "not applicable": f"{number['not applicable']} not applicable",
    }
    found = ", ".join(text for status, text in facts.items() if number[status] or status == "held")
    passed = report.passed(strict=strict)
    return Text.assemble(("passed", "green") if passed else ("failed", "bold red"), f": {found}")
