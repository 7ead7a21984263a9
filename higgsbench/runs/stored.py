"""What is read back of a finished unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["StoredModel", "StoredUnit"]


@dataclass(frozen=True)
class StoredModel:
    """What a marker says of its unit's fitted model.

    Attributes:
        checksum: SHA-256 of the file, or None where the model has no form that is safe to read.
        reason: why there is no file, otherwise empty.
    """

    checksum: str | None
    reason: str = ""


@dataclass(frozen=True)
class StoredUnit:
    """A finished unit as read back.

    Attributes:
        key: identity.
        event_id: events of the held-out fold.
        score: their log-odds.
        test_event_id: events of the test set, or empty.
        test_score: their log-odds.
        fit_seconds: wall time of the fit.
        predict_us: prediction time per event in microseconds.
        peak_mb: peak memory of the worker.
        model: what is stored of the fitted model, or None where none was asked for.
    """

    key: str
    event_id: NDArray[np.int64]
    score: NDArray[np.float64]
    test_event_id: NDArray[np.int64]
    test_score: NDArray[np.float64]
    fit_seconds: float
    predict_us: float
    peak_mb: float
    model: StoredModel | None

    def without_scores(self) -> StoredUnit:
        """Return what is left to know when the scores have gone into their row; they are most of a run's memory."""
        none = self.score[:0].copy()
        nobody = self.event_id[:0].copy()
        return replace(self, event_id=nobody, score=none, test_event_id=nobody, test_score=none)
