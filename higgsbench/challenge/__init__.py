"""Floor 2: the challenge's submission files, written, read strictly and scored."""

from higgsbench.challenge.submission import (
    TEST_SETS,
    Submission,
    SubmissionScore,
    events_to_score,
    read_submission,
    score_submission,
    submission_table,
)

__all__ = [
    "TEST_SETS",
    "Submission",
    "SubmissionScore",
    "events_to_score",
    "read_submission",
    "score_submission",
    "submission_table",
]
