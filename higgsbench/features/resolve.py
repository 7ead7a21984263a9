"""From a choice of features to features."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from higgsbench.errors import ConfigError, nearest_hint, shortened
from higgsbench.features.matrix import Features
from higgsbench.features.raw import raw_quantities
from higgsbench.features.sets import feature_set, feature_sets
from higgsbench.features.sql import check_column, sql_quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.features.quantity import Quantity
    from higgsbench.schema import TableSchema

__all__ = ["Choice", "resolve_features"]

Choice: TypeAlias = "str | tuple[str, str]"
"""A column or feature of any set by name, or a name and an SQL expression."""


def resolve_features(
    schema: TableSchema,
    *,
    name: str = "raw",
    columns: Sequence[Choice] | None = None,
    add: Sequence[Choice] = (),
    drop: Sequence[str] = (),
) -> Features:
    """Turn a choice of features into expressions.

    Args:
        schema: the layout of the events.
        name: a named set.
        columns: exactly these features instead of a set: columns of the layout, features of any set, or pairs of a new
            name and an SQL expression (see `sql_quantity`).
        add: features added to the set, likewise; names that the set has already are passed over.
        drop: features taken out.

    Returns:
        The features.

    Raises:
        ConfigError: for a set or column that does not exist, a column that gives away the answer, an expression that is
            not allowed, or an empty choice.
    """
    chosen = feature_set(name).quantities(schema) if columns is None else _all_of(columns, schema)
    names = [q.name for q in chosen]
    _check_unique(names)
    for column in drop:
        if column not in names:
            raise ConfigError(
                f"features: cannot drop {shortened(column)!r}, which is not in the set{nearest_hint(column, names)}"
            )
    kept = [q for q in chosen if q.name not in drop]
    kept += _all_of([c for c in add if c not in names], schema)
    _check_unique([q.name for q in kept])
    if not kept:
        raise ConfigError("features: no feature is left")
    label = name if columns is None else f"{len(kept)} columns"
    if columns is None and (add or drop):
        label += f" {len(kept) - len(names):+d}"
    return Features(label, tuple(kept))


def _check_unique(names: Sequence[str]) -> None:
    repeated = next((n for n in names if names.count(n) > 1), None)
    if repeated is not None:
        raise ConfigError(f"features: column {repeated!r} is named twice")


def _all_of(choices: Sequence[Choice], schema: TableSchema) -> list[Quantity]:
    columns = {q.name: q for q in raw_quantities(schema)}
    found = []
    for choice in choices:
        if isinstance(choice, tuple):
            found.append(sql_quantity(*choice, schema))
        elif choice in columns:
            found.append(columns[choice])
        else:
            found.append(_of_any_set(choice, schema))
    return found


def _of_any_set(name: str, schema: TableSchema) -> Quantity:
    if name in schema.not_features:
        check_column(name, schema)
    known: dict[str, Quantity] = {}
    for candidate in feature_sets():
        try:
            known = {q.name: q for q in candidate.quantities(schema)} | known
        except ConfigError:  # a set for another layout
            continue
    if name not in known:
        raise ConfigError(
            f"features: no column named {shortened(name)!r}{nearest_hint(name, list(known))}, in the layout or any set"
        )
    return known[name]
