"""`higgsbench submit`."""

from __future__ import annotations

from pathlib import Path

import click

from higgsbench.cli.data_output import must_differ
from higgsbench.cli.file_name import FILE_NAME
from higgsbench.cli.scoring_options import jobs_option, model_option, reported, split_names, subset_option

__all__ = ["command"]


@click.command("submit", epilog="Example:  higgsbench submit results/all-1a2b3c4d test.csv -o submission.csv")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("test", type=FILE_NAME)
@click.option("--output", "-o", required=True, metavar="FILE", type=click.Path(path_type=Path),
              help="Submission to write, .csv or .csv.gz; - for standard output.")  # fmt: skip
@model_option
@subset_option("by default b and v where TEST has them, otherwise all events")
@jobs_option
def command(run: Path, test: Path, output: Path, model: str | None, subset: str | None, jobs: int | None) -> None:
    """Write a submission for the events of TEST in the challenge's format: EventId, RankOrder, Class.

    RankOrder runs from 1 to n, n for the event most like signal; Class is s for events at or above the run's frozen
    cut. Tied scores are ranked by EventId.
    """
    import polars as pl

    from higgsbench.challenge import submission_table
    from higgsbench.runs.environment import available_cores
    from higgsbench.runs.predict import check_ending, default_subsets, predictions, write_scores
    from higgsbench.runs.predictor import open_predictor, training_events

    check_ending(output, text_only=True)
    must_differ(test, output)
    predictor = open_predictor(run, model)
    subsets = split_names(subset) or default_subsets(test, predictor.schema)
    parts = predictions(predictor, test, jobs or available_cores(), subsets)
    scores = pl.concat(list(reported(parts, test, training_events(run, predictor.schema))))
    table = submission_table(scores["EventId"].to_numpy(), scores["score"].to_numpy(), predictor.threshold)
    write_scores(iter([table]), output)
    selected = int(scores["selected"].sum())
    click.echo(f"{output}: {table.height:,} events, {selected:,} of them s, by {predictor.name}", err=True)
