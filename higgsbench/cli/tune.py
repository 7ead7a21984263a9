"""`higgsbench tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from higgsbench.cli.data_output import console, echo_json, format_option
from higgsbench.cli.duration import time_limit_option

if TYPE_CHECKING:
    from rich.console import Console

    from higgsbench.tune.nested import Measured, TuneResult

__all__ = ["command"]

_SHOWN = 8


@click.command(
    "tune", epilog="Example:  higgsbench tune configs/quick.yaml --model xgboost --time-limit 10m -o tuned.yaml"
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="Model or label of CONFIG, or any registered model.")
@click.option("--trials", type=click.IntRange(min=2), default=40, show_default=True, help="Trials of each study.")
@time_limit_option("For all studies together, e.g. 90s, 30m, 2h.")
@click.option("--objective", type=click.Choice(["log_loss", "auc", "ams"]), default="log_loss", show_default=True,
              help="Weighted log-loss, weighted AUC, or AMS with the cut from other folds.")  # fmt: skip
@click.option("--inner", type=click.IntRange(2, 20), default=3, show_default=True, help="Folds that judge a trial.")
@click.option("--outer", type=click.IntRange(0, 100), show_default="3, or all folds if fewer",
              help="Folds of the run held out in turn, each with a study of its own, for an honest score.")  # fmt: skip
@click.option("--vary", multiple=True, metavar="WHAT[=A,B]", help="Vary training_weights or features too.")
@click.option("--prune/--no-prune", default=True, help="Break off trials behind the median after a fold.")
@click.option("--data", type=click.Path(path_type=Path), help="Event file, instead of the configuration's.")
@click.option("--preset", type=click.Choice(["quick", "good", "best"]), help="Preset to begin with.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one key of CONFIG.")
@click.option("--jobs", "-j", type=click.IntRange(min=1), default=1, show_default=True,
              help="Trials at a time; with more than one the search may vary.")  # fmt: skip
@click.option("--studies", type=click.Path(path_type=Path), default=Path("studies"), show_default=True,
              help="Folder of the studies; one that was stopped goes on.")  # fmt: skip
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the configuration here too.")
@format_option
@click.option("--quiet", "-q", is_flag=True, help="No line per trial.")
def command(
    config: Path,
    model: str,
    trials: int,
    time_limit: float | None,
    objective: str,
    inner: int,
    outer: int | None,
    vary: tuple[str, ...],
    prune: bool,
    data: Path | None,
    preset: str | None,
    changes: tuple[str, ...],
    jobs: int,
    studies: Path,
    output: Path | None,
    form: str,
    quiet: bool,
) -> None:
    """Search the parameters of one model of CONFIG; write a configuration to run.

    What is reported was not chosen on the events that score it. Stopped studies go on: call the same command again.
    """
    from higgsbench.api import load_run_config
    from higgsbench.cli.one_line import one_line
    from higgsbench.tune.nested import tune
    from higgsbench.tune.study import TuneSettings

    if output is not None:
        _check_target(output)
    settings = TuneSettings(model, trials, time_limit, objective, inner, outer, prune, vary, jobs)
    loaded = load_run_config(config, data=data, settings=changes, preset=preset)

    def say(text: str) -> None:
        if not quiet:
            click.echo(one_line(text), err=True)

    try:
        result = tune(loaded, settings, studies, say)
    except KeyboardInterrupt:
        click.echo("Interrupted: finished trials are stored; call the same command again to go on.", err=True)
        raise click.exceptions.Exit(130) from None
    if output is not None:
        _copy(result.config_file, output)
    if form == "json":
        echo_json(result.as_json())
    else:
        _show(result, console(), config, output)


def _check_target(output: Path) -> None:
    from higgsbench.errors import StoreError

    if output.is_dir():
        raise StoreError(f"{output}: --output is a folder; name a file, e.g. {output / 'tuned.yaml'}")
    if not output.absolute().parent.is_dir():
        raise StoreError(f"{output}: there is no folder {output.parent}")


def _copy(source: Path, target: Path) -> None:
    from higgsbench.errors import StoreError
    from higgsbench.files import write_bytes

    try:
        write_bytes(target, source.read_bytes())
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror}") from error


def _show(result: TuneResult, screen: Console, config: Path, output: Path | None) -> None:
    from higgsbench.runs.durations import format_duration

    _show_trials(result, screen)
    if result.importances:
        shares = ", ".join(f"{name} {100 * share:.0f}%" for name, share in result.importances.items())
        screen.print(f"Importance: {shares}", soft_wrap=True)
    if result.nested is None:
        screen.print("No nested score (--outer 0, or no time): the best value above is optimistic.")
    else:
        _show_nested(result, screen)
    taken = format_duration(result.seconds)
    lines = (
        f"{len(result.trials)} trials in {taken}, kept in {result.folder}; more --trials go on there.",
        _advice(result, config, output or result.config_file),
    )
    for line in lines:
        screen.print(line, soft_wrap=True, markup=False)


def _advice(result: TuneResult, config: Path, tuned: Path) -> str:
    """Say what to do next: nothing, where nothing better than the beginning was found."""
    if not result.improved:
        return f"Nothing better than the parameters of {config} was found: {tuned} has the same ones."
    if result.nested is not None and not result.nested.better(result.objective):
        return f"On the held-out folds {tuned} is not better than {config}: more trials may help, or nothing."
    return f"Next:  higgsbench run {tuned}"


def _show_trials(result: TuneResult, screen: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    # Best first: sorted by distance from the best value, whatever the direction.
    best = result.best.value or 0.0
    complete = sorted((r for r in result.trials if r.value is not None), key=lambda r: abs((r.value or 0.0) - best))
    table = Table(header_style="bold", title=f"Best trials of {escape(result.label)}", title_justify="left")
    table.add_column("trial")
    for record in complete[:_SHOWN]:
        table.add_column(str(record.number), justify="right")
    table.add_row(result.objective, *(f"{record.value:.6g}" for record in complete[:_SHOWN]))
    table.add_row("seconds", *(f"{record.seconds:.1f}" for record in complete[:_SHOWN]), end_section=True)
    for name in result.best.values:
        table.add_row(name, *(_cell(record.values.get(name)) for record in complete[:_SHOWN]))
    screen.print(table)


def _show_nested(result: TuneResult, screen: Console) -> None:
    from rich.table import Table

    found = result.nested
    if found is None:
        return
    title = f"On {len(found.chosen)} held-out folds of the run, with standard errors"
    table = Table(header_style="bold", title=title, title_justify="left")
    table.add_column("parameters", no_wrap=True)
    for heading in ("log-loss x10³", "wAUC", "AMS cv"):
        table.add_column(heading, justify="right")
    lines: tuple[tuple[str, dict[str, Measured], str], ...] = (
        ("of the beginning", found.start, ""),
        ("nested (chosen without fold)", found.nested, ""),
        ("final (chosen with it)", found.final, ""),
        ("gain: nested - beginning", found.gain, "+"),
        ("optimism: final - nested", found.optimism, "+"),
    )
    for name, values, sign in lines:
        loss, auc, ams = values["log_loss"], values["auc"], values["ams"]
        table.add_row(
            name,
            f"{1e3 * loss.value:{sign}.3f} ± {1e3 * loss.se:.3f}",
            f"{auc.value:{sign}.4f} ± {auc.se:.4f}",
            f"{ams.value:{sign}.3f} ± {ams.se:.3f}",
        )
    screen.print(table)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
