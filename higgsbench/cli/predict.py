"""`higgsbench predict`."""

from __future__ import annotations

from pathlib import Path

import click

from higgsbench.cli.data_output import must_differ
from higgsbench.cli.file_name import FILE_NAME
from higgsbench.cli.scoring_options import jobs_option, model_option, reported, split_names, subset_option

__all__ = ["command"]


@click.command("predict", epilog="Example:  higgsbench predict results/all-1a2b3c4d test.csv -o scores.parquet")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", type=FILE_NAME)
@click.option("--output", "-o", required=True, metavar="FILE", type=click.Path(path_type=Path),
              help="Table to write: .parquet, .csv or .csv.gz; - for CSV on standard output.")  # fmt: skip
@model_option
@subset_option("all events by default")
@jobs_option
def command(run: Path, data: Path, output: Path, model: str | None, subset: str | None, jobs: int | None) -> None:
    """Score the events of DATA with the stored models of RUN.

    RUN is the folder that `higgsbench run` names at its end; DATA an event file in the layout the run was trained on,
    labelled or not. The table has EventId, score (log-odds in physical normalisation) and selected (score at or above
    the frozen cut). Runs of other people are safe to use: nothing in them is executed.
    """
    from higgsbench.runs.environment import available_cores
    from higgsbench.runs.predict import check_ending, predictions, write_scores
    from higgsbench.runs.predictor import open_predictor, training_events

    check_ending(output)
    must_differ(data, output)
    predictor = open_predictor(run, model)
    parts = predictions(predictor, data, jobs or available_cores(), split_names(subset))
    write_scores(reported(parts, data, training_events(run, predictor.schema)), output)
