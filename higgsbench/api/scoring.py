"""Scores of new events by the stored models of a run, submissions, and the score of a submission."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars

from higgsbench.api import ANYTHING, Count, File, Names, Number, Run, Submission, Switch, Text, Totals, Truth, checked
from higgsbench.api.progress import Counter
from higgsbench.errors import HiggsbenchWarning
from higgsbench.events import Events, load_events
from higgsbench.files import printable
from higgsbench.runs import find_run
from higgsbench.schema import ATLAS_HIGGS, B_REG, TableSchema

if TYPE_CHECKING:
    from higgsbench.challenge import SubmissionScore
    from higgsbench.runs.predict import Scorer
    from higgsbench.runs.predictor import FittedRun

_LOG = logging.getLogger("higgsbench")
Progress = Callable[[int], None]


@checked
def predict(
    run: Run,
    data: File,
    *,
    model: Text | None = None,
    jobs: Count | None = None,
    subsets: Names | None = None,
    out_of_fold: Text = "auto",
    members: Switch = False,
    columns: Names = (),
    sample: Text | None = None,
    progress: Annotated[bool | Progress | None, ANYTHING] = None,
    results: File = "results",
) -> polars.DataFrame:
    """Score new events with the stored models of a run, as `higgsbench predict` does.

    Args:
        run: the run.
        data: event file in the layout the run was trained on; it needs no labels.
        model: row to use; the stack when None, or the only row.
        jobs: parts scored at a time; all cores by default.
        subsets: keep only events of these subsets (KaggleSet); all when None.
        out_of_fold: `auto` scores training events with the models that did not see them, and with `folds.by` every
            event with the models of its fold; `never` uses all models for all events; `always` is `auto`, but refuses
            events without a fold.
        members: whether to return the scores of the stack's rows too.
        columns: columns of the file to copy to the table.
        sample: the run's sample that the file belongs to, if no sample lists the file.
        progress: True shows the number of scored events on standard error; a function is called with the number of
            events of each part that is scored.
        results: folder that holds runs.

    Returns:
        EventId, score (log-odds in physical normalisation), selected (by the frozen cut), scores of the members and
        copied columns, in the order of the file.

    Raises:
        HiggsbenchError: if the run has no usable models, or the data breaks a rule.

    Warns:
        HiggsbenchWarning: if models that were trained on some of the events scored them.

    Example:
        >>> scores = higgsbench.predict("latest", "events.csv")
        >>> scores.columns, scores.height
        (['EventId', 'score', 'selected'], 3000)
    """
    from higgsbench.runs.predict import chosen_scorer
    from higgsbench.runs.predictor import FittedRun

    fitted = FittedRun(find_run(run, results))
    scorer = chosen_scorer(fitted, model, out_of_fold, members)
    return polars.concat(list(scored_parts(fitted, scorer, data, jobs, subsets, progress, columns, sample)))


@checked
def submission(
    run: Run,
    data: File,
    *,
    model: Text | None = None,
    jobs: Count | None = None,
    subsets: Names | None = None,
    progress: Annotated[bool | Progress | None, ANYTHING] = None,
    results: File = "results",
) -> polars.DataFrame:
    """Make a submission in the challenge's format, as `higgsbench submit` does.

    Args:
        run: the run.
        data: event file in the layout the run was trained on; it needs no labels.
        model: row to use; the stack when None, or the only row.
        jobs: parts scored at a time; all cores by default.
        subsets: keep only events of these subsets (KaggleSet); when None, the test sets b and v where the file has
            them, otherwise all.
        progress: True shows the number of scored events on standard error; a function is called with the number of
            events of each part that is scored.
        results: folder that holds runs.

    Returns:
        EventId, RankOrder (1 for the most background-like event) and Class, in the order of the file.

    Raises:
        HiggsbenchError: if the run has no usable models, or the data breaks a rule.

    Example:
        >>> higgsbench.submission("latest", "events.csv").write_csv("submission.csv")
    """
    from higgsbench.challenge import submission_table
    from higgsbench.runs.predict import chosen_scorer, default_subsets
    from higgsbench.runs.predictor import FittedRun

    fitted = FittedRun(find_run(run, results))
    scorer = chosen_scorer(fitted, model, "never")
    chosen = subsets or default_subsets(data, scorer.whole.schema)
    found = polars.concat(list(scored_parts(fitted, scorer, data, jobs, chosen, progress)))
    return submission_table(found["EventId"].to_numpy(), found["score"].to_numpy(), scorer.whole.threshold)


def scored_parts(
    fitted: FittedRun, scorer: Scorer, data: str | Path, jobs: int | None, subsets: Sequence[str] | None,
    progress: bool | Progress | None, columns: Sequence[str] = (), sample: str | None = None,
) -> Iterator[polars.DataFrame]:  # fmt: skip
    """Yield scored events part by part; arguments as for `predict`.

    Warns:
        HiggsbenchWarning: at the end, if models that were trained on some of the events scored them.
    """
    from higgsbench.runs.environment import available_cores
    from higgsbench.runs.predict import predictions, training_events

    run, name = fitted.run, printable(data)
    trained = None if scorer.folds else training_events(run, scorer.whole.schema)
    total, folded, seen, failed = 0, 0, 0, 0
    count = Counter(data) if progress is True else progress or None
    own = fitted.content.data.sample_of(str(data), fitted.schema, sample)
    for part, of_folds in predictions(scorer, data, jobs or available_cores(), subsets, columns, own):
        if trained is not None:
            seen += int(part["EventId"].is_in(trained.implode()).sum())
        total, folded, failed = total + part.height, folded + of_folds, failed + part["score"].null_count()
        if count is not None:
            count(part.height)
        yield part
    if isinstance(count, Counter):
        count.end()
    _LOG.info("%s: scored by %s of %s", name, scorer.whole.name, run.name)
    for note in fitted.content.merged if any(row.entry.groups for row in scorer.whole.rows) else ():
        _LOG.info(f"{name}: {note}")
    if fitted.schema.event_id is None and fitted.schema.fold is None and not own.name:
        _LOG.info(f"{name}: the layout has no event numbers, so events that the run was trained on count as new")
    if fitted.schema.ids and fitted.schema.fold is None and not own.name:
        _LOG.info(f"{name}: no sample of the run lists it, so its events count as new; if they are not, use --sample")
    if folded:
        _LOG.info(f"{name}: {folded:,} of {total:,} events scored out of fold, by models that did not see them")
    if failed:
        _LOG.info(f"{name}: {failed:,} of {total:,} events do not pass `data.select`, so they have no score")
    if problem := _trained_on(fitted, scorer, None if trained is None else seen, own.name):
        warnings.warn(f"{name}: {problem}", HiggsbenchWarning, stacklevel=2)


def _trained_on(fitted: FittedRun, scorer: Scorer, seen: int | None, sample: str) -> str:
    """Return a warning if models scored `seen` events that they were trained on (None: not known), or empty text."""
    numbered = fitted.schema.event_id is not None
    if sample and not numbered and fitted.schema.fold is None:
        return (
            f"its events are training events (sample {sample}), but without `data.id` or `folds.by` higgsbench cannot "
            "find their folds; their scores are optimistic: add one of these keys and run the configuration again"
        )
    if scorer.folds or not (seen or seen is None):
        return ""
    if seen is None:
        return (
            "the run's scores.parquet is missing, so higgsbench cannot tell whether the run was trained on these "
            "events; run its configuration again to restore the file"
        )
    return (
        f"{seen:,} of the events have the EventId of events that the run was trained on"
        f"{'' if fitted.content.folds else ', and it has no models of its folds'}; their scores are optimistic: do "
        "not use them to measure performance"
    )


@checked
def score(
    submission: Submission,
    truth: Truth,
    *,
    subsets: Names | None = None,
    totals: Totals | None = None,
    b_reg: Number = B_REG,
    schema: Annotated[str | Path | TableSchema | None, ANYTHING] = None,
) -> list[SubmissionScore]:
    """Check a submission as strictly as the challenge did and score it, as `higgsbench score` does.

    Args:
        submission: file, or a table as `submission` returns it.
        truth: labelled events, or a file of which the columns EventId, Label and Weight suffice.
        subsets: subsets that are scored; b and v where the truth has them when None, otherwise all events.
        totals: reference totals (N_s, N_b); those of the truth where None.
        b_reg: regularisation of the background.
        schema: layout of a truth that is a file: a name, a YAML file with the keys of `data.schema`, or a layout; by
            default the built-in one whose features the file has, otherwise the challenge's.

    Returns:
        The score on all scored events, then on each of their subsets.

    Raises:
        DataError: naming what is wrong, if the submission is malformed or does not belong to these events.

    Example:
        >>> table = higgsbench.submission("latest", "events.csv")
        >>> [part.name for part in higgsbench.score(table, "events.csv")]
        ['all', 'public', 'private']
    """
    from higgsbench.challenge import events_to_score, read_submission, score_submission
    from higgsbench.config.load import named_schema
    from higgsbench.events.check import truth_columns
    from higgsbench.events.samples import recognised

    layout = schema if schema is None or isinstance(schema, TableSchema) else named_schema(str(schema))
    if isinstance(truth, Events):
        events = truth
    else:
        layout = layout or recognised(truth, ATLAS_HIGGS)
        events = load_events(truth, layout, columns=truth_columns(layout))
    file = submission if isinstance(submission, polars.DataFrame) else Path(submission)
    given = read_submission(file, events_to_score(events, subsets).event_id)
    used = None
    if totals is not None:
        own = events.totals() if None in totals else (0.0, 0.0)
        used = (own[0] if totals[0] is None else totals[0], own[1] if totals[1] is None else totals[1])
    return score_submission(given, events, subsets=subsets, totals=used, b_reg=b_reg)
