"""The score of a submission: AMS of its selection on events whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.challenge.submission import refuse_missing
from higgsbench.errors import DataError
from higgsbench.metrics import evaluation_weights, roc_auc
from higgsbench.metrics.uncertainty import ams_estimate
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.challenge.submission import Submission
    from higgsbench.events import Events

__all__ = ["TEST_SETS", "SubmissionScore", "events_to_score", "score_submission"]

TEST_SETS = ("b", "v")
"""Subsets that are scored when nothing else is said: the challenge's public and private test events."""

_NAMES = {"b": "public", "v": "private"}


@dataclass(frozen=True)
class SubmissionScore:
    """What a submission comes to on one set of events.

    Attributes:
        name: `all`, `public`, `private`, or the name of another subset.
        events: number of events.
        selected: how many of them are selected.
        s: selected signal, b: selected background, expected events.
        ams: the score; se: its standard error from the finite number of simulated events.
        auc: weighted ROC AUC of the rank order.
    """

    name: str
    events: int
    selected: int
    s: float
    b: float
    ams: float
    se: float
    auc: float


def score_submission(
    submission: Submission,
    truth: Events,
    *,
    subsets: Sequence[str] | None = None,
    totals: tuple[float, float] | None = None,
    b_reg: float = B_REG,
) -> list[SubmissionScore]:
    """Score a submission as the leaderboard scores a row on its held-out events.

    In each scored set, weights are rescaled per class to the reference totals.

    Args:
        submission: the submission.
        truth: labelled events. Where they carry subsets (KaggleSet), those of the sets `b` and `v` are the test events.
        subsets: subsets that are scored instead.
        totals: reference totals (N_s, N_b); those of the truth's layout or content when None.
        b_reg: regularisation of the background.

    Returns:
        The score on all test events, then on each of their subsets that has both classes, if there are several.

    Raises:
        DataError: if the events of the submission are not exactly the test events, or these have one class only.
    """
    if not truth.labelled:
        raise DataError(f"{truth.source}: no column {truth.schema.label}: without the truth nothing can be scored")
    reference = truth.totals() if totals is None else totals
    tested = events_to_score(truth, subsets)
    rows = _rows_of(submission, tested)
    y, weight, subset = tested.y[rows], tested.weight[rows], tested.subset
    parts: dict[str, NDArray[np.bool_]] = {"all": np.ones(y.size, dtype=np.bool_)}
    names = [] if subset is None else sorted(set(subset.tolist()))
    if subset is not None and len(names) > 1:
        parts |= {_NAMES.get(name, name): subset[rows] == name for name in names}
    scores = []
    for name, members in parts.items():
        if not (y[members].any() and (~y[members]).any()):
            if name != "all":  # too few events of a subset; the others are scored all the same
                continue
            raise DataError(f"{truth.source}: the {int(members.sum())} events of {name!r} lack signal or background")
        w = evaluation_weights(y[members], weight[members], *reference)
        selected = submission.selected[members]
        estimate, s, b = ams_estimate(y[members], selected, w, b_reg)
        auc = roc_auc(y[members], submission.rank[members].astype(np.float64), w).value
        count = int(selected.sum())
        scores.append(SubmissionScore(name, int(members.sum()), count, s, b, estimate.value, estimate.se, auc))
    return scores


def events_to_score(truth: Events, subsets: Sequence[str] | None = None) -> Events:
    """Keep the events that are to be scored; arguments as for `score_submission`.

    Raises:
        DataError: if there is no such subset, or no events of it.
    """
    if subsets is None:
        if truth.subset is None:
            return truth
        chosen = truth.in_subsets(TEST_SETS)
        # A file without test sets, such as a part of the training set put aside, is scored as a whole.
        return truth.take(chosen) if chosen.any() else truth
    for name in subsets:
        if truth.schema.subset_values and name not in truth.schema.subset_values:
            raise DataError(f"--subset: no set named {name!r}; sets are {', '.join(truth.schema.subset_values)}")
    chosen = truth.in_subsets(subsets)
    if not chosen.any():
        raise DataError(f"{truth.source}: no events of the sets {', '.join(subsets)}")
    return truth.take(chosen)


def _rows_of(submission: Submission, truth: Events) -> NDArray[np.int64]:
    """Return, for each line of the submission, the position of its event in the truth."""
    known = truth.event_id
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], submission.event_id), known.size - 1)
    rows = order[place]
    foreign = known[rows] != submission.event_id
    if foreign.any():
        line = int(np.argmax(foreign))
        more = int(foreign.sum()) - 1
        raise DataError(
            f"{submission.source}: line {line + 2}, column EventId: {submission.event_id[line]} is not one of the "
            f"{known.size} test events of {truth.source}{f'; nor are {more} others' if more else ''}"
        )
    refuse_missing(submission.event_id, known, submission.source)
    if rows.size != known.size:
        raise DataError(f"{submission.source}: {rows.size} lines, but {truth.source} has {known.size} test events")
    return rows
