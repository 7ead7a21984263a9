"""Logistic regression on all products of two columns, without ever making the products."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from higgsbench.models.scoring import FromLogOdds, two_classes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["QuadraticLogisticRegression"]

BLOCK = 4096
"""Events that are looked at together; with their products of columns and coefficients they stay in the cache."""


class QuadraticLogisticRegression(FromLogOdds, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What `PolynomialFeatures(2)`, `StandardScaler` and `LogisticRegression` (L2, L-BFGS) are together.

    Same objective, solver and stopping rule, but the log-odds of an event are evaluated as x' U x + l' x + c and their
    gradient as X' diag(r) X: two products of small matrices per block of events instead of passes over p (p + 3) / 2
    columns. On 100,000 events of 40 columns, imputation and quantiles included, that is 1.4 s instead of 4.9 and 7
    copies of the table instead of 97 (4.4 since the imputation copies less).

    Args:
        C: inverse strength of the penalty on the coefficients of standardised products.
        max_iter: limit of the solver's iterations.
        tol: largest component of the gradient at which it stops.

    Attributes:
        classes_: (2,) labels.
        coef_: (p (p + 3) / 2,) coefficients of the columns, then of the products of columns i <= j, row by row; not
            standardised.
        intercept_: constant of the log-odds.
        n_iter_: iterations of the solver.
    """

    def __init__(self, C: float = 1.0, max_iter: int = 100, tol: float = 1e-4) -> None:
        self.C = C
        self.max_iter = max_iter
        self.tol = tol

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> QuadraticLogisticRegression:
        """Fit on X (n, p), y (n,) of two classes, with weights (n,).

        Raises:
            ValueError: for a parameter out of range, malformed input, or labels that are not of two classes.
        """
        from scipy.optimize import minimize
        from sklearn.utils.validation import _check_sample_weight

        for name in ("C", "max_iter", "tol"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < np.inf:
                raise ValueError(f"The {name!r} parameter must be a positive number. Got {value!r} instead.")
        X_, y_ = validate_data(self, X, y, dtype=[np.float64, np.float32])
        self.classes_, coded = two_classes(y_)
        weight = np.asarray(_check_sample_weight(sample_weight, X_, dtype=np.float64))
        problem = _Problem(X_, coded.astype(np.float64), weight, self.C)
        found = minimize(
            problem.value,
            np.zeros(problem.mean.size + 1),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": self.max_iter, "maxls": 50, "gtol": self.tol, "ftol": 64.0 * np.finfo(float).eps},
        )
        if not found.success:
            warnings.warn(
                f"the solver stopped early: {found.message}; raise max_iter", ConvergenceWarning, stacklevel=2
            )
        self.coef_: NDArray[np.float64] = found.x[:-1] / problem.scale
        self.intercept_ = float(found.x[-1] - self.coef_ @ problem.mean)
        self.n_iter_ = int(found.nit)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the log-odds of the second class, shape (n,)."""
        check_is_fitted(self)
        X_ = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        parts = [_log_odds(x, self.coef_) for x in _blocks(X_)]
        return np.concatenate(parts) + self.intercept_


class _Problem:
    """The penalised mean loss as a function of standardised coefficients and intercept."""

    def __init__(self, X: NDArray[Any], y: NDArray[np.float64], weight: NDArray[np.float64], C: float) -> None:
        self.X, self.y = X, y
        total = float(weight.sum())
        self.weight = weight / total
        self.penalty = 1.0 / (C * total)
        n, p = X.shape
        sums, squares = np.zeros((2, p * (p + 3) // 2))
        for x in _blocks(X):
            sums += _sums(x, np.ones(len(x)))
            squares += _sums(x * x, np.ones(len(x)))
        self.mean = sums / n
        variance = squares / n - self.mean**2
        # What rounding leaves of the variance of a constant column is no width.
        constant = variance <= 1e-12 * (squares / n)
        self.scale = np.where(constant, 1.0, np.sqrt(np.where(constant, 1.0, variance)))

    def value(self, at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Loss and its gradient."""
        standardised, intercept = at[:-1], at[-1]
        coef = standardised / self.scale
        constant = intercept - coef @ self.mean
        loss, residual_sum, gradient = 0.0, 0.0, np.zeros_like(coef)
        for first, x in zip(range(0, len(self.X), BLOCK), _blocks(self.X), strict=True):
            y, weight = self.y[first : first + BLOCK], self.weight[first : first + BLOCK]
            z = _log_odds(x, coef) + constant
            small = np.exp(-np.abs(z))
            loss += float(weight @ (np.log1p(small) + np.maximum(z, 0.0) - y * z))
            residual = weight * (np.where(z >= 0.0, 1.0, small) / (1.0 + small) - y)
            residual_sum += float(residual.sum())
            gradient += _sums(x, residual)
        gradient = (gradient - residual_sum * self.mean) / self.scale + self.penalty * standardised
        return loss + 0.5 * self.penalty * float(standardised @ standardised), np.append(gradient, residual_sum)


def _blocks(X: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    for first in range(0, len(X), BLOCK):
        yield np.ascontiguousarray(X[first : first + BLOCK], dtype=np.float64)


def _log_odds(x: NDArray[np.float64], coef: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of x (n, p) but for the constant."""
    p = x.shape[1]
    upper = np.zeros((p, p))
    upper[np.triu_indices(p)] = coef[p:]
    return np.asarray(np.einsum("ij,ij->i", x @ upper + coef[:p], x))


def _sums(x: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over events of the columns of x (n, p) and their products, in the order of `coef_`, times a factor (n,)."""
    products = x.T @ (x * factor[:, None])
    return np.concatenate([factor @ x, products[np.triu_indices(x.shape[1])]])
