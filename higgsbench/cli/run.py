"""`higgsbench run`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from higgsbench.cli.duration import time_limit_option
from higgsbench.cli.engine_options import EngineChoice, engine_options
from higgsbench.cli.file_name import FILE_NAME
from higgsbench.cli.one_line import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from higgsbench.config import LoadedConfig
    from higgsbench.runs.result import RunResult

__all__ = ["command"]


@click.command(
    "run",
    epilog="Example:  higgsbench run configs/all.yaml --data training.csv --only xgboost --set folds=3",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--data", type=FILE_NAME, help="Event file to train on, instead of the configuration's.")
@click.option("--test", type=FILE_NAME, help="Separate file of held-out events.")
@click.option("--only", multiple=True, metavar="MODEL", help="Keep only this model or label; may be repeated.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one key, e.g. cut.rule=max.")
@click.option("--preset", type=click.Choice(["quick", "good", "best"]), help="Effort, instead of the configuration's.")
@time_limit_option("For everything, e.g. 90s, 30m, 2h; what does not fit is left out and said.")
@click.option("--plan", "dry", is_flag=True, help="Predict time and memory, train nothing.")
@click.option("--events", type=click.IntRange(min=100), help="With --plan: predict for so many training events.")
@engine_options
@click.option("--retry-failed", is_flag=True, help="Train those units again that failed in an earlier call.")
@click.option("--memory-limit", metavar="SIZE",
              help="For all processes, e.g. 8GB; what needs more trains from disk or is refused at once.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder that holds the runs.")  # fmt: skip
@click.option("--no-models", is_flag=True, help="Keep the scores only: no fitted models to predict with later.")
@click.option("--quiet", "-q", is_flag=True, help="Print the leaderboard only.")
def command(
    config: Path,
    data: Path | None,
    test: Path | None,
    only: tuple[str, ...],
    settings: tuple[str, ...],
    preset: str | None,
    time_limit: float | None,
    dry: bool,
    events: int | None,
    units: EngineChoice,
    retry_failed: bool,
    memory_limit: str | None,
    output: Path,
    no_models: bool,
    quiet: bool,
) -> None:
    """Train, stack and cut as CONFIG says; show the leaderboard.

    A run that was interrupted goes on where it stopped: call the same command again.
    """
    from rich.console import Console

    from higgsbench.api.running import engine_settings, load_run_config
    from higgsbench.cli.progress import LiveProgress, PlainProgress
    from higgsbench.leaderboard import Leaderboard
    from higgsbench.leaderboard.render import output_console, show
    from higgsbench.runs.environment import available_cores
    from higgsbench.runs.result import Silent
    from higgsbench.runs.run import run_config

    settings = (*settings, "store_models=false") if no_models else settings
    settings = settings if memory_limit is None else (*settings, f"memory_limit={memory_limit}")
    if events is not None and not dry:
        raise click.UsageError("--events goes with --plan; it changes no run")
    if dry and time_limit is not None:
        raise click.UsageError("--plan predicts the whole run; leave out --time-limit")
    if dry and retry_failed:
        raise click.UsageError("--plan trains nothing; leave out --retry-failed")
    loaded = load_run_config(config, data=data, test=test, only=only, settings=settings, preset=preset)
    console = output_console()
    engine = engine_settings(**units)
    if dry:
        _show_plan(loaded, output, engine.jobs or available_cores(), events, console)
        return
    begin = time.monotonic()
    if quiet:
        result = run_config(loaded, output, engine, Silent(), time_limit, retry_failed)
    else:
        messages = Console(stderr=not console.is_terminal)
        progress = LiveProgress(messages) if messages.is_terminal else PlainProgress(messages)
        try:
            with progress:
                result = run_config(loaded, output, engine, progress, time_limit, retry_failed)
        except KeyboardInterrupt:
            click.echo(
                f"Interrupted: {progress.done} of {progress.total} units are stored in {progress.folder or output}; "
                "call the same command again to go on.",
                err=True,
            )
            raise click.exceptions.Exit(130) from None
    show(Leaderboard.read(result.folder), console)
    console.print(f"Run stored in {result.folder}", highlight=False, markup=False, soft_wrap=True)
    if time_limit is not None:
        _report_left_out(result, time_limit, time.monotonic() - begin)
    _report_failures(result)


def _report_left_out(result: RunResult, limit: float, spent: float) -> None:
    from higgsbench.runs.durations import format_duration

    for row in result.left_out:
        click.echo(f"Left out: {row.name}: {row.reason}", err=True)
    if result.left_out:
        click.echo("The same command without --time-limit adds what was left out.", err=True)
    if spent > limit:
        click.echo(
            f"Took {format_duration(spent)} of {format_duration(limit)}: a fit that was under way took longer than "
            "predicted.",
            err=True,
        )


def _show_plan(loaded: LoadedConfig, output: Path, jobs: int, events: int | None, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    from higgsbench.cli.data_output import quantity
    from higgsbench.runs.budget import fit_to_memory
    from higgsbench.runs.cost import forecast, stored_keys
    from higgsbench.runs.durations import format_duration
    from higgsbench.runs.run import checked_plan

    plan = checked_plan(loaded, lambda text: click.echo(f"Note: {one_line(text)}", err=True))
    dataset = plan.dataset
    plan, notes = (plan, []) if events is not None else fit_to_memory(loaded, plan, dataset, jobs, stored_keys(output))
    for note in notes:
        click.echo(note)
    found = forecast(plan, dataset, loaded.config, output, jobs, events)
    table = Table(header_style="bold")
    for title in ("row", "fits", "stored", "seeds", "a fit", "all"):
        table.add_column(title, justify="left" if title == "row" else "right")
    for row in found.rows:
        times = (format_duration(row.seconds), format_duration(row.total))
        table.add_row(escape(row.name), str(row.units), str(row.stored), str(row.bag), *times)
    console.print(table, highlight=False)
    runs = "runs overnight: " if found.seconds > 3 * 3600 else ""
    processes = "1 process" if jobs == 1 else f"{jobs} processes"
    count = quantity(found.events, "training event")
    click.echo(
        f"{runs}predicted {format_duration(found.seconds)} with {processes} on {count}, "
        f"about {found.memory_mb / 1000:.1f} GB of memory (measured in {format_duration(found.calibration_seconds)} "
        "of short fits; nothing was trained)"
    )


def _report_failures(result: RunResult) -> None:
    for failure in result.failures:
        if failure.path is not None:  # a row that was refused before any fit has been named already
            click.echo(f"Failed: {failure.row}: {failure.message} (traceback in {failure.path})", err=True)
    if any(failure.path is not None for failure in result.failures):
        click.echo("Failed units are not trained again unless you say --retry-failed.", err=True)
    if result.failures:
        raise click.exceptions.Exit(1)
