"""`higgsbench export mlflow`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command(
    "mlflow",
    epilog="Example:  higgsbench export mlflow results/all-1a2b3c4d --tracking-uri sqlite:///mlflow.db",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--tracking-uri", metavar="URI",
              help="MLflow server or store; the environment variable MLFLOW_TRACKING_URI otherwise.")  # fmt: skip
@click.option("--experiment", default="higgsbench", show_default=True, help="Experiment to log to.")
@click.option("--file", "files", multiple=True, type=click.Path(path_type=Path),
              help="Log this file too, e.g. a report; may be repeated.")  # fmt: skip
def command(run: Path, tracking_uri: str | None, experiment: str, files: tuple[Path, ...]) -> None:
    """Log RUN to MLflow's tracking (extra `mlflow`): one run, with a nested run for each row.

    Settings, metrics with their errors, the leaderboard, configuration and pictures are logged; fitted models and
    scores of single events are not. Nothing is sent anywhere but to the URI.
    """
    from higgsbench.export import export_mlflow

    done = export_mlflow(run, tracking_uri=tracking_uri, experiment=experiment, files=files)
    what = f"{done.rows} rows logged" if done.new else f"its {done.rows} rows had been logged before"
    click.echo(f"{run}: {what}, experiment {done.experiment!r}, run {done.run_id} at {done.uri}")
