"""Samples: files of one process each; the layout of a file, and the columns that a layout computes from the file's."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from higgsbench.errors import ConfigError, DataError
from higgsbench.events.check import column_types, first_look, named_file, split_tree, told_column
from higgsbench.events.formats import ParquetFile, RootFile, converted
from higgsbench.events.text import header_names
from higgsbench.expressions import parse_expression
from higgsbench.files import printable
from higgsbench.schema import ATLAS_HIGGS, SCHEMAS, is_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from higgsbench.events.check import Place
    from higgsbench.events.formats import ColumnKinds
    from higgsbench.expressions import Expression
    from higgsbench.schema import TableSchema

SELECTED = "# selected"
"""Column that says whether an event passes the selection, if events that fail it are kept."""

_GLOB = re.compile(r"[*?[]")
_SINGLE = 1e38  # single precision holds numbers up to here


@dataclass(frozen=True)
class Sample:
    """Files of one process.

    Attributes:
        name: the event numbers are made from this and the columns `TableSchema.ids`.
        files: names of the files, `file.root:tree` for a tree.
        constants: columns of the layout with one value for the whole sample, such as the process.
        derived: expressions that replace those of the layout, such as the weight.
    """

    name: str
    files: tuple[str, ...] = ()
    constants: Mapping[str, str | float] = field(default_factory=dict)
    derived: Mapping[str, str] = field(default_factory=dict)


def matched_files(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the files that match names and patterns (`ntuples/ttbar_*.root:nominal`), sorted for each pattern.

    Raises:
        DataError: if a pattern matches no file.
    """
    found: list[str] = []
    for pattern in patterns:
        named, tree = split_tree(pattern)
        file = named.expanduser()
        if _GLOB.search(str(file)) and not file.exists():
            files = sorted(Path(file.anchor).glob(str(file.relative_to(file.anchor))))
            if not files:
                raise DataError(f"{named}: no file matches this pattern")
        else:
            files = [file]
        found += [str(name) if tree is None else f"{name}:{tree}" for name in files]
    return tuple(found)


class Recipe:
    """How to make the columns of a layout from those of one file.

    Attributes:
        made: columns of the layout that are constant or computed.
        read: columns of the file to read, with their types.
        vectors: the inputs to read from vector columns.
    """

    def __init__(
        self,
        schema: TableSchema,
        sample: Sample,
        columns: Sequence[str],
        wanted: Sequence[str],
        source: str,
        along: Sequence[str] = (),
    ) -> None:
        """Check the expressions against the columns of a file.

        Args:
            schema: the layout.
            sample: the sample that the file belongs to.
            columns: the columns of the file.
            wanted: columns of the layout that are to be read.
            source: name of the file, for messages.
            along: further columns of the file to read.

        Raises:
            DataError: naming the word at fault, if an expression cannot be computed from the columns.
        """
        self._schema, self._sample, self._source = schema, sample, source
        derived = {**schema.derived, **sample.derived}
        if schema.derived and schema.label not in (*columns, *derived, *sample.constants):
            wanted = [name for name in wanted if name != schema.weight]  # new events have neither label nor weight
        self._constants = {name: value for name, value in sample.constants.items() if name in wanted}

        def parsed(name: str, text: str) -> Expression:
            try:
                return parse_expression(text, columns, f"{source}: {name}: {text}")
            except ConfigError as error:
                raise DataError(str(error)) from error

        used = [name for name in wanted if name in derived and name not in self._constants]
        self._derived = {name: parsed(name, derived[name]) for name in used}
        self._select = None if schema.select is None else parsed("select", schema.select)
        self._ids = schema.ids if schema.event_id in wanted else ()
        for name in self._ids:
            if name not in columns:
                raise DataError(f"{source}: no column {name}, which identifies the events (`id`)")
        numbers = (schema.event_id,) if self._ids and schema.event_id else ()
        self.made = (*self._constants, *self._derived, *numbers)

        expressions = [*self._derived.values(), *([] if self._select is None else [self._select])]
        leaves = dict.fromkeys(leaf for expression in expressions for leaf in expression.leaves)
        self._leaves = [leaf.name for leaf in leaves]
        self.vectors = tuple(leaf for leaf in leaves if leaf.what is not None)
        self._kinds = kinds = column_types(schema)
        plain: dict[str, pl.DataType | None] = {n: kinds[n] for n in wanted if n in columns and n not in self.made}
        for name in (*(leaf.branch for leaf in leaves if leaf.what is None), *self._ids, *along):
            if plain.get(name, pl.Float64()) == pl.Float64():
                plain[name] = None  # a whole number may have more digits than a float64
        self.read: ColumnKinds = plain

    def apply(self, raw: pl.DataFrame, place: Place, *, mark: bool) -> tuple[pl.DataFrame, Place]:
        """Add the constant and computed columns, and leave out events that are not selected.

        Args:
            raw: columns of the file.
            place: their position in the file.
            mark: whether to keep all events and add the column `SELECTED`.
        """
        if not (self.made or self._select is not None or mark):
            return raw, place
        leaves = [present(pl.col(name), self._schema) for name in self._leaves]
        if self._select is not None:
            selected = raw.select(leaves).select(self._select.holds).to_series().alias(SELECTED)
            if mark:
                raw = raw.with_columns(selected)
            elif not selected.all():
                raw = raw.filter(selected)
                place = replace(place, rows=np.flatnonzero(selected.to_numpy()))
        elif mark:
            raw = raw.with_columns(pl.lit(True).alias(SELECTED))
        kinds = self._kinds
        found = raw.select(leaves).select(value.polars.alias(name) for name, value in self._derived.items())
        texts = self._schema.categories
        made = [
            converted(one, kinds[one.name], place, text=one.name in texts, told=told_column(one.name, self._schema))
            for one in found
        ]
        constant = [pl.lit(value, kinds[name]).alias(name) for name, value in self._constants.items()]
        if self._ids and self._schema.event_id:
            numbers = event_numbers(self._sample.name, [raw[name] for name in self._ids], place)
            made.append(numbers.alias(self._schema.event_id))
        return raw.with_columns(*made, *constant), place


def present(column: pl.Expr, schema: TableSchema) -> pl.Expr:
    """Return a column of numbers with the layout's sentinel, also when rounded to single precision, as null."""
    if schema.missing is None:
        return column
    if schema.missing != schema.missing:
        return pl.when(~column.is_nan()).then(column)
    single = float(np.float32(schema.missing)) if abs(schema.missing) < _SINGLE else schema.missing
    absent = column == schema.missing
    return pl.when(~(absent if single == schema.missing else absent | (column == single))).then(column)


def event_numbers(sample: str, ids: Sequence[pl.Series], place: Place) -> pl.Series:
    """Make one number from a sample's name and the numbers that identify an event in it.

    The result is 63 bits of the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). The numbers of a billion
    events all differ with a probability of 95%, those of ten million with 99.9995%.

    Args:
        sample: the name.
        ids: columns of n whole numbers.
        place: their position in the file, for messages.

    Returns:
        (n,) numbers from 0 to 2^63 - 1, the same in all versions and on all machines.

    Raises:
        DataError: for an identifier that is missing or not a whole number.
    """
    start = int.from_bytes(hashlib.sha256(sample.encode()).digest()[:8], "little")
    state: NDArray[np.uint64] = np.full(len(ids[0]), start, dtype=np.uint64)
    for column in ids:
        if column.null_count():
            raise place.fault(int(column.is_null().arg_max() or 0), f", column {column.name}: empty; it is the `id`")
        whole = column if column.dtype == pl.UInt64() else converted(column, pl.Int64(), place)
        state = mixed(state ^ mixed(whole.to_numpy().view(np.uint64)))
    return pl.Series((state >> np.uint64(1)).view(np.int64))


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return whole numbers that look random, on every machine the same (Steele, Lea and Flood, OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)  # wraps around on purpose
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


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
