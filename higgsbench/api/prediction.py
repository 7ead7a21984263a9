"""New events through stored runs: predictions, submissions and their scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars

from higgsbench.api.arguments import checked_arguments
from higgsbench.api.running import folder_of
from higgsbench.challenge import SubmissionScore, events_to_score, read_submission, score_submission, submission_table
from higgsbench.events import Events, load_events
from higgsbench.runs.environment import available_cores
from higgsbench.runs.predict import default_subsets, predictions
from higgsbench.runs.predictor import open_predictor
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.runs.result import RunResult

__all__ = ["predict", "score", "submission"]


@checked_arguments
def predict(
    run: str | Path | RunResult,
    data: str | Path,
    *,
    model: str | None = None,
    jobs: int | None = None,
    subsets: Sequence[str] | None = None,
) -> polars.DataFrame:
    """Score new events with the stored models of a run, as `higgsbench predict` does.

    Args:
        run: the run's folder.
        data: event file in the layout the run was trained on; it needs no labels.
        model: row to take; the stack when None, or the only row.
        jobs: parts scored at a time; all cores by default.
        subsets: keep only events of these subsets (KaggleSet); all when None.

    Returns:
        EventId, score (log-odds in physical normalisation) and selected (by the frozen cut), in the order of the file.

    Raises:
        HiggsbenchError: if the run has no usable models, or the data breaks a rule.
    """
    predictor = open_predictor(folder_of(run), model)
    return polars.concat(list(predictions(predictor, data, jobs or available_cores(), subsets)))


@checked_arguments
def submission(
    run: str | Path | RunResult,
    data: str | Path,
    *,
    model: str | None = None,
    jobs: int | None = None,
    subsets: Sequence[str] | None = None,
) -> polars.DataFrame:
    """Make a submission in the challenge's format, as `higgsbench submit` does; arguments as for `predict`.

    Without `subsets`, the events are the test sets b and v where the file has them, otherwise all.

    Returns:
        EventId, RankOrder and Class, in the order of the file.
    """
    predictor = open_predictor(folder_of(run), model)
    chosen = subsets or default_subsets(data, predictor.schema)
    found = polars.concat(list(predictions(predictor, data, jobs or available_cores(), chosen)))
    return submission_table(found["EventId"].to_numpy(), found["score"].to_numpy(), predictor.threshold)


@checked_arguments
def score(
    submission: str | Path | polars.DataFrame,
    truth: str | Path | Events,
    *,
    subsets: Sequence[str] | None = None,
    totals: tuple[float, float] | None = None,
    b_reg: float = B_REG,
) -> list[SubmissionScore]:
    """Check a submission as strictly as the challenge did and score it, as `higgsbench score` does.

    Args:
        submission: file, or a table as `submission` returns it.
        truth: labelled events, or the file that holds them.
        subsets: subsets that are scored; b and v where the truth has them when None, otherwise all events.
        totals: reference totals (N_s, N_b); those of the truth when None.
        b_reg: regularisation of the background.

    Returns:
        The score on all scored events, then on each of their subsets.

    Raises:
        DataError: naming what is wrong with the submission, or that it is not of these events.
    """
    events = truth if isinstance(truth, Events) else load_events(truth)
    file = submission if isinstance(submission, polars.DataFrame) else Path(submission)
    given = read_submission(file, events_to_score(events, subsets).event_id)
    return score_submission(given, events, subsets=subsets, totals=totals, b_reg=b_reg)
