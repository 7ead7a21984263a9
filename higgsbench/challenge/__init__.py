"""Floor 2: the challenge's submission files, written, read strictly and scored."""

from higgsbench.challenge.scoring import TEST_SETS, SubmissionScore, events_to_score, score_submission
from higgsbench.challenge.submission import Submission, read_submission, submission_table

__all__ = [
    "TEST_SETS",
    "Submission",
    "SubmissionScore",
    "events_to_score",
    "read_submission",
    "score_submission",
    "submission_table",
]
