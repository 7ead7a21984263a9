"""Named feature sets as Polars expressions on an event table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from higgsbench.errors import ConfigError
from higgsbench.features.canonical import canonical_quantities, raw_quantities
from higgsbench.features.momenta import momenta_quantities
from higgsbench.features.physics import physics_quantities
from higgsbench.files import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.features.quantity import Quantity
    from higgsbench.schema import TableSchema

__all__ = ["FEATURE_SETS", "FeatureSet", "Features", "feature_matrix", "resolve_features"]


@dataclass(frozen=True)
class FeatureSet:
    """A named set of features.

    Attributes:
        name: name in configurations and tables.
        description: one line.
        quantities: returns one documented quantity per feature for a layout.
    """

    name: str
    description: str
    quantities: Callable[[TableSchema], list[Quantity]]

    def expressions(self, schema: TableSchema) -> list[pl.Expr]:
        """One named expression per feature.

        Raises:
            ConfigError: if the layout lacks columns that the set is made of; the message names them.
        """
        quantities = self.quantities(schema)
        needed = dict.fromkeys(root for q in quantities for root in q.expression.meta.root_names())
        lacking = [name for name in needed if name not in schema.features]
        if lacking:
            raise ConfigError(
                f"features: set {self.name!r} needs columns that the layout {schema.name} lacks: {', '.join(lacking)}"
            )
        return [q.named for q in quantities]


FEATURE_SETS: dict[str, FeatureSet] = {
    s.name: s
    for s in (
        FeatureSet("raw", "all measured columns of the layout as they stand in the file", raw_quantities),
        FeatureSet("canonical", "raw columns with directions in the canonical frame", canonical_quantities),
        FeatureSet("physics", "canonical, and what a physicist would look at in H -> tau tau", physics_quantities),
        FeatureSet("momenta", "inputs for neural networks: vectors, logarithms, flags", momenta_quantities),
    )
}


@dataclass(frozen=True)
class Features:
    """What the models see.

    Attributes:
        name: short name for tables.
        expressions: one named expression per feature.
    """

    name: str
    expressions: tuple[pl.Expr, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(e.meta.output_name() for e in self.expressions)

    @property
    def digest(self) -> str:
        """Identity of the features: names and expressions."""
        return canonical_digest([[e.meta.output_name(), str(e)] for e in self.expressions])


def resolve_features(
    schema: TableSchema,
    *,
    name: str = "raw",
    columns: Sequence[str] | None = None,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> Features:
    """Turn a choice of features into expressions.

    Args:
        schema: the layout of the events.
        name: a named set.
        columns: exactly these columns instead of a set.
        add: columns added to the set.
        drop: features taken out.

    Returns:
        The features.

    Raises:
        ConfigError: for a set or column that does not exist, a column that gives away the answer, or an empty choice.
    """
    import difflib

    if name not in FEATURE_SETS:
        close = difflib.get_close_matches(name, FEATURE_SETS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(FEATURE_SETS)}"
        raise ConfigError(f"features: no set named {name!r} ({hint})")
    for column in (*(columns or ()), *add):
        _check_column(column, schema)
    chosen = [pl.col(c) for c in columns] if columns is not None else FEATURE_SETS[name].expressions(schema)
    names = [e.meta.output_name() for e in chosen]
    repeated = next((n for n in names if names.count(n) > 1), None)
    if repeated is not None:
        raise ConfigError(f"features: column {repeated!r} is named twice")
    for column in drop:
        if column not in names:
            close = difflib.get_close_matches(column, names, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ConfigError(f"features: cannot drop {column!r}, which is not in the set{hint}")
    kept = [e for e, n in zip(chosen, names, strict=True) if n not in drop]
    kept += [pl.col(c) for c in add if c not in names]
    if not kept:
        raise ConfigError("features: no feature is left")
    label = name if columns is None else f"{len(kept)} columns"
    if columns is None and (add or drop):
        label += f" {len(kept) - len(names):+d}"
    return Features(label, tuple(kept))


def _check_column(column: str, schema: TableSchema) -> None:
    import difflib

    if column in schema.not_features:
        raise ConfigError(f"features: {column} can never be a feature: it gives away the label or is mere bookkeeping")
    if column not in schema.features:
        close = difflib.get_close_matches(column, schema.features, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ConfigError(f"features: no column named {column!r}{hint}")


def feature_matrix(frame: pl.DataFrame, features: Features) -> NDArray[np.float32]:
    """Evaluate features in one pass to a C-ordered float32 matrix (n, p) with NaN where a value is missing."""
    table = frame.lazy().select([e.cast(pl.Float32).fill_null(float("nan")) for e in features.expressions]).collect()
    return np.ascontiguousarray(table.to_numpy(), dtype=np.float32)
