"""What the commands share: options and their parsing, tables for a terminal, and where warnings and notes go."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from higgsbench.errors import repeated
from higgsbench.files import one_line
from higgsbench.pages import WIDE as WIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from click.shell_completion import CompletionItem
    from rich.console import Console

    from higgsbench.events.shifts import Shifts
    from higgsbench.pages import Shown


Function = TypeVar("Function", bound="Callable[..., Any]")

PATH = click.Path(path_type=Path)


class _FileName(click.Path):
    """A path that is not empty: as a path, an empty name would mean the current folder."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if value == "":
            self.fail("the file name is empty", param, ctx)
        return super().convert(value, param, ctx)


FILE_NAME = _FileName(path_type=Path)


class Command(click.Command):
    """A command that refuses single options given twice and shows warnings and notes on standard error."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; refuse a single-value option given several times (click would keep the last value)."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        single = [p for p in order if isinstance(p, click.Option) and not (p.multiple or p.is_flag or p.count)]
        if (twice := repeated(single)) is not None:
            ctx.fail(f"{max(twice.opts, key=len)} is given {single.count(twice)} times; it takes one value")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; show warnings and notes of the Python functions, one line each."""
        import logging
        import warnings

        from higgsbench.errors import HiggsbenchWarning

        class Notes(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                word = "Note" if record.levelno < logging.WARNING else "Warning"
                click.echo(f"{word}: {one_line(record.getMessage())}", err=True)

        log, notes = logging.getLogger("higgsbench"), Notes(logging.INFO)
        level = log.level
        log.addHandler(notes)
        log.setLevel(logging.INFO)
        with warnings.catch_warnings():
            other = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
                if issubclass(category, HiggsbenchWarning):
                    log.warning(str(message))
                else:
                    other(message, category, *rest, **more)

            warnings.simplefilter("always", HiggsbenchWarning)
            warnings.showwarning = show
            try:
                return super().invoke(ctx)
            finally:
                log.removeHandler(notes)
                log.setLevel(level)


def command(name: str, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return the decorator of a command, with an example at the end of its help."""
    return click.command(name, cls=Command, epilog=f"Example:  higgsbench {example}")


def format_option(*forms: str) -> Callable[[Function], Function]:
    """Return the option `--format`, whose first choice is the default."""
    return click.option("--format", "form", type=click.Choice(forms), default=forms[0], show_default=True,
                        help="json carries full precision.")  # fmt: skip


def schema_option(argument: str) -> Callable[[Function], Function]:
    """Return the option `--schema`, for the layout of the file that an argument names."""
    return click.option("--schema", metavar="NAME|FILE",
                        help=f"Layout of {argument}: a name (`higgsbench data layouts`) or a YAML file with keys of"
                        " data.schema; by default it is recognised by the columns.")  # fmt: skip


def _import_models(ctx: click.Context, param: click.Parameter, files: Sequence[Path]) -> None:
    if files and not ctx.resilient_parsing:
        from higgsbench.models import import_models

        for file in dict.fromkeys(files):
            import_models(file)


import_option = click.option("--import", "imports", type=PATH, multiple=True, metavar="FILE", expose_value=False,
                             callback=_import_models, help="Run this Python file with your own models first; may be"
                             " repeated.")  # fmt: skip
results_option = click.option("--results", type=PATH, default=Path("results"), show_default=True,
                              help="Folder that holds runs; RUN is a folder, a name in it, or latest.")  # fmt: skip
regions_option = click.option("--regions", type=PATH, metavar="FILE",
                              help="Configuration whose regions and systematics replace the run's.")  # fmt: skip
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the events.")
settings_option = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                               help="Change one key, e.g. cut.rule=max.")  # fmt: skip
preset_option = click.option(
    "--preset", type=click.Choice(["quick", "good", "best"]), help="Preset (effort level); overrides the configuration."
)


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the built-in configurations whose names begin with this text, for completion in a shell."""
    from click.shell_completion import CompletionItem

    from higgsbench.config import named_configs

    return [CompletionItem(name) for name in named_configs() if name.startswith(incomplete)]


def _complete_configs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    # Files first: in bash this entry removes those before it.
    return [CompletionItem(incomplete, type="file"), *complete_names(ctx, param, incomplete)]


config_argument = click.argument("config", type=PATH, shell_complete=_complete_configs)
"""A configuration: the user's file, or the name of one that comes with higgsbench."""


def added(*options: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Return a decorator that adds options in their order."""

    def add(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _figure_formats(ctx: click.Context, param: click.Parameter, text: str) -> list[str]:
    from higgsbench.pages import FIGURE_FORMATS

    names = split_names(text, max(param.opts, key=len)) or []
    for name in names:
        if name not in FIGURE_FORMATS:
            raise click.BadParameter(f"{name!r}: choose from {', '.join(FIGURE_FORMATS)}", ctx, param)
    return names


def figure_options(*formats: str) -> Callable[[Function], Function]:
    """Return the options of figures in files; `formats` are the names of the one that chooses formats."""
    return added(
        click.option("--figures", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                     help="Also keep every figure in this folder, and its numbers as CSV."),
        click.option(*formats, "formats", default="png,pdf", show_default=True, metavar="LIST",
                     callback=_figure_formats, help="Formats of these figures, separated by commas: png, pdf, svg."),
        click.option("--dpi", type=click.IntRange(20, 2400), default=200, show_default=True,
                     help="Dots per inch of PNG."),
        click.option("--style", type=click.Choice(["atlas", "cms", "plain"]), default="atlas", show_default=True,
                     help="Style of all figures."),
        click.option("--label", metavar="TEXT", default="", help="Text above every figure, e.g. 'ATLAS Open Data'."),
    )  # fmt: skip


class Share(click.FloatRange):
    """A number in a range, or a percentage: 0.05 or 5%."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        from higgsbench.schema import parse_share

        text = str(value).strip()
        try:
            number = parse_share(text)
        except ValueError:
            self.fail(f"{text!r} is not a share; write a fraction such as 0.05, or 5%", param, ctx)
        return float(super().convert(number, param, ctx))


shift_options = added(
    click.option("--tes", type=Share(-1.0, min_open=True), default=0.0,
                 help="Tau energy scale, relative change: 0.03 or 3%."),
    click.option("--jes", type=Share(-1.0, min_open=True), default=0.0,
                 help="Jet energy scale, relative change."),
    click.option("--soft-met", type=float, default=0.0, help="Soft missing momentum to add, GeV per axis."),
    click.option("--bkg-scale", type=float, default=1.0, help="Factor on the weights of all backgrounds."),
    click.option("--process-scale", multiple=True, metavar="NAME=FACTOR",
                 help="Factor on the weights of one process (Z, W, ttbar, ggF, VBF, VH); may be repeated."),
)  # fmt: skip


def number_pairs(pairs: Sequence[str], option: str) -> dict[str, float]:
    """Parse `name=number` pairs, each value of the option an item or several items with commas."""
    from higgsbench.errors import ConfigError
    from higgsbench.schema import is_number

    numbers: dict[str, float] = {}
    for pair in (item.strip() for value in pairs for item in value.split(",")):
        name, _, text = (part.strip() for part in pair.partition("="))
        if name in numbers:
            raise ConfigError(f"{option}: {name} is given twice")
        if not name or not is_number(text):
            raise ConfigError(f"{option}: {pair!r} is not NAME=NUMBER")
        numbers[name] = float(text)
    return numbers


def shifts_from(process_scale: Sequence[str], **sizes: float) -> Shifts:
    """Build the shifts out of the options of `shift_options`."""
    from higgsbench.errors import ConfigError, nearest_hint
    from higgsbench.events.shifts import Shifts
    from higgsbench.events.simulate.processes import PROCESSES

    factors = {}
    for name, factor in number_pairs(process_scale, "--process-scale").items():
        if name.lower() not in map(str.lower, PROCESSES):
            hint = nearest_hint(name, list(PROCESSES), f"; choose from {', '.join(PROCESSES)}")
            raise ConfigError(f"--process-scale: unknown process {name!r}{hint}")
        factors[f"{name.lower()}_scale"] = factor
    return Shifts(**sizes, **factors)


def split_names(text: str | None, option: str) -> list[str] | None:
    """Return the names in a list with commas, or None where the option was not given; refuse an empty list."""
    names = [name.strip() for name in text.split(",") if name.strip()] if text is not None else None
    if names == []:
        raise click.UsageError(f"{option} is empty; leave it out to use all")
    return names


def console(*, stderr: bool = False, width: int = 160) -> Console:
    """Return a console that shows texts as they are; `width` is that of a pipe or file, where no terminal gives one.

    Names from files are not markup: "[jets]" is part of a name, not a style.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    own = None if stream.isatty() or "COLUMNS" in os.environ else width
    return Console(width=own, stderr=stderr, highlight=False, markup=False, emoji=False)


def echo_json(content: Any) -> None:
    """Print JSON in full precision; NaN and infinities become null."""
    from higgsbench.pages import json_report

    click.echo(json_report(content), nl=False)


def show(result: Shown, screen: Console | None = None, dim: str = "") -> None:
    """Print the tables and remarks of a result, the remark `dim` in grey; lines in logs and pipes are never broken."""
    result.show(screen or console(width=WIDE), dim)


def quantity(count: int, noun: str) -> str:
    """Return "1 event", "1,234 events"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def file_size(file: Path) -> str:
    """Return the size of a file for people, in powers of 1000."""
    from higgsbench.config.document import format_size

    return format_size(file.stat().st_size)


def must_differ(source: Path, target: Path) -> None:
    """Refuse to write a file over the one it is made from."""
    from higgsbench.errors import DataError

    if target.exists() and source.exists() and target.samefile(source):
        raise DataError(f"{target}: is the input itself; give the output another name")
