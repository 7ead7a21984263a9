"""scikit-learn estimators that take on purpose what the library warns of."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["BlockwiseScaler", "FlaggedMedians", "NormalQuantiles", "ShortMLPClassifier", "SmoothClip"]

BLOCK = 1 << 14
"""Events whose moments are taken together; more would only need more memory."""


_LOOK = 32
"""Batches between two looks at the weights of a network."""

_NOTHING = 1e-30
"""No weight, nor change of one, that could be seen in a score of single precision."""


class ShortMLPClassifier(MLPClassifier):  # type: ignore[misc]  # scikit-learn ships no types
    """`MLPClassifier` whose `max_iter` is a number of epochs chosen on purpose.

    Stopping early is the regularisation that works on these events; scikit-learn warns of it as non-convergence.

    Weights that the penalty drives to nothing are set to zero on the way. Below 1e-38 they would be denormal numbers,
    with which processors calculate many times slower: on 400,000 events the third epoch took five times the first.
    """

    _batches = 0

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Fit for `max_iter` epochs; arguments and result as in scikit-learn."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().fit(X, y, sample_weight=sample_weight)

    def _backprop(self, *args: Any, **kwargs: Any) -> Any:
        """Look at the weights now and then; the library's own step for each batch, whatever its arguments."""
        self._batches += 1
        if self._batches % _LOOK == 0:
            for values in (*self.coefs_, *getattr(self._optimizer, "ms", ())):
                values[np.abs(values) < _NOTHING] = 0.0
        return super()._backprop(*args, **kwargs)


class NormalQuantiles(QuantileTransformer):  # type: ignore[misc]  # scikit-learn ships no types
    """`QuantileTransformer` to a normal distribution; fewer events than quantiles (a small jet group) are fine.

    Without a copy `transform` overwrites its input: right behind a step that has made a table for it alone, only there.
    """

    def __init__(
        self, *, n_quantiles: int = 200, subsample: int = 50_000, random_state: int | None = None, copy: bool = True
    ) -> None:
        super().__init__(
            n_quantiles=n_quantiles,
            output_distribution="normal",
            subsample=subsample,
            random_state=random_state,
            copy=copy,
        )

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Any:
        """Fit; arguments and result as in scikit-learn."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="n_quantiles", category=UserWarning)
            return super().fit(X, y)


class BlockwiseScaler(StandardScaler):  # type: ignore[misc]  # scikit-learn ships no types
    """`StandardScaler` that learns its moments block by block and scales in place.

    The library's takes them from several copies of the whole table in double precision, which together are the peak of
    a network's training. In place is right behind a step that has made a table of its own, and only there.
    """

    def __init__(self) -> None:
        super().__init__(copy=False)

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> BlockwiseScaler:
        """Learn mean and standard deviation of each column of X (n, p)."""
        X_ = validate_data(self, X, dtype=[np.float64, np.float32])
        self._reset()
        for first in range(0, len(X_), BLOCK):
            self.partial_fit(X_[first : first + BLOCK])
        return self


class FlaggedMedians(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Put medians in the place of NaN and say behind the columns, as 0 and 1, where that was done.

    What `SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)` gives, value by value, without
    its masked copies of the table, which take seven times its memory.

    Attributes:
        medians_: (p,) what is put in; 0 for a column without any value.
        flagged_: indices of the columns with missing values in `fit`; only these get a flag.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> FlaggedMedians:
        """Learn the medians of the columns of X (n, p)."""
        X_ = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        self.medians_ = np.zeros(X_.shape[1], dtype=X_.dtype)
        missing = np.zeros(X_.shape[1], dtype=np.bool_)
        for at, column in enumerate(X_.T):
            present = column[~np.isnan(column)]
            missing[at] = present.size < column.size
            if present.size:
                self.medians_[at] = np.median(present)
        self.flagged_ = np.flatnonzero(missing)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the filled columns and the flags, shape (n, p + flags)."""
        check_is_fitted(self)
        X_ = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", reset=False)
        out = np.empty((X_.shape[0], X_.shape[1] + self.flagged_.size), dtype=X_.dtype)
        for source, target, median in zip(X_.T, out.T, self.medians_, strict=False):
            np.copyto(target, source)
            np.copyto(target, median, where=np.isnan(source))
        for at, flagged in enumerate(self.flagged_, start=X_.shape[1]):
            out[:, at] = np.isnan(X_[:, flagged])
        return out

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Return the names of the columns and of the flags."""
        names = _check_feature_names_in(self, input_features)
        return np.concatenate([names, [f"missing_{names[i]}" for i in self.flagged_]]).astype(object)


class SmoothClip(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # ships no types
    """Centre and scale each column robustly, then bend the tails: z / sqrt(1 + (z / limit)^2) stays within the limit.

    Columns of which a half is one value (a flag, a quantity that only events with jets have) are scaled by wider
    quantiles or, in the end, their standard deviation, for the distance of their quartiles is 0.

    Args:
        limit: largest magnitude that comes out.

    Attributes:
        center_: (p,) medians.
        scale_: (p,) widths, 1 where a column is constant.
    """

    def __init__(self, limit: float = 3.0) -> None:
        self.limit = limit

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> SmoothClip:
        """Learn centre and width of each column of X (n, p)."""
        X_ = validate_data(self, X, dtype=[np.float64, np.float32])
        # Column by column here and below, since a table in double precision is twice the input and more are needed.
        quantiles = [np.quantile(column, (0.05, 0.25, 0.5, 0.75, 0.95)) for column in X_.T]
        lowest, low, self.center_, high, highest = np.transpose(quantiles)
        # Distances of quantiles in units of a normal distribution's standard deviation.
        width = np.where(high > low, (high - low) / 1.349, (highest - lowest) / 3.290)
        width = np.where(width > 0.0, width, [column.std(dtype=np.float64) for column in X_.T])
        # Distances over a denormal width would overflow.
        self.scale_: NDArray[np.float64] = np.where(width > 1e-100, width, 1.0)
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the bent columns (n, p)."""
        check_is_fitted(self)
        X_ = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        bent = np.empty(X_.shape)
        for column, out, center, scale in zip(X_.T, bent.T, self.center_, self.scale_, strict=True):
            z = (column - center) / scale
            out[:] = z / np.hypot(1.0, z / self.limit)
        return bent
