"""Translate fitted models to ONNX: each function adds the nodes of one type of estimator and returns its output.

Tensors have one row per event. The graph adds in double precision, except if the model itself computes in single
precision, so that it rounds as the model does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ModelError
from higgsbench.export.trees import (
    Forest,
    catboost_trees,
    lightgbm_trees,
    lookup_tree,
    rounded_down,
    sklearn_trees,
    xgboost_trees,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET, TREES_OPSET, IR_VERSION = 17, 3, 8
"""Versions that onnxruntime 1.14 (2023) and later read."""

_TINY, _LIMIT = 1e-6, 6.0
"""From `read_log_odds` and `PackedMLPClassifier`: the distance of probabilities to 0 and 1, and the largest input."""

_EDGE = 1e-7
"""From scikit-learn's `QuantileTransformer`: values closer than this to the first or last quantile count as beyond it,
and ranks keep this distance from 0 and 1."""

_STEEPEST = 3e38
"""The largest inverse of a segment's width, within single precision."""

_CENTRE = (
    (-39.69683028665376, 220.9460984245205, -275.9285104469687, 138.3577518672690, -30.66479806614716,
     2.506628277459239),
    (-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1.0),
)  # fmt: skip
_TAIL = (
    (-0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968,
     2.938163982698783),
    (0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1.0),
)  # fmt: skip
_TAIL_BEGINS = 0.02425
"""Coefficients of P. J. Acklam's rational approximation of the normal quantile (2003), relative error below 1.15e-9."""


class Graph:
    """Nodes and constants of a graph. Calling it adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, kind: str, *inputs: Any, domain: str = "", **attributes: Any) -> str:
        """Add a node; inputs are names of tensors, or arrays and scalars, which become constants."""
        from onnx import helper

        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], domain=domain, **attributes))
        return output

    def constant(self, value: Any) -> str:
        """Add an array or scalar and return its name."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def cast(self, x: str, dtype: Any) -> str:
        """Convert a tensor."""
        from onnx import helper

        return self("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def columns(self, x: str, index: Sequence[int] | NDArray[Any]) -> str:
        """Choose columns."""
        return self("Gather", x, np.asarray(index, dtype=np.int64), axis=1)

    def scaled(self, terms: Sequence[tuple[str, float]], add: float) -> str:
        """Return the sum of double precision tensors times numbers, plus a number."""
        total = self("Sum", *(self("Mul", x, np.float64(factor)) for x, factor in terms))
        return self("Add", total, np.float64(add))

    def mean(self, terms: Sequence[str]) -> str:
        """Return the mean of double precision tensors."""
        return terms[0] if len(terms) == 1 else self("Div", self("Sum", *terms), np.float64(len(terms)))

    def by_group(self, numbers: str, groups: Sequence[Sequence[int]], values: Sequence[str]) -> str:
        """Choose by each event's group number; NaN if no group has it."""
        chosen = self.constant(np.float64(np.nan))
        for group, value in zip(groups, values, strict=True):
            for number in group:
                chosen = self("Where", self("Equal", numbers, np.float32(number)), value, chosen)
        return chosen

    def forest(self, forest: Forest, x: str) -> str:
        """Return the sums (n, targets) of the values of trees, single precision."""
        index = np.repeat(np.arange(len(forest.trees)), [tree.left.size for tree in forest.trees])
        number = np.concatenate([np.arange(tree.left.size) for tree in forest.trees])
        feature, threshold, left, right, nan_left, value = (
            np.concatenate(part) for part in zip(*forest.trees, strict=True)
        )
        reached = np.concatenate([np.isin(np.arange(t.left.size), [0, *t.left, *t.right]) for t in forest.trees])
        leaf, inner = reached & (left < 0), left >= 0  # XGBoost keeps the positions of pruned nodes
        # A leaf names the targets that it changes, or the first one.
        named = (value != 0.0) | (np.arange(value.shape[1]) == 0)
        place, target = np.nonzero(named & leaf[:, None])
        modes = np.where(inner, "BRANCH_LT" if forest.strict else "BRANCH_LEQ", "LEAF")
        nodes = {
            "treeids": index, "nodeids": number, "featureids": np.where(inner, feature, 0), "modes": modes,
            "values": np.where(inner, threshold, 0.0), "truenodeids": np.where(inner, left, 0),
            "falsenodeids": np.where(inner, right, 0), "missing_value_tracks_true": (inner & nan_left).astype(np.int64),
        }  # fmt: skip
        leaves = {"treeids": index[place], "nodeids": number[place], "ids": target, "weights": value[place, target]}
        attributes = {f"nodes_{name}": values[reached].tolist() for name, values in nodes.items()}
        attributes |= {f"target_{name}": values.tolist() for name, values in leaves.items()}
        return self("TreeEnsembleRegressor", x, domain="ai.onnx.ml", n_targets=value.shape[1], **attributes)


def log_odds(g: Graph, model: Any, x: str) -> str:
    """Add a fitted classifier and return its log-odds (n, 1) of features x, double precision.

    Raises:
        ModelError: if no function here knows the estimator.
    """
    return _known(_CLASSIFIERS, model)(g, model, x)


def _known(known: dict[str, Callable[[Graph, Any, str], str]], model: Any) -> Callable[[Graph, Any, str], str]:
    name = type(model).__name__
    if name not in known:
        raise ModelError(f"{name} cannot be written as ONNX; supported are {', '.join(known)}")
    return known[name]


def _physical(g: Graph, model: Any, x: str) -> str:
    return g("Add", log_odds(g, model.estimator_, x), np.float64(model.prior_shift_))


def _jets(g: Graph, model: Any, x: str) -> str:
    parts = zip(model.submodels_, model.columns_, strict=True)
    scores = [log_odds(g, submodel, g.columns(x, columns)) for submodel, columns in parts]
    return g.by_group(g.columns(x, [model.group_column]), model.groups, scores)


def _bag(g: Graph, model: Any, x: str) -> str:
    return g.mean([log_odds(g, member, x) for member in model.estimators_])


def _pipeline(g: Graph, model: Any, x: str) -> str:
    *steps, (_, last) = model.steps
    for _, step in steps:
        x = x if step == "passthrough" else _known(_TRANSFORMERS, step)(g, step, x)
    return log_odds(g, last, x)


def _trees(read: Callable[[Any], Forest], g: Graph, model: Any, x: str) -> str:
    forest = read(model)
    return g("Add", g.cast(g.forest(forest, x), np.float64), np.float64(forest.base))


def _xgboost(g: Graph, model: Any, x: str) -> str:
    if not np.isnan(model.missing):
        x = g("Where", g("Equal", x, np.float32(model.missing)), np.float32(np.nan), x)
    return _trees(xgboost_trees, g, model, x)


def _random_forest(g: Graph, model: Any, x: str) -> str:
    both = g("Log", g("Max", g.cast(g.forest(sklearn_trees(model), x), np.float64), np.float64(_TINY)))
    return g("Sub", g.columns(both, [1]), g.columns(both, [0]))


def _logistic(g: Graph, model: Any, x: str) -> str:
    product = g("MatMul", g.cast(x, np.float64), model.coef_.T.astype(np.float64))
    return g("Add", product, model.intercept_.astype(np.float64))


_ACTIVATIONS = {"identity": "Identity", "logistic": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}


def _mlp(g: Graph, model: Any, x: str) -> str:
    kind = model.coefs_[0].dtype
    x = g.cast(x, kind)
    for number, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        x = g("Add", g("MatMul", x if number == 0 else g(_ACTIVATIONS[model.activation], x), weights), bias)
    # The model rounds its probability, which is far coarser than its log-odds for likely signal.
    p = g("Div", kind.type(1), g("Add", g("Exp", g("Neg", x)), kind.type(1)))
    p = g.cast(g("Min", g("Max", p, kind.type(_TINY)), kind.type(1.0 - _TINY)), np.float64)
    return g("Sub", g("Log", p), g("Log", g("Sub", np.float64(1.0), p)))


def _packed(g: Graph, model: Any, x: str) -> str:
    x = g("Div", g("Sub", g.cast(x, np.float32), model.center_), model.scale_)
    x = g("Min", g("Max", x, np.float32(-_LIMIT)), np.float32(_LIMIT))
    members = []
    for member in range(model.members):
        z = x
        for number, (weights, bias) in enumerate(model.layers_):
            hidden = z if number == 0 else g("Mul", z, g("Sigmoid", z))
            z = g("Add", g("MatMul", hidden, weights[member]), bias[member])
        members.append(g.cast(z, np.float64))
    return g.mean(members)


def _medians(g: Graph, step: Any, x: str) -> str:
    counts, parts = step.categories, []
    if counts:
        source, values = np.repeat(np.arange(len(counts)), counts), np.concatenate([np.arange(c) for c in counts])
        parts = [g.cast(g("Equal", g.columns(x, source), values.astype(np.float32)), np.float32)]
        x = g.columns(x, np.arange(len(counts), step.n_features_in_))
    missing = g("IsNaN", x)
    filled = g("Where", missing, step.medians_.astype(np.float32), x)
    return g("Concat", *parts, filled, g.cast(g.columns(missing, step.flagged_), np.float32), axis=1)


def _scaler(g: Graph, step: Any, x: str) -> str:
    return g("Div", g("Sub", g.cast(x, np.float64), step.mean_), step.scale_)


def _clip(g: Graph, step: Any, x: str) -> str:
    z = g("Div", g("Sub", g.cast(x, np.float64), step.center_), step.scale_)
    part = g("Div", z, np.float64(step.limit))
    return g("Div", z, g("Sqrt", g("Add", g("Mul", part, part), np.float64(1.0))))


def _products(g: Graph, step: Any, x: str) -> str:
    """Return products of `degree` columns each, which may include a column of ones."""
    powers, x = step.powers_, g.cast(x, np.float64)
    n, degree = powers.shape[1], int(powers.sum(axis=1).max())
    ones = g("Add", g("Mul", g.columns(x, [0]), np.float64(0.0)), np.float64(1.0))
    table, out = g("Concat", x, ones, axis=1), ""
    drawn = np.array([np.append(np.repeat(np.arange(n), row), [n] * (degree - row.sum())) for row in powers])
    for factor in drawn.T:
        chosen = g.columns(table, factor)
        out = g("Mul", out, chosen) if out else chosen
    return out


def _quantiles(g: Graph, step: Any, x: str) -> str:
    """Look up each value among the quantiles of its column; the rank between 0 and 1 becomes a normal deviate."""
    count, trees = step.quantiles_.shape[1], []
    for column, quantiles in enumerate(step.quantiles_.T):
        bounds, rows = _segments(quantiles)
        values = np.zeros((len(rows), 4 * count))
        values[:, column::count] = rows
        trees.append(lookup_tree(column, bounds, values))
    found = g.cast(g.forest(Forest(trees), x), np.float64)
    rank, high, low, inverse = (g.columns(found, np.arange(count) + count * part) for part in range(4))
    inside = g("Mul", g("Sub", g("Sub", g.cast(x, np.float64), high), low), inverse)
    y = g("Div", g("Add", rank, inside), np.float64(step.quantiles_.shape[0] - 1))
    edges = [g.cast(g(kind, x, np.float32(_EDGE)), np.float64) for kind in ("Add", "Sub")]
    y = g("Where", g("Greater", edges[0], step.quantiles_[-1].astype(np.float64)), np.float64(1.0), y)
    y = g("Where", g("Less", edges[1], step.quantiles_[0].astype(np.float64)), np.float64(0.0), y)
    return _normal_quantile(g, g.cast(g.cast(y, np.float32), np.float64))  # the model rounds ranks


def _segments(quantiles: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the segments of an interpolation between quantiles (m,) whose ranks are 0, 1, ..., m - 1.

    A value that several quantiles share is a separate segment, with the mean of their ranks.

    Returns:
        Upper bounds of all segments but the last, single precision, and per segment its rank at the start, the start in
        two single precision parts, and the inverse of its width.
    """
    values, first, counts = np.unique(quantiles.astype(np.float64), return_index=True, return_counts=True)
    single = rounded_down(values)
    bounds, rows = [], []
    for at, value in enumerate(values):
        point = first[at] + (counts[at] - 1) / 2
        width = values[at + 1] - value if at + 1 < values.size else np.inf
        if counts[at] > 1 and single[at] == value:
            bounds.append(np.nextafter(single[at], np.float32(-np.inf)))
            rows.append((point, 0.0, 0.0, 0.0))
        bounds.append(single[at])
        high = np.float32(value)
        rows.append((first[at] + counts[at] - 1, float(high), value - high, min(1.0 / width, _STEEPEST)))
    return np.array(bounds[1:], dtype=np.float32), np.array(rows)


def _normal_quantile(g: Graph, p: str) -> str:
    """Return the inverse of the cumulative normal distribution, which is not an operation of ONNX."""
    p = g("Min", g("Max", p, np.float64(_EDGE)), np.float64(1.0 - _EDGE))
    q = g("Sub", p, np.float64(0.5))
    square = g("Mul", q, q)
    centre = g("Mul", q, g("Div", *(_polynomial(g, part, square) for part in _CENTRE)))
    least = g("Min", p, g("Sub", np.float64(1.0), p))
    t = g("Sqrt", g("Mul", g("Log", least), np.float64(-2.0)))
    tail = g("Mul", g("Div", *(_polynomial(g, part, t) for part in _TAIL)), g("Neg", g("Sign", q)))
    return g.cast(g("Where", g("Less", least, np.float64(_TAIL_BEGINS)), tail, centre), np.float32)


def _polynomial(g: Graph, coefficients: Sequence[float], x: str) -> str:
    total: Any = np.float64(coefficients[0])
    for coefficient in coefficients[1:]:
        total = g("Add", g("Mul", total, x), np.float64(coefficient))
    return str(total)


_CLASSIFIERS: dict[str, Callable[[Graph, Any, str], str]] = {
    "PhysicalClassifier": _physical,
    "JetSplitClassifier": _jets,
    "SeedBag": _bag,
    "Pipeline": _pipeline,
    "XGBClassifier": _xgboost,
    "LoadedLightGBM": functools.partial(_trees, lightgbm_trees),
    "CatBoostClassifier": functools.partial(_trees, catboost_trees),
    "RandomForestClassifier": _random_forest,
    "LogisticRegression": _logistic,
    "ShortMLPClassifier": _mlp,
    "PackedMLPClassifier": _packed,
}
_TRANSFORMERS: dict[str, Callable[[Graph, Any, str], str]] = {
    "FlaggedMedians": _medians,
    "NormalQuantiles": _quantiles,
    "BlockwiseScaler": _scaler,
    "SmoothClip": _clip,
    "PolynomialFeatures": _products,
}
