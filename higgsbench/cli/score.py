"""`higgsbench score`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from higgsbench.cli.data_output import echo_json
from higgsbench.cli.file_name import FILE_NAME
from higgsbench.cli.scoring_options import split_names, subset_option

__all__ = ["command"]


@click.command("score", epilog="Example:  higgsbench score submission.csv atlas-higgs-challenge-2014-v2.csv.gz")
@click.argument("submission", type=FILE_NAME)
@click.argument("truth", type=FILE_NAME)
@subset_option("by default b and v where TRUTH has them, otherwise all events")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="json keeps full precision.")  # fmt: skip
@click.option("--schema", metavar="NAME|FILE", help="Layout of TRUTH, as for `explore`; the challenge's by default.")
@click.option("--n-s", type=float, help="Expected signal events, instead of the layout's.")
@click.option("--n-b", type=float, help="Expected background events, instead of the layout's.")
@click.option(
    "--b-reg",
    type=click.FloatRange(min=0.0, min_open=True),
    default=10.0,
    show_default=True,
    help="Regularisation of the background.",
)
def command(
    submission: Path,
    truth: Path,
    subset: str | None,
    form: str,
    schema: str | None,
    n_s: float | None,
    n_b: float | None,
    b_reg: float,
) -> None:
    """Check SUBMISSION as strictly as the challenge did, and print its AMS on the events of TRUTH.

    TRUTH is a labelled event file. Where it names subsets (KaggleSet), the submission must have exactly its events of b
    (public) and v (private), which are scored together and apart; otherwise exactly all its events.
    """
    from higgsbench.challenge import events_to_score, read_submission, score_submission
    from higgsbench.config.model import named_schema
    from higgsbench.events import load_events
    from higgsbench.schema import ATLAS_HIGGS

    events = load_events(truth, ATLAS_HIGGS if schema is None else named_schema(schema))
    given = read_submission(submission, events_to_score(events, split_names(subset)).event_id)
    totals = None
    if n_s is not None or n_b is not None:
        own = events.totals()
        totals = (own[0] if n_s is None else n_s, own[1] if n_b is None else n_b)
    scores = score_submission(given, events, subsets=split_names(subset), totals=totals, b_reg=b_reg)
    if form == "json":
        echo_json([dataclasses.asdict(score) for score in scores])
        return
    for score in scores:
        click.echo(
            f"{score.name}: AMS {score.ams:.5f} ± {score.se:.5f}, {score.selected:,} of {score.events:,} events "
            f"selected, s {score.s:.1f}, b {score.b:.1f}, wAUC of the rank order {score.auc:.5f}"
        )
