"""`higgsbench run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from higgsbench.runs.result import RunResult

__all__ = ["command"]


@click.command(
    "run",
    epilog="Example:  higgsbench run configs/all.yaml --data training.csv --only xgboost --set folds=3",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Event file to train on, instead of the configuration's.")
@click.option("--test", type=click.Path(path_type=Path), help="Separate file of held-out events.")
@click.option("--only", multiple=True, metavar="MODEL", help="Keep only this model or label; may be repeated.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one key, e.g. cut.rule=max.")
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="Worker processes; all cores by default.")
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
    jobs: int | None,
    output: Path,
    no_models: bool,
    quiet: bool,
) -> None:
    """Train, stack and cut as CONFIG says; show the leaderboard.

    A run that was interrupted goes on where it stopped: call the same command again.
    """
    from rich.console import Console

    from higgsbench.api import load_run_config
    from higgsbench.cli.progress import LiveProgress, PlainProgress
    from higgsbench.leaderboard import Leaderboard
    from higgsbench.leaderboard.render import output_console, show
    from higgsbench.runs.environment import available_cores
    from higgsbench.runs.result import Silent
    from higgsbench.runs.run import run_config

    settings = (*settings, "store_models=false") if no_models else settings
    loaded = load_run_config(config, data=data, test=test, only=only, settings=settings)
    console = output_console()
    if quiet:
        result = run_config(loaded, output, jobs or available_cores(), Silent())
    else:
        messages = Console(stderr=not console.is_terminal)
        progress = LiveProgress(messages) if messages.is_terminal else PlainProgress(messages)
        try:
            with progress:
                result = run_config(loaded, output, jobs or available_cores(), progress)
        except KeyboardInterrupt:
            click.echo(
                f"Interrupted: {progress.done} of {progress.total} units are stored in {progress.folder or output}; "
                "call the same command again to go on.",
                err=True,
            )
            raise click.exceptions.Exit(130) from None
    show(Leaderboard.read(result.folder), console)
    console.print(f"Run stored in {result.folder}", highlight=False, markup=False, soft_wrap=True)
    _report_failures(result)


def _report_failures(result: RunResult) -> None:
    for failure in result.failures:
        click.echo(f"Failed: {failure.row}: {failure.message} (traceback in {failure.path})", err=True)
    if result.failures:
        raise click.exceptions.Exit(1)
