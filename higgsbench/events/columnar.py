"""Tables from files that carry column types of their own (Parquet, ROOT), brought to the types of the layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.check import check_columns, column_types, where
from higgsbench.events.unpacked import check_table_size
from higgsbench.panics import no_panic

if TYPE_CHECKING:
    from pathlib import Path

    from higgsbench.schema import TableSchema

__all__ = ["as_layout", "parse_parquet"]


def parse_parquet(file: Path, schema: TableSchema) -> pl.DataFrame:
    """Parse a Parquet file.

    Raises:
        DataError: if the file is damaged, a column is not of the layout or a value not of its column's type.
    """
    try:
        with no_panic():
            names = list(pl.read_parquet_schema(file))
            check_columns(names, schema, str(file))
            table = pl.scan_parquet(file.absolute(), glob=False, hive_partitioning=False)
            check_table_size(file, int(table.select(pl.len()).collect().item()), len(names))
            raw = pl.read_parquet(file.absolute(), glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DataError(f"{file}: damaged or not a Parquet file: {str(error).splitlines()[0]}") from error
    return as_layout(raw, schema, file)


def as_layout(raw: pl.DataFrame, schema: TableSchema, file: Path | str, first_row: int = 0) -> pl.DataFrame:
    """Convert every column to the type of the layout where no value is lost by it.

    Args:
        raw: table or part of one, as stored.
        schema: the layout.
        file: name for messages.
        first_row: position of the table's first row in the file, where the table is one part of it.

    Raises:
        DataError: naming the column, and the row where one value is at fault.
    """
    types = column_types(schema)
    converted = []
    for name, column in zip(raw.columns, raw.iter_columns(), strict=True):
        if name not in types:
            continue
        wanted = types[name]
        numeric = column.dtype.is_numeric()
        # A label written as a number is compared in its text form.
        if numeric == (wanted == pl.String()) and not (numeric and name == schema.label):
            raise DataError(f"{file}: column {name} has type {column.dtype}, expected {wanted}")
        cast = column.cast(wanted, strict=False)
        lost = cast.is_null() & column.is_not_null()
        if wanted == pl.Int64() and column.dtype.is_float():
            lost = lost | (cast.cast(pl.Float64) != column).fill_null(False)
        if lost.any():
            row = int(lost.arg_max() or 0)
            at = where(first_row + row, lines=False)
            raise DataError(f"{file}: {at}, column {name}: {column[row]!r} is not a whole number")
        converted.append(cast)
    return pl.DataFrame(converted)
