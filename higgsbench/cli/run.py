"""`higgsbench run` and `higgsbench tune`, and how their progress is shown."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from higgsbench.cli import options as opt
from higgsbench.files import one_line
from higgsbench.pages import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from higgsbench.api.progress import Progress
    from higgsbench.runs import Failure, RunResult
    from higgsbench.runs.cost import Forecast
    from higgsbench.tune import TuneResult


_choice_options = opt.added(
    click.option("--only", multiple=True, metavar="MODEL", help="Keep only this model or label; may be repeated."),
    opt.settings_option,
    opt.preset_option,
)
_input_options = opt.added(
    opt.import_option,
    click.option("--data", type=opt.FILE_NAME, help="Event file to train on, instead of the configuration's."),
    click.option("--test", type=opt.FILE_NAME, help="Separate file of held-out events."),
    _choice_options,
)
_fit_options = opt.added(
    click.option("--jobs", "-j", type=click.IntRange(min=1),
                 help="Fits at a time; all cores by default, all workers of a scheduler or cluster."),
    click.option("--engine", type=click.Choice(["local", "serial", "dask"]),
                 help="Where fits run: processes here (default), this process, or Dask workers (extra dask)."),
    click.option("--scheduler", metavar="ADDRESS|FILE", help="Dask scheduler with its workers; implies --engine dask."),
    click.option("--cluster", type=opt.PATH, metavar="FILE",
                 help="YAML file of a batch system that starts Dask workers; see `higgsbench cluster`."),
    click.option("--unit-time-limit", metavar="TIME",
                 help="Stop a single fit after this time, e.g. 10m, and count it as failed."),
    click.option("--unit-memory-limit", metavar="SIZE", help="Stop a fit whose process takes more, e.g. 4GB."),
    click.option("--retry-failed", is_flag=True, help="Train again the units that failed in an earlier call."),
    click.option("--memory-limit", metavar="SIZE",
                 help="Limit for all processes together, e.g. 8GB; larger fits train from disk or are refused."),
    click.option("--output", type=opt.PATH, default=Path("results"), show_default=True,
                 help="Folder that holds the runs."),
)  # fmt: skip


@opt.command("run", "run all --data training.csv --only xgboost --set folds=3")
@opt.config_argument
@_input_options
@click.option("--time-limit", metavar="TIME",
              help="For the whole run, e.g. 90s, 30m, 2h; rows that do not fit are left out and listed.")  # fmt: skip
@click.option("--plan", "dry", is_flag=True, help="Predict time and memory, train nothing.")
@click.option("--part", metavar="K/N",
              help="Train only the Kth of N shares of the fits, e.g. 3/20; then call without it.")  # fmt: skip
@click.option("--events", type=click.IntRange(min=100), help="With --plan: predict for this number of training events.")
@_fit_options
@click.option("--no-models", is_flag=True, help="Keep the scores only: no fitted models to predict with later.")
@click.option("--quiet", "-q", is_flag=True, help="Print the leaderboard only.")
def run(
    config: Path, settings: tuple[str, ...], time_limit: str | None, dry: bool, part: str | None, events: int | None,
    jobs: int | None, retry_failed: bool, memory_limit: str | None, output: Path, no_models: bool, quiet: bool,
    data: Path | None, test: Path | None, only: tuple[str, ...], preset: str | None, **engine: Any,
) -> None:  # fmt: skip
    """Train, stack and cut as CONFIG says; show the leaderboard.

    CONFIG is a YAML file, or a name from `higgsbench config list`.
    To continue an interrupted run, call the same command again.
    """
    from higgsbench.api import running
    from higgsbench.leaderboard import Leaderboard, show

    settings += ("store_models=false",) if no_models else ()
    settings += () if memory_limit is None else (f"memory_limit={memory_limit}",)
    if events is not None and not dry:
        raise click.UsageError("--events works only together with --plan")
    if dry and time_limit is not None:
        raise click.UsageError("--plan predicts the whole run; leave out --time-limit")
    if dry and (retry_failed or part):
        raise click.UsageError("--plan trains nothing; leave out --retry-failed and --part")
    chosen: dict[str, Any] = {"data": data, "test": test, "only": only, "settings": settings, "preset": preset,
                              "output": output, "jobs": jobs}  # fmt: skip
    out = opt.console(width=opt.WIDE)
    if dry:
        _show_forecast(running.plan_run(config, events=events, **chosen), jobs, out)
        return
    begin = time.monotonic()
    with _progress(out, quiet, output) as progress:
        result = running.run(
            config, listener=progress, time_limit=time_limit, retry_failed=retry_failed, part=part, **chosen, **engine
        )
    if part is not None:
        fits = f"{opt.quantity(result.trained, 'fit')} trained, {result.reused} reused"
        where = f"{_shown(result.folder)}; when all parts are done, call the same command without --part"
        out.print(f"Part {part}: {fits}, in {where}", soft_wrap=True)
    else:
        show(Leaderboard.read(result.folder), out)
        out.print(f"Run stored in {_shown(result.folder)}", soft_wrap=True)
    _report_left_out(result, time_limit, time.monotonic() - begin)
    _report_failures(result.failures)


@contextlib.contextmanager
def _progress(out: Console, quiet: bool, output: Path) -> Iterator[Progress]:
    """Show the progress of a run; when interrupted, say how to continue."""
    from higgsbench.api.progress import Progress

    progress = Progress(opt.console(stderr=not out.is_terminal), quiet=quiet)
    try:
        with progress:
            yield progress
    except KeyboardInterrupt:
        stored = f"{progress.done} of {progress.total} units are stored in {progress.folder or output}"
        click.echo(f"Interrupted: {stored}; call the same command again to continue.", err=True)
        raise click.exceptions.Exit(130) from None


def _report_failures(failures: Sequence[Failure]) -> None:
    """List failed fits and exit with 1 if there are any."""
    for failure in failures:
        if failure.path is not None:  # a row that was refused before any fit has been named already
            click.echo(f"Failed: {failure.row}: {failure.message} (traceback in {_shown(failure.path)})", err=True)
    if any(failure.path is not None for failure in failures):
        click.echo("Failed units are not trained again unless you add --retry-failed.", err=True)
    if failures:
        raise click.exceptions.Exit(1)


@opt.command("learning-curve", "learning-curve quick --data training.csv --sizes 500,2000,50%,all")
@opt.config_argument
@click.option("--sizes", metavar="LIST",
              help="Training events of a fit, separated by commas: numbers, shares (0.1 or 10%) or all; by default "
              "all, half of them, a quarter, ...")  # fmt: skip
@click.option(
    "--repeats", type=click.IntRange(1, 1000), default=3, show_default=True, help="Random draws of each size."
)
@_input_options
@click.option("--plan", "dry", is_flag=True, help="Predict time and memory, train nothing.")
@_fit_options
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True,
              help="csv and json carry full precision.")  # fmt: skip
@opt.figure_options("--figure-format")
@click.option("--quiet", "-q", is_flag=True, help="Print the table only.")
def learning_curve(
    config: Path, sizes: str | None, settings: tuple[str, ...], memory_limit: str | None, dry: bool, form: str,
    figures: Path | None, formats: list[str], dpi: int, style: str, label: str, quiet: bool, output: Path,
    **options: Any,
) -> None:  # fmt: skip
    """Train the models of CONFIG on growing numbers of events; show their metrics and whether the curves still rise.

    Every size is evaluated on the held-out folds of the run, and the fits of `higgsbench run CONFIG` are reused.
    To continue an interrupted curve, call the same command again.
    """
    from higgsbench.api import running
    from higgsbench.pages import drawing as draw

    settings += () if memory_limit is None else (f"memory_limit={memory_limit}",)
    options |= {"sizes": opt.split_names(sizes, "--sizes") or (), "settings": settings, "output": output}
    out = opt.console(width=opt.WIDE)
    if dry:
        names = ("sizes", "repeats", "data", "test", "only", "settings", "preset", "output", "jobs")
        forecast = running.plan_learning_curve(config, **{n: options[n] for n in names})
        _show_forecast(forecast, options["jobs"], out, "size")
        return
    if figures is not None:
        draw.check_libraries()
    pictures = draw.Pictures(figures, formats, dpi, label)
    with _progress(out, quiet, output) as progress:
        curve = running.learning_curve(config, listener=progress, **options)
    if figures is not None:
        from higgsbench.compare.curve import curve_pictures

        with draw.style(style):
            curve_pictures(curve, pictures)
        click.echo(f"Wrote the figures to {figures}", err=True)
    if form == "table":
        opt.show(curve, out)
    elif form == "csv":
        click.echo(curve.to_polars().write_csv(), nl=False)
    else:
        opt.echo_json(curve.as_json())
    _report_failures(curve.failures)


@opt.command("suite", "suite mine.yaml --splits splits.parquet --figures figures")
@click.argument("config", type=opt.PATH, default="suite")
@opt.import_option
@_choice_options
@click.option("--time-limit", metavar="TIME",
              help="For the whole suite, e.g. 2h; rows and data sets that do not fit are listed.")  # fmt: skip
@click.option("--plan", "dry", is_flag=True, help="Predict time and memory, train nothing.")
@_fit_options
@click.option("--format", "form", type=click.Choice(["table", "json", "html"]), default="table", show_default=True,
              help="json carries full precision.")  # fmt: skip
@click.option("--splits", type=opt.PATH, metavar="FILE",
              help="Also write the metrics of each data set, row and seed (.csv, .json or .parquet).")  # fmt: skip
@click.option("--bencheval", type=opt.PATH, metavar="FILE",
              help="Also write the metrics as errors, in the format of the package bencheval.")  # fmt: skip
@opt.figure_options("--figure-format")
@click.option("--quiet", "-q", is_flag=True, help="Print the tables only.")
def suite(
    settings: tuple[str, ...], memory_limit: str | None, dry: bool, form: str, splits: Path | None,
    bencheval: Path | None, figures: Path | None, formats: list[str], dpi: int, style: str, label: str, quiet: bool,
    output: Path, **options: Any,
) -> None:  # fmt: skip
    """Run the models of CONFIG on several data sets and rank them over all; without CONFIG, on six simulated ones.

    Each data set is an ordinary run, and its seeds are repeats. To continue an interrupted suite, call the same command
    again.
    """
    from higgsbench.api import suites
    from higgsbench.compare.suite import check_target, write_splits
    from higgsbench.pages import drawing as draw

    settings += () if memory_limit is None else (f"memory_limit={memory_limit}",)
    options |= {"settings": settings, "output": output}
    out = opt.console(width=opt.WIDE)
    if dry:
        names = ("config", "only", "settings", "preset", "output", "jobs")
        forecast = suites.plan_suite(**{name: options[name] for name in names})
        _show_forecast(forecast, options["jobs"], out, "data set")
        return
    for option, file in (("--splits", splits), ("--bencheval", bencheval)):
        if file is not None:
            check_target(option, file)
    drawn = figures is not None or form == "html"
    if drawn:
        draw.check_libraries()
    pictures = draw.Pictures(figures, formats, dpi, label)
    with _progress(out, quiet, output) as progress:
        found = suites.suite(listener=progress, **options)
    if splits is not None:
        write_splits(found.to_polars(), splits)
    if bencheval is not None:
        write_splits(found.to_bencheval(), bencheval)
    page = found.as_page(pictures, style) if drawn else ""
    if form == "table":
        opt.show(found, out)
    elif form == "json":
        opt.echo_json(found.as_json())
    else:
        click.echo(page, nl=False)
    for file in filter(None, (splits, bencheval, figures)):
        click.echo(f"Wrote {file}", err=True)
    _report_failures(found.failures)


def _report_left_out(result: RunResult, time_limit: str | None, spent: float) -> None:
    from higgsbench.config.document import format_duration, parse_duration

    for row in result.left_out:
        click.echo(f"Left out: {row.name}: {row.reason}", err=True)
    if result.left_out:
        click.echo("The same command without --time-limit adds what was left out.", err=True)
    if time_limit is not None and spent > parse_duration(time_limit):
        click.echo(
            f"Took {format_duration(spent)} of {format_duration(parse_duration(time_limit))}: a fit that was under way "
            "took longer than predicted.",
            err=True,
        )


def _shown(path: Path) -> Path:
    """Return a path relative to the working folder where it lies in it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _show_forecast(found: Forecast, jobs: int | None, out: Console, what: str = "row") -> None:
    from higgsbench.config.document import format_duration
    from higgsbench.runs.environment import available_cores

    rows = [
        (row.name, *map(str, (row.units, row.stored, row.bag)), *map(format_duration, (row.seconds, row.total)))
        for row in found.rows
    ]
    Table("", (what, "fits", "stored", "models per fit", "a fit", "all"), rows).show(out)
    processes = "1 process" if (jobs or available_cores()) == 1 else f"{jobs or available_cores()} processes"
    click.echo(
        f"{'runs overnight: ' if found.seconds > 3 * 3600 else ''}predicted {format_duration(found.seconds)} with "
        f"{processes} on {opt.quantity(found.events, 'training event')}, about {found.memory_mb / 1000:.1f} GB of "
        f"memory (measured in {format_duration(found.calibration_seconds)} of short fits; nothing was trained)"
    )
    if found.pretraining:
        first = ", ".join(f"{name} on {events:,} simulated events" for name, events in found.pretraining)
        click.echo(f"not part of this prediction: first training {first}")


@opt.command("tune", "tune quick --model xgboost --time-limit 10m -o tuned.yaml")
@opt.config_argument
@opt.import_option
@click.option("--model", required=True, help="Model or label of CONFIG, or any registered model.")
@click.option("--trials", type=click.IntRange(min=2), default=40, show_default=True, help="Trials of each study.")
@click.option("--time-limit", metavar="TIME", help="For all studies together, e.g. 90s, 30m, 2h.")
@click.option("--objective", metavar="METRIC", default="log_loss", show_default=True,
              help="What to improve: log_loss, auc, or ams with the cut from other folds.")  # fmt: skip
@click.option(
    "--inner", type=click.IntRange(2, 20), default=3, show_default=True, help="Inner folds used to evaluate a trial."
)
@click.option("--outer", type=click.IntRange(0, 100), show_default="3, or all folds if fewer",
              help="Outer folds; each is held out in turn with its own study, for an unbiased score.")  # fmt: skip
@click.option("--vary", multiple=True, metavar="WHAT[=A,B]", help="Vary training_weights or features too.")
@click.option("--prune/--no-prune", default=True, help="Stop trials that are worse than the median after a fold.")
@click.option("--data", type=opt.PATH, help="Event file, instead of the configuration's.")
@opt.preset_option
@opt.settings_option
@click.option("--jobs", "-j", type=click.IntRange(min=1), default=1, show_default=True,
              help="Number of parallel trials; with more than one the search is not reproducible.")  # fmt: skip
@click.option("--studies", type=opt.PATH, default=Path("studies"), show_default=True,
              help="Folder of the studies; a study that was stopped continues.")  # fmt: skip
@click.option("--output", "-o", type=opt.PATH, help="Write the configuration here too.")
@opt.format_option("table", "json")
@click.option("--quiet", "-q", is_flag=True, help="No line per trial.")
def tune(config: Path, output: Path | None, form: str, quiet: bool, **choices: Any) -> None:
    """Search the parameters of one model of CONFIG; write a configuration to run.

    The reported score is on events that were not used to choose parameters. Call the command again to continue a study.
    """
    from higgsbench.api.running import tune_model
    from higgsbench.errors import StoreError
    from higgsbench.files import check_folder_of, told_plainly, write_bytes

    if output is not None and output.is_dir():
        raise StoreError(f"{output}: --output is a folder; name a file, e.g. {output / 'tuned.yaml'}")
    if output is not None:
        check_folder_of(output, StoreError)

    def say(text: str) -> None:
        if not quiet:
            click.echo(one_line(text), err=True)

    try:
        result = tune_model(config, say=say, **choices)
    except KeyboardInterrupt:
        click.echo("Interrupted: finished trials are stored; call the same command again to continue.", err=True)
        raise click.exceptions.Exit(130) from None
    if output is not None:
        with told_plainly(StoreError, output):
            write_bytes(output, result.config_file.read_bytes())
    if form == "json":
        opt.echo_json(result.as_json())
    else:
        _show_study(result, opt.console(width=opt.WIDE), config, output)


def _show_study(result: TuneResult, screen: Console, config: Path, output: Path | None) -> None:
    from higgsbench.config.document import format_duration

    opt.show(result, screen)
    trials = f"{len(result.trials)} trials in {format_duration(result.seconds)}"
    screen.print(f"{trials}, stored in {result.folder}; more --trials continue there.", soft_wrap=True)
    tuned = output or result.config_file
    if not result.improved:
        advice = f"The study found no better parameters than those of {config}; {tuned} has the same parameters."
    elif result.nested is not None and not result.nested.better(result.objective):
        advice = f"On the held-out folds {tuned} is not better than {config}. More trials may help."
    else:
        advice = f"Next:  higgsbench run {tuned}"
    screen.print(advice, soft_wrap=True)
