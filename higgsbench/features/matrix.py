"""Chosen features: their identity and their evaluation to a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import polars.selectors as cs

from higgsbench.features.builtin import STEPS
from higgsbench.files import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from higgsbench.features.quantity import Quantity

__all__ = ["Features", "evaluate", "feature_matrix", "steps_and_columns"]


def steps_and_columns(expressions: Iterable[pl.Expr]) -> tuple[list[dict[str, pl.Expr]], list[str]]:
    """Find what expressions are made of.

    Args:
        expressions: expressions over columns and the steps of the canonical frame.

    Returns:
        The steps that must be evaluated first, in order and without those that nothing needs, and the columns that the
        table must have.
    """
    needed = dict.fromkeys(root for e in expressions for root in e.meta.root_names())
    steps = []
    for step in reversed(STEPS):
        used = {name: expression for name, expression in step.items() if name in needed}
        needed |= dict.fromkeys(root for e in used.values() for root in e.meta.root_names())
        steps.append(used)
    computed = {name for step in steps for name in step}
    return [step for step in reversed(steps) if step], [name for name in needed if name not in computed]


@dataclass(frozen=True)
class Features:
    """What the models see.

    Attributes:
        name: short name for tables.
        quantities: the features, in order.
    """

    name: str
    quantities: tuple[Quantity, ...]

    @property
    def expressions(self) -> tuple[pl.Expr, ...]:
        """One expression per feature, under its name."""
        return tuple(q.expression.alias(q.name) for q in self.quantities)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(q.name for q in self.quantities)

    @property
    def digest(self) -> str:
        """Identity of the features: names and definitions, down to the columns of the table."""
        steps, _ = steps_and_columns(q.expression for q in self.quantities)
        definitions = [q.signature for q in self.quantities]
        return canonical_digest(definitions + [[name, str(e)] for step in steps for name, e in step.items()])


def evaluate(frame: pl.DataFrame, expressions: Iterable[pl.Expr]) -> pl.DataFrame:
    """Evaluate named expressions over columns and steps in one lazy query; whole numbers count as float64."""
    chosen = list(expressions)
    steps, columns = steps_and_columns(chosen)
    query = frame.lazy().select(columns).with_columns(cs.integer().cast(pl.Float64))
    for step in steps:
        query = query.with_columns(e.alias(name) for name, e in step.items())
    return query.select(chosen).collect()


def feature_matrix(frame: pl.DataFrame, features: Features) -> NDArray[np.float32]:
    """Evaluate features in one pass to a C-ordered float32 matrix (n, p) with NaN where a value is missing."""
    table = evaluate(frame, [e.cast(pl.Float32).fill_null(float("nan")) for e in features.expressions])
    return np.ascontiguousarray(table.to_numpy(), dtype=np.float32)
