"""The named feature sets: the package's own, those of installed packages, those of this process."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import polars as pl

from higgsbench.errors import ConfigError
from higgsbench.features.canonical import canonical_quantities
from higgsbench.features.matrix import evaluate, steps_and_columns
from higgsbench.features.momenta import momenta_quantities
from higgsbench.features.physics import physics_quantities
from higgsbench.features.quantity import Quantity
from higgsbench.features.raw import raw_quantities
from higgsbench.registry import Registry
from higgsbench.schema import TableSchema

__all__ = ["FeatureSet", "feature_set", "feature_sets", "register_features"]

Producer: TypeAlias = Callable[[TableSchema], Sequence[Quantity | pl.Expr]]


@dataclass(frozen=True)
class FeatureSet:
    """A named set of features.

    Attributes:
        name: name in configurations and tables.
        description: one line.
        function: returns the features for a layout: documented quantities or named Polars expressions, elementwise and
            made of native Polars operations on columns of the layout.
    """

    name: str
    description: str
    function: Producer

    def quantities(self, schema: TableSchema) -> list[Quantity]:
        """Return the features for a layout, checked.

        Raises:
            ConfigError: if the layout lacks columns that the set is made of (the message names them), a feature gives
                the answer away, looks at other events, or has the name of another one.
        """
        own = any(self is known for known in _BUILTIN)
        try:
            produced = list(self.function(schema))
        except Exception as problem:
            if own:
                raise
            raise ConfigError(
                f"features: set {self.name!r} fails for the layout {schema.name}: {type(problem).__name__}: {problem}"
            ) from problem
        found = [item if own and isinstance(item, Quantity) else _identified(item, self.name) for item in produced]
        self._check(found, schema)
        if not own:
            for quantity in found:
                _check_elementwise(quantity, self.name, schema)
        return found

    def _check(self, found: list[Quantity], schema: TableSchema) -> None:
        names = [q.name for q in found]
        repeated = next((n for n in names if names.count(n) > 1), None)
        if repeated is not None:
            raise ConfigError(f"features: set {self.name!r} has two features named {repeated!r}")
        _, columns = steps_and_columns(q.expression for q in found)
        forbidden = [name for name in columns if name in schema.not_features]
        if forbidden:
            raise ConfigError(
                f"features: set {self.name!r} uses {', '.join(forbidden)}, which can never be a feature: it gives away "
                "the label or is mere bookkeeping"
            )
        lacking = [name for name in columns if name not in schema.features]
        if lacking:
            raise ConfigError(
                f"features: set {self.name!r} needs columns that the layout {schema.name} lacks: {', '.join(lacking)}"
            )


def _identified(item: Quantity | pl.Expr, origin: str) -> Quantity:
    """Document a bare expression, and give a feature of somebody else an identity that covers all of it."""
    if isinstance(item, pl.Expr):
        name = item.meta.output_name(raise_if_undetermined=False) or ""
        item = Quantity(name, item, str(item), "", f"feature set {origin}", origin)
    elif not isinstance(item, Quantity):
        raise ConfigError(
            f"features: set {origin!r} has a {type(item).__name__} where a Polars expression or a "
            "higgsbench.features.Quantity should be"
        )
    if "python_udf" in str(item.expression):
        raise ConfigError(
            f"features: {item.name!r} of set {origin!r} calls Python; native Polars operations alone have an identity"
        )
    # The printed form of an expression shortens long literals; the serialised one does not.
    return dataclasses.replace(item, identity=hashlib.sha256(item.expression.meta.serialize()).hexdigest())


_PROBE_ROWS = 64


def _probe(schema: TableSchema) -> pl.DataFrame:
    """Make events of positive numbers, one in eight of them missing."""
    rng, n = np.random.default_rng(0), _PROBE_ROWS
    columns = {}
    for name in schema.features:
        values = pl.Series(rng.integers(0, 4, n) * 1.0 if name in schema.integers else rng.gamma(1.0, 30.0, n))
        columns[name] = values.scatter(rng.choice(n, n // 8, replace=False), None)
    return pl.DataFrame(columns)


def _check_elementwise(quantity: Quantity, origin: str, schema: TableSchema) -> None:
    """Refuse a feature whose value changes with the other events in the table: it would leak between folds."""
    n, probe = _PROBE_ROWS, _probe(schema)
    expression = quantity.expression.cast(pl.Float64).alias("value")
    try:
        whole = evaluate(probe, [expression])["value"]
        parts = [
            evaluate(part, [expression])["value"] for part in (probe[: n // 4].reverse(), probe[n // 4 :].reverse())
        ]
    except pl.exceptions.PolarsError as problem:
        raise ConfigError(
            f"features: {quantity.name!r} of set {origin!r} cannot be evaluated: {str(problem).splitlines()[0]}"
        ) from problem
    again = pl.concat([part.reverse() for part in parts])
    if len(whole) != n or not whole.eq_missing(again).all():
        raise ConfigError(
            f"features: {quantity.name!r} of set {origin!r} looks at other events than its own; only elementwise "
            "expressions can be features"
        )


_BUILTIN = (
    FeatureSet("raw", "all measured columns of the layout as they stand in the file", raw_quantities),
    FeatureSet("canonical", "raw columns with directions in the canonical frame", canonical_quantities),
    FeatureSet("physics", "canonical, and what a physicist would look at in H -> tau tau", physics_quantities),
    FeatureSet("momenta", "inputs for neural networks: vectors, logarithms, flags", momenta_quantities),
)

_SETS = Registry(
    "feature set", FeatureSet, "higgsbench.features.FeatureSet", lambda: _BUILTIN, "higgsbench.features", ConfigError
)


def register_features(name: str, function: Producer, *, description: str = "", replace: bool = False) -> FeatureSet:
    """Add a feature set to the registry of this process; packages use an entry point in `higgsbench.features`.

    Args:
        name: name in configurations.
        function: takes the layout, returns named Polars expressions or `Quantity` records.
        description: one line.
        replace: whether a set of the same name may be replaced.

    Returns:
        The set's record.

    Raises:
        ConfigError: if the name is taken and `replace` is false.
    """
    return _SETS.add(FeatureSet(name, description, function), replace=replace)


def feature_sets() -> tuple[FeatureSet, ...]:
    """Return all registered sets, the built-in ones first."""
    return _SETS.all()


def feature_set(name: str) -> FeatureSet:
    """Return a registered set.

    Raises:
        ConfigError: if there is none of that name; the message has the nearest known one.
    """
    return _SETS.get(name)
