"""Logistic regression on products of columns that are never made, against scikit-learn on the products."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from higgsbench.models import get_model
from higgsbench.models.quadratic import BLOCK, QuadraticLogisticRegression
from higgsbench.models.spec import BuildContext


def table(n: int = 700, p: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of which one is a flag and one is constant, labels that depend on a product, weights."""
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, p))
    X[:, 3] = X[:, 3] > 0.4
    X[:, 4] = 2.5
    y = (X[:, 0] * X[:, 1] + X[:, 2] + rng.normal(size=n) > 0.3).astype(int)
    return X, y, rng.exponential(size=n)


def wide(**params: Any) -> Any:
    return make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler(), LogisticRegression(**params))


UNWEIGHTED = "columns are standardised without the weights, as StandardScaler does in a pipeline that hands it none"


def test_it_passes_scikit_learn_s_checks() -> None:
    failing = {"check_sample_weight_equivalence_on_dense_data": UNWEIGHTED}
    model = QuadraticLogisticRegression()
    done = check_estimator(model, expected_failed_checks=failing, on_skip=None)
    assert {line["check_name"] for line in done if line["status"] == "xfail"} == set(failing)


@pytest.mark.parametrize("C", [0.003, 1.0])
@pytest.mark.parametrize("n", [700, BLOCK + 1])
def test_it_is_what_the_library_makes_of_the_products(C: float, n: int) -> None:
    X, y, w = table(n)
    plain = wide(C=C, max_iter=300).fit(X, y, logisticregression__sample_weight=w)
    found = QuadraticLogisticRegression(C=C, max_iter=300).fit(X, y, w)
    assert found.n_iter_ == plain[-1].n_iter_[0]
    new = table(n + 1)[0]
    np.testing.assert_allclose(found.decision_function(new), plain.decision_function(new), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.predict_proba(new), plain.predict_proba(new), rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(found.predict(new), plain.predict(new))


def test_single_precision_is_read_as_it_is() -> None:
    X, y, w = table()
    single = X.astype(np.float32)
    a, b = (QuadraticLogisticRegression().fit(x, y, w) for x in (single, single.astype(np.float64)))
    np.testing.assert_array_equal(a.coef_, b.coef_)


def test_too_few_iterations_are_said() -> None:
    X, y, _ = table()
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        QuadraticLogisticRegression(C=1e6, max_iter=2).fit(X, y)


@pytest.mark.parametrize(
    "params", [{"C": 0.0}, {"tol": -1.0}, {"max_iter": 0}, {"C": "1"}, {"C": np.inf}, {"tol": True}]
)
def test_bad_parameters_are_named(params: dict[str, Any]) -> None:
    X, y, _ = table(50)
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter must be a positive number"):
        QuadraticLogisticRegression(**params).fit(X, y)


@pytest.mark.parametrize(
    ("params", "made"),
    [({"degree": 2, "C": 0.1}, False), ({"degree": 2, "solver": "newton-cholesky"}, True), ({"degree": 3}, True)],
)
def test_products_are_made_only_where_the_library_is_needed(params: dict[str, Any], made: bool) -> None:
    X, y, w = table(300)
    model = get_model("logistic").build(params, BuildContext(seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, **{f"{model.steps[-1][0]}__sample_weight": w})
    assert any(isinstance(step, PolynomialFeatures) for _, step in model.steps) == made
