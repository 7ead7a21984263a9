"""Content rules every event table must meet before anything is computed from it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import DataError, nearest_hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from higgsbench.schema import TableSchema

__all__ = ["check_columns", "check_content", "check_distinct", "column_types"]


_LARGEST = 1e30
"""Beyond this squares overflow in single precision; no momentum, mass or weight comes near."""

_TOO_LARGE = "larger than any measured value or weight can be (1e+30)"


def column_types(schema: TableSchema) -> dict[str, pl.DataType]:
    """Return the type of every column a file of this layout may have, in file order."""
    types: dict[str, pl.DataType] = {}
    if schema.event_id:
        types[schema.event_id] = pl.Int64()
    for name in schema.features:
        types[name] = pl.Int64() if name in schema.integers else pl.Float64()
    if schema.group and schema.group not in types:
        types[schema.group] = pl.Int64()
    if schema.weight:
        types[schema.weight] = pl.Float64()
    types[schema.label] = pl.String()
    if schema.subset:
        types[schema.subset] = pl.String()
    if schema.subset_weight:
        types[schema.subset_weight] = pl.Float64()
    return types


def check_columns(header: Sequence[str], schema: TableSchema, source: str) -> None:
    """Check a header: every needed column once, no unknown column.

    Raises:
        DataError: naming the file and the column at fault.
    """
    known = list(column_types(schema))
    seen: set[str] = set()
    for name in header:
        if name in seen:
            raise DataError(f"{source}: column {name} appears twice in the header")
        seen.add(name)
        if name not in known and not schema.ignore_unknown:
            hint = nearest_hint(name, [k for k in known if k not in header])
            raise DataError(f"{source}: unknown column {name[:60]!r}{hint}; the layout is {schema.name}")
    needed = [*schema.features, *([schema.event_id] if schema.event_id else [])]
    if schema.group and schema.group not in needed:
        needed.append(schema.group)
    missing = [name for name in needed if name not in seen]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{source}: missing column {', '.join(missing[:3])}{more}; the layout {schema.name} needs "
            f"{len(needed)} columns"
        )
    if schema.weight:
        for have, lack in ((schema.label, schema.weight), (schema.weight, schema.label)):
            if have in seen and lack not in seen:
                raise DataError(f"{source}: column {have} without column {lack}; give both, or neither for test events")


def _rules(frame: pl.DataFrame, schema: TableSchema) -> Iterator[tuple[str, pl.Expr, str]]:
    """Yield (column, expression that is true for a bad value, what is wrong)."""
    types = column_types(schema)
    for name in frame.columns:
        column = pl.col(name)
        if types[name] == pl.Float64():
            yield name, ~(column.abs() <= _LARGEST), _TOO_LARGE  # NaN is above every number here
        if name not in schema.features or name in schema.integers:
            yield name, column.is_null(), "empty"
        if name in (schema.weight, schema.subset_weight) and not schema.negative_weights:
            yield name, column <= 0.0, "not a positive weight"
        if name == schema.label:
            if schema.background is not None:
                allowed = [schema.signal, schema.background]
                yield name, ~column.is_in(allowed), f"not one of the labels {schema.signal!r} and {schema.background!r}"
        elif name == schema.subset and schema.subset_values:
            yield name, ~column.is_in(list(schema.subset_values)), f"not one of {', '.join(schema.subset_values)}"
        elif name == schema.group:
            yield name, column < 0, "not a group number (it must be 0 or more)"


def where(row: int, *, lines: bool) -> str:
    """Name a data row (0-based) for people: rows count from 1 without the header, lines as an editor does."""
    return f"row {row + 1} (line {row + 2})" if lines else f"row {row + 1}"


def check_content(frame: pl.DataFrame, schema: TableSchema, source: str, *, lines: bool, first_row: int = 0) -> None:
    """Check the values of a parsed table; nulls in measured features mean missing and are fine.

    Args:
        frame: parsed table with the sentinel already replaced by null.
        schema: the layout.
        source: file name for messages.
        lines: whether row numbers have line numbers beside them (text files).
        first_row: position of the table's first row in the file, where the table is one part of it.

    Raises:
        DataError: naming file, row and column of the first offending value.
    """
    if frame.height == 0:
        raise DataError(f"{source}: no events: the file has a header and nothing below it")
    rules = list(_rules(frame, schema))
    counts = frame.select([bad.any().alias(str(i)) for i, (_, bad, _) in enumerate(rules)]).row(0)
    for broken, (name, bad, what) in zip(counts, rules, strict=True):
        if broken:
            row = frame.select(bad.fill_null(False).arg_max()).item()
            value = frame[name][row]
            if what == _TOO_LARGE and not math.isfinite(value):
                what = "not a finite number"
            shown = "" if value is None else f", it is {value!r}"
            raise DataError(f"{source}: {where(first_row + row, lines=lines)}, column {name}: {what}{shown}")
    if schema.event_id is not None:
        check_distinct(frame[schema.event_id], schema, source, lines=lines, first_row=first_row)


def check_distinct(ids: pl.Series, schema: TableSchema, source: str, *, lines: bool, first_row: int = 0) -> None:
    """Check that no event number stands twice; arguments as in `check_content`.

    Raises:
        DataError: naming file, row and column of the first number that stood before.
    """
    if ids.n_unique() != len(ids):
        row = int((~ids.is_first_distinct()).arg_max() or 0)
        first = int((ids == ids[row]).arg_max() or 0)
        raise DataError(
            f"{source}: {where(first_row + row, lines=lines)}, column {schema.event_id}: {ids[row]} already stands "
            f"in {where(first_row + first, lines=lines)}; event numbers must be unique"
        )
