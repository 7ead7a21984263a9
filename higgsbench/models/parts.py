"""scikit-learn estimators with one change each: less memory, no warning about what is intended, or a bounded range."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BLOCK, WIDE = 1 << 14, 128
"""Events per block of moments, and the number of columns above which blocks are smaller; this affects only memory."""


class ShortMLPClassifier(MLPClassifier):  # type: ignore[misc]  # scikit-learn ships no types
    """`MLPClassifier` whose `max_iter` is a number of epochs chosen on purpose.

    Few epochs are the regularisation that works on these events; scikit-learn would warn that they do not converge.
    A stored or copied model keeps what it needs to predict, not the optimiser and a copy, three times its size.
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Fit for `max_iter` epochs; arguments and result as in scikit-learn. With `warm_start` also a stored model."""
        if self.warm_start and not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().fit(X, y, sample_weight=sample_weight)

    def __getstate__(self) -> dict[str, Any]:
        only_for_training = {"_optimizer", "_random_state", "_best_coefs", "_best_intercepts", "loss_curve_"}
        only_for_training |= {"validation_scores_"}
        return {name: value for name, value in super().__getstate__().items() if name not in only_for_training}


class NormalQuantiles(QuantileTransformer):  # type: ignore[misc]  # scikit-learn ships no types
    """`QuantileTransformer` to a normal distribution; fewer events than quantiles (a small jet group) are fine.

    Without a copy, `transform` overwrites its input. Use that only right after a step that has made its own table.
    """

    def __init__(
        self, *, n_quantiles: int = 200, subsample: int = 50_000, random_state: int | None = None, copy: bool = True
    ) -> None:
        own = {"n_quantiles": n_quantiles, "subsample": subsample, "random_state": random_state, "copy": copy}
        super().__init__(output_distribution="normal", **own)

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Any:
        """Fit; arguments and result as in scikit-learn."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="n_quantiles", category=UserWarning)
            return super().fit(X, y)


class BlockwiseScaler(StandardScaler):  # type: ignore[misc]  # scikit-learn ships no types
    """`StandardScaler` that learns its moments block by block and scales in place.

    The library computes them from several copies of the whole table in double precision, which set the peak memory of
    a network's training. Use it only right after a step that has made its own table.
    """

    def __init__(self) -> None:
        super().__init__(copy=False)

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> BlockwiseScaler:
        """Learn mean and standard deviation of each column of X (n, p)."""
        X_ = validate_data(self, X, dtype=[np.float64, np.float32])
        self._reset()
        block = BLOCK if X_.shape[1] <= WIDE else max(1, BLOCK * WIDE // X_.shape[1])
        for first in range(0, len(X_), block):
            self.partial_fit(X_[first : first + block])
        return self


class FlaggedMedians(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Replace NaN by the median of its column and add flags, 0 or 1, after the columns.

    Categorical columns become one column of 0 and 1 per value, all 0 if it is missing, before the others.

    The same values as `SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)`, without its
    masked copies of the table, which take seven times its memory.

    Args:
        categories: number of values of each of the first columns, which hold the position of a category.

    Attributes:
        medians_: (p,) the medians of the other columns; 0 for a column without any value.
        flagged_: indices of those with missing values in `fit`; only these get a flag.
    """

    categories: tuple[int, ...] = ()  # also in models stored by older versions

    def __init__(self, categories: tuple[int, ...] = ()) -> None:
        self.categories = categories

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> FlaggedMedians:
        """Learn the medians of the columns of X (n, p)."""
        X_ = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        numbers = X_.T[len(self.categories) :]
        self.medians_ = np.zeros(len(numbers), dtype=X_.dtype)
        missing = np.zeros(len(numbers), dtype=np.bool_)
        for at, column in enumerate(numbers):
            present = column[~np.isnan(column)]
            missing[at] = present.size < column.size
            if present.size:
                self.medians_[at] = np.median(present)
        self.flagged_ = np.flatnonzero(missing)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return columns for the categories, the filled columns and the flags, shape (n, values + p + flags)."""
        check_is_fitted(self)
        X_ = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", reset=False)
        numbers, first = X_.T[len(self.categories) :], sum(self.categories)
        out = np.empty((X_.shape[0], first + len(numbers) + self.flagged_.size), dtype=X_.dtype)
        places = [(column, value) for column, count in enumerate(self.categories) for value in range(count)]
        for target, (column, value) in zip(out.T, places, strict=False):
            target[:] = X_[:, column] == value
        for source, target, median in zip(numbers, out.T[first:], self.medians_, strict=False):
            target[:] = np.where(np.isnan(source), median, source)
        for at, flagged in enumerate(self.flagged_, start=first + len(numbers)):
            out[:, at] = np.isnan(numbers[flagged])
        return out


class SmoothClip(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # ships no types
    """Centre and scale each column robustly, then bend the tails: z / sqrt(1 + (z / limit)^2) stays within the limit.

    If half of a column is one value (a flag, a quantity that only events with jets have), the distance of its quartiles
    is 0; then wider quantiles set the scale, or finally its standard deviation.

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
        # Column by column here and below, because a table in double precision is twice the input and more are needed.
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
