"""What the adapters of AutoML frameworks share: labels, weights, a folder that goes away."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from higgsbench.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["PeerClassifier"]


class PeerClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A framework that searches until the clock stops it, as a scikit-learn binary classifier.

    Subclasses implement `_search` and `_signal_probability`. Since the clock decides how far a search gets, the same
    seed gives similar scores, not the same ones.

    Attributes:
        classes_: the two labels, sorted.
        n_features_in_: number of columns of X.
    """

    framework = "the framework"
    time_limit: float
    classes_: NDArray[Any]
    n_features_in_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> PeerClassifier:
        """Search for at most about `time_limit` seconds on X (n, p) of floats or NaN, y (n,), sample_weight (n,).

        Equal weights are handed over as no weights, which is the same objective and the framework's common path.

        Raises:
            ModelError: if there are not two classes, or no model was finished in time.
        """
        X_, y_ = np.asarray(X), np.asarray(y)
        self.classes_, coded = np.unique(y_, return_inverse=True)
        if self.classes_.size != 2:
            raise ModelError(f"{self.framework} needs two classes, got {self.classes_.size}")
        self.n_features_in_ = X_.shape[1]
        w = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if w is not None and np.all(w == w[0]):
            w = None
        with (
            tempfile.TemporaryDirectory(prefix="higgsbench-peer-", ignore_cleanup_errors=True) as folder,
            _their_warnings(),
        ):
            self._search(X_, coded.astype(np.int64), w, folder)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (n, 2) of `classes_`."""
        check_is_fitted(self)
        with _their_warnings():
            signal = np.asarray(self._signal_probability(np.asarray(X)), dtype=np.float64)
        return np.column_stack([1.0 - signal, signal])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable class of each event, shape (n,)."""
        chosen: NDArray[Any] = self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(np.intp)]
        return chosen

    def _search(self, X: NDArray[Any], y: NDArray[np.int64], weight: NDArray[np.float64] | None, folder: str) -> None:
        """Fit on labels 0 and 1, writing nowhere but into the folder, which is removed afterwards."""
        raise NotImplementedError

    def _signal_probability(self, X: NDArray[Any]) -> Any:
        """Return the probability of label 1, shape (n,)."""
        raise NotImplementedError

    def _nothing_found(self) -> ModelError:
        return ModelError(f"{self.framework} finished no model in {self.time_limit:g} s; raise its time_limit")


@contextlib.contextmanager
def _their_warnings() -> Iterator[None]:
    """Leave warnings of member models to the framework, for the length of its search.

    A search tries dozens of models of other libraries and takes their warnings for granted; were these errors, as in a
    strict test run, members would drop out of the search without a word. What fails as a whole still raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
