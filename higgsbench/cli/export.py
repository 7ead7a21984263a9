"""`higgsbench export`: export a stored run to other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from higgsbench.cli import options as opt

_model_options = opt.added(
    click.option("--model", metavar="NAME", help="Row to export, e.g. 'xgboost [jets]'; the stack by default, or the"
                 " only row."),
    click.option("--fold", type=click.IntRange(min=0), help="Export only the models that did not see this fold; all by"
                 " default."),
    opt.results_option,
)  # fmt: skip


@opt.command("mlflow", "export mlflow results/all-1a2b3c4d --tracking-uri sqlite:///mlflow.db")
@click.argument("run", type=opt.PATH)
@opt.results_option
@click.option("--tracking-uri", metavar="URI",
              help="MLflow server or store; by default, the environment variable MLFLOW_TRACKING_URI.")  # fmt: skip
@click.option("--experiment", default="higgsbench", show_default=True, help="Experiment to log to.")
@click.option("--file", "files", multiple=True, type=opt.PATH,
              help="Log this file too, e.g. a report; may be repeated.")  # fmt: skip
def mlflow(run: Path, **options: Any) -> None:
    """Log RUN to MLflow's tracking (extra `mlflow`): one run, with a nested run for each row.

    It logs settings, metrics with their errors, the leaderboard, configuration and figures, but not fitted models or
    scores of single events. It sends data only to the URI.
    """
    from higgsbench.export import export_mlflow

    done = export_mlflow(run, **options)
    what = f"{done.rows} rows logged" if done.new else f"its {done.rows} rows had been logged before"
    click.echo(f"{run}: {what}, experiment {done.experiment!r}, run {done.run_id} at {done.uri}")


@opt.command("onnx", "export onnx results/all-1a2b3c4d -o model.onnx")
@click.argument("run", type=opt.PATH)
@click.option("--output", "-o", required=True, metavar="FILE", type=opt.PATH, help="File to write, .onnx.")
@_model_options
def onnx(run: Path, output: Path, **options: Any) -> None:
    """Write the models of RUN as one ONNX graph, which onnxruntime evaluates in C++ (extra `onnx`).

    Input: `features`, float32 (n, p); the metadata names the columns. Outputs: `log_odds`, float32 (n), in physical
    normalisation, and `selected`, bool (n), at or above the frozen cut. The graph includes everything in between.
    """
    from higgsbench.export import export_onnx

    file = export_onnx(run, output, **options)
    click.echo(f"Wrote {file} ({opt.file_size(file)})", err=True)


@opt.command("native", "export native results/all-1a2b3c4d -o deploy")
@click.argument("run", type=opt.PATH)
@click.option("--output", "-o", required=True, metavar="FOLDER", type=opt.PATH, help="New folder to write.")
@_model_options
def native(run: Path, output: Path, **options: Any) -> None:
    """Write the boosted trees of RUN as files of their libraries; combine.json says how to combine them."""
    from higgsbench.export import export_native

    folder = export_native(run, output, **options)
    click.echo(f"Wrote {folder} ({opt.quantity(len(list(folder.iterdir())) - 1, 'model file')})", err=True)
