"""Recognise the built-in layout of an event file by its columns."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from higgsbench.errors import DataError
from higgsbench.events.check import first_look, named_file
from higgsbench.events.formats import ParquetFile, RootFile
from higgsbench.events.text import header_names
from higgsbench.files import printable
from higgsbench.schema import ATLAS_HIGGS, SCHEMAS, is_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from higgsbench.schema import TableSchema

_LOG = logging.getLogger("higgsbench")
_ADVICE = (
    "describe the columns under data.schema in a configuration, or let `higgsbench init FILE` do it (built-in layouts: "
    "`higgsbench data layouts`)"
)


def recognised(path: str | Path, otherwise: TableSchema | None = None) -> TableSchema:
    """Return the built-in layout of a file, with a note unless it is the challenge's.

    A file without a header is recognised by the number of its columns and the label in its first row.

    Args:
        path: CSV, gzipped CSV, Parquet or ROOT.
        otherwise: layout to return if the file does not have all features of any layout. The default is the layout with
            most of its features in the file, whose reader then reports the fault; if that is less than half, an error.

    Raises:
        DataError: if the file cannot be read or matches no layout.
    """
    source, columns = printable(path), _columns(path)
    if columns is None:
        return otherwise or ATLAS_HIGGS  # its reader reports the fault of the file

    def shared(schema: TableSchema) -> tuple[bool, int]:
        wanted, there = {*schema.features, schema.label}, set(columns.get(schema.name, ()))
        return wanted - there <= {schema.label}, len(wanted & there)

    found = max(SCHEMAS.values(), key=shared)
    complete, number = shared(found)
    if not complete and otherwise is not None:
        return otherwise
    if not complete and number <= len(found.features) / 2:
        names = next(iter(columns.values()))
        shown = f"{', '.join(name[:30] for name in names[:4])}{', ...' if len(names) > 4 else ''}"
        raise DataError(f"{source}: the columns ({shown}) match no built-in layout; {_ADVICE}")
    if complete and found is not ATLAS_HIGGS:
        _LOG.info("%s: recognised as the layout %s", source, found.name)
    return found


def _columns(path: str | Path) -> Mapping[str, tuple[str, ...]] | None:
    """Return the columns of a file as the reader of each layout sees them; None if no reader can open it."""
    (file, tree), source = named_file(path), printable(path)
    kind = first_look(file)
    if kind in ("text", "gzip"):
        names = header_names(file, source, zipped=kind == "gzip")
        if sum(map(is_number, names)) > len(names) / 2:
            found = _without_header(names, source)
            return {found.name: found.columns}
        return dict.fromkeys(SCHEMAS, names)
    opened = ParquetFile if kind == "parquet" else RootFile
    seen = {}
    for schema in SCHEMAS.values():
        with contextlib.suppress(DataError):
            seen[schema.name] = opened(file, source, schema, batch_rows=1, tree=tree).columns
    return seen or None


def _without_header(row: Sequence[str], source: str) -> TableSchema:
    """Return the only layout without a header that fits the first row."""

    def fits(schema: TableSchema) -> bool:
        if len(row) != len(schema.columns) or not all(map(is_number, row)):
            return False
        return f"{float(row[schema.columns.index(schema.label)]):g}" in (schema.signal, schema.background)

    fitting = [schema for schema in SCHEMAS.values() if fits(schema)]
    if len(fitting) != 1:
        raise DataError(
            f"{source}: line 1 is not a header, and no built-in layout without one has {len(row)} columns and this "
            f"label; {_ADVICE}"
        )
    return fitting[0]
