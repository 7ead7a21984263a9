"""Parquet and ROOT files, read in parts."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import polars as pl
import polars.selectors as cs

from higgsbench.errors import DataError, HiggsbenchError, MissingExtraError
from higgsbench.events.check import Place, check_table_size
from higgsbench.files import no_panic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.expressions import Leaf
    from higgsbench.schema import TableSchema

TREE = "events"  # name of the tree that is written, and preferred where a file holds several
_SMALL = (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)
_NUMBER_TYPE = re.compile(r"(std::)?(u?int(8|16|32|64)(_t)?|float(32|64)?|double|bool|Float16_t|Double32_t)")
_FIRST_SENTENCE = re.compile(r"(?<=,)\s*\n\s*")  # line breaks that do not end it
_OPERATIONS = {"sum": np.add, "mean": np.add, "max": np.maximum, "min": np.minimum}

ColumnKinds: TypeAlias = "Mapping[str, pl.DataType | None]"
"""Columns to read, with their types; None for any number, without converting whole numbers."""
Part = TypeVar("Part")


class _TypedFile(ABC):
    """A file whose columns have their own types; `columns` are their names, in file order."""

    kind: str

    def __init__(
        self, file: Path, source: str, schema: TableSchema, *, batch_rows: int, tree: str | None = None
    ) -> None:
        """Read the names of the columns; refuse a file that is damaged or does not hold one table."""
        self._file, self._source, self._schema, self._batch_rows = file, source, schema, batch_rows
        self._named_tree = tree
        self.kinds: dict[str, pl.DataType] = {}  # of the columns read, known from the first part on
        with self._errors():
            self.columns = self._names()

    @abstractmethod
    def _names(self) -> tuple[str, ...]: ...

    @abstractmethod
    def _numbers(self) -> tuple[str, ...]: ...

    @abstractmethod
    def _tables(self, read: Sequence[str], vectors: Sequence[Leaf]) -> Iterator[pl.DataFrame]: ...

    @abstractmethod
    def _head(self, rows: int) -> pl.DataFrame: ...

    def head(self, rows: int) -> pl.DataFrame:
        """Return the first rows of the columns of numbers, text and vectors; those of vectors are lists."""
        with self._errors():
            return self._head(rows)

    def numbers(self) -> tuple[str, ...]:
        """Return the columns that hold one number or boolean per event."""
        with self._errors():
            return self._numbers()

    def parts(
        self, read: ColumnKinds, finish: Callable[[pl.DataFrame, Place], Part], vectors: Sequence[Leaf] = ()
    ) -> Iterator[Part]:
        """Read the file from its start, as `TextFile.parts` does, with elements and summaries of vector columns.

        Refuse values of the wrong type.
        """
        row = 0
        texts = {self._schema.label, self._schema.process, *self._schema.categories}  # may be numbers in the file

        def finished(raw: pl.DataFrame, place: Place) -> Part:
            self.kinds = dict(raw.schema)
            table = [converted(c, read.get(c.name), place, text=c.name in texts) for c in raw]
            return finish(pl.DataFrame(table), place)

        with self._errors(), ThreadPoolExecutor(1) as thread:
            waiting: Future[Part] | None = None
            for raw in self._tables(list(read), vectors):
                # A part is checked while the next one is read.
                following = thread.submit(finished, raw, Place(self._source, row))
                row += raw.height
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with no_panic():
                yield
        except HiggsbenchError:
            raise
        except Exception as error:  # uproot lets the errors of struct, zlib, lz4 and its own interpreter through
            reason = _FIRST_SENTENCE.sub(" ", str(error).strip()).partition("\n")[0] or type(error).__name__
            raise DataError(f"{self._source}: damaged or not {self.kind}: {reason}") from error


class ParquetFile(_TypedFile):
    """A Parquet file."""

    kind = "a Parquet file"

    def _names(self) -> tuple[str, ...]:
        return tuple(pl.read_parquet_schema(self._file))

    def _numbers(self) -> tuple[str, ...]:
        kinds = pl.read_parquet_schema(self._file)
        return tuple(name for name, kind in kinds.items() if kind.is_numeric() or kind == pl.Boolean())

    def _head(self, rows: int) -> pl.DataFrame:
        table = pl.scan_parquet(self._file.absolute(), glob=False, hive_partitioning=False).head(rows)
        numbers = cs.numeric() | cs.boolean()
        texts = table.with_columns((cs.categorical() | cs.enum()).cast(pl.String))
        return texts.select(numbers | cs.string() | cs.list(numbers) | cs.array(numbers)).collect()

    def _tables(self, read: Sequence[str], vectors: Sequence[Leaf]) -> Iterator[pl.DataFrame]:
        table = pl.scan_parquet(self._file.absolute(), glob=False, hive_partitioning=False)
        rows = int(table.select(pl.len()).collect().item())
        names = list(dict.fromkeys([*read, *(leaf.branch for leaf in vectors)]))
        check_table_size(self._file, self._source, rows, len(names))
        for part in table.select(names).collect_batches(chunk_size=self._batch_rows, maintain_order=True):
            of_vectors = [_of_vector(leaf, *self._elements(part[leaf.branch])) for leaf in vectors]
            yield part.select(read).hstack(of_vectors)

    def _elements(self, column: pl.Series) -> tuple[NDArray[Any], NDArray[Any]]:
        if isinstance(column.dtype, pl.Array):
            column = column.arr.to_list()
        if not (isinstance(column.dtype, pl.List) and _is_number(column.dtype.inner)):
            raise _not_a_vector(self._source, column.name)
        counts = column.list.len().fill_null(0).cast(pl.Int64)
        elements = column.filter(counts > 0).explode().cast(pl.Float64)
        return np.append(0, np.cumsum(counts.to_numpy())), elements.fill_null(float("nan")).to_numpy()


class RootFile(_TypedFile):
    """The event tree of a ROOT file; text columns are text branches or one character per event (`Char_t`)."""

    kind = "a ROOT file of event columns"

    @contextmanager
    def _tree(self) -> Iterator[Any]:
        """Yield the tree that was named; otherwise `events`, the only tree, or the only one with the first column."""
        with _content(self._file) as content:
            trees = _trees(content)
            found = f"the file holds {', '.join(sorted(trees or content.keys(cycle=False))) or 'nothing'}"
            if self._named_tree is not None:
                if self._named_tree not in trees:
                    raise DataError(f"{self._source}: no tree {self._named_tree!r}; {found}")
                trees = [self._named_tree]
            elif TREE in trees:
                trees = [TREE]
            elif len(trees) > 1:
                read = [name for name in self._schema.features if name not in self._schema.derived]
                trees = [name for name in trees if read and read[0] in content[name]]
            if len(trees) != 1:
                raise DataError(
                    f"{self._source}: the tree of events is ambiguous or missing; {found}. "
                    f"Name the tree, as in {self._source}:{TREE}"
                )
            yield content[trees[0]]

    def _names(self) -> tuple[str, ...]:
        with self._tree() as tree:
            return tuple(tree.keys())

    def _numbers(self) -> tuple[str, ...]:
        with self._tree() as tree:
            return tuple(name for name in self.columns if _NUMBER_TYPE.fullmatch(str(tree[name].typename)))

    def _head(self, rows: int) -> pl.DataFrame:
        with self._tree() as tree:
            return pl.DataFrame([_first(tree[name], name=name, rows=rows) for name in self.columns])

    def _tables(self, read: Sequence[str], vectors: Sequence[Leaf]) -> Iterator[pl.DataFrame]:
        with self._tree() as tree:
            check_table_size(self._file, self._source, tree.num_entries, len(read) + len(vectors))
            # NumPy reads single numbers faster than Awkward, which reads vectors.
            wanted = {"np": set(read), "ak": {leaf.branch for leaf in vectors}}
            parts = [
                tree.iterate(filter_name=names.__contains__, step_size=self._batch_rows, library=library)
                for library, names in wanted.items()
                if names
            ]
            for found in zip(*parts, strict=True):
                scalars = [self._series(found[0][name], name=name) for name in read]
                elements = {name: self._elements(found[-1][name], name=name) for name in wanted["ak"]}
                yield pl.DataFrame([*scalars, *(_of_vector(leaf, *elements[leaf.branch]) for leaf in vectors)])

    def _series(self, values: Any, *, name: str) -> pl.Series:
        if values.ndim != 1 or (values.dtype == object and len(values) and not isinstance(values[0], str)):
            raise DataError(
                f"{self._source}: column {name}: this branch has several values per event; it must have one number per "
                f"event, or write {name}[0], len({name}) or sum({name})"
            )
        if values.dtype == object:
            return pl.Series(name, values.tolist(), dtype=pl.String)
        text = name in (self._schema.label, self._schema.subset, self._schema.process)
        if text and values.dtype.itemsize == 1 and not np.isin(values, (0, 1)).all():  # characters
            codes = np.array([chr(code) for code in range(256)], dtype=object)
            return pl.Series(name, codes[values.view(np.uint8)].tolist(), dtype=pl.String)
        return pl.Series(name, np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))

    def _elements(self, values: Any, *, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        import awkward

        if values.ndim != 2 or not _NUMBER_TYPE.fullmatch(str(awkward.to_layout(values).form.type.content)):
            raise _not_a_vector(self._source, name)
        lists = awkward.to_layout(values).to_ListOffsetArray64()
        offsets = lists.offsets.data
        return offsets, np.asarray(lists.content.data)[: offsets[-1]]


def _content(file: Path) -> Any:
    uproot = uproot_module()
    # The mapping keeps a colon in the path from being read as a path inside the file. One thread reads a local file
    # with less effort than uproot's default; a memory map would let the resident memory grow with the file.
    return uproot.open({str(file): None}, handler=uproot.MultithreadedFileSource, num_workers=1)


def _trees(content: Any) -> list[str]:
    kinds = content.classnames(recursive=True, cycle=False)
    return [name for name, kind in kinds.items() if kind.startswith("TTree") or "RNTuple" in kind]


def event_trees(file: Path) -> dict[str, int]:
    """Return the trees of a ROOT file and how many events each has; errors of a damaged file are those of uproot."""
    with _content(file) as content:
        return {name: int(content[name].num_entries) for name in _trees(content)}


def _first(branch: Any, *, name: str, rows: int) -> pl.Series:
    """Return the first values of a branch; lists of nulls where it holds several values per event."""
    values = branch.array(entry_stop=rows, library="np")
    text = values.dtype == object and len(values) > 0 and isinstance(values[0], str)
    if values.ndim != 1 or (values.dtype == object and not text):
        return pl.Series(name, [None] * len(values), dtype=pl.List(pl.Null))
    native = values.tolist() if text else np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return pl.Series(name, native)


def _not_a_vector(source: str, name: str) -> DataError:
    return DataError(f"{source}: column {name} does not hold a vector of numbers per event")


def _is_number(kind: object) -> bool:
    return isinstance(kind, pl.DataType) and (kind.is_numeric() or kind == pl.Boolean())


def _of_vector(leaf: Leaf, offsets: NDArray[Any], elements: NDArray[Any]) -> pl.Series:
    """Return an element or summary of each event's vector, which begins at its offset in the array of all elements."""
    first, counts = offsets[:-1], np.diff(offsets)
    if leaf.what == "len":
        return pl.Series(leaf.name, counts.astype(np.int64))
    value = np.zeros(counts.size) if leaf.what == "sum" else np.full(counts.size, np.nan)
    if isinstance(leaf.what, int):
        if elements.size:
            value = elements.take(first + leaf.what, mode="clip")
            value = value if value.dtype.kind == "f" else value.astype(np.float64)
        np.putmask(value, counts <= leaf.what, np.nan)
    elif (there := counts > 0).any():
        operation = _OPERATIONS[str(leaf.what)]
        value[there] = operation.reduceat(elements.astype(np.float64, copy=False), first[there])
        if leaf.what == "mean":
            value[there] /= counts[there]
    return pl.Series(leaf.name, value, nan_to_null=True)


def converted(
    column: pl.Series, wanted: pl.DataType | None, place: Place, *, text: bool = False, told: str = ""
) -> pl.Series:
    """Convert a column to the layout's type if this changes no value; for Float64 or None, numbers stay as they are.

    Messages call it `told`, by default the column and its name.
    """
    if column.dtype == pl.Boolean():
        column = column.cast(pl.Int8)
    numeric = column.dtype.is_numeric()
    # A label or category written as a number is compared in its text form.
    if numeric == (wanted == pl.String()) and not (numeric and text):
        raise DataError(f"{place.source}: column {column.name} has type {column.dtype}, expected {wanted or 'numbers'}")
    if wanted in (None, pl.Float64()) or column.dtype == wanted:
        return column
    if wanted == pl.Int64() and column.dtype in _SMALL:
        return column.cast(wanted)
    cast = column.cast(wanted, strict=False)
    lost = cast.is_null() & column.is_not_null()
    if wanted == pl.Int64() and column.dtype.is_float():
        lost = lost | (cast.cast(pl.Float64) != column).fill_null(False)
    if lost.any():
        row = int(lost.arg_max() or 0)
        large = " of at most 9223372036854775807; renumber the events" if column.dtype.is_integer() else ""
        told = told or f"column {column.name}"
        raise place.fault(row, f", {told}: {column[row]!r} is not a whole number{large}")
    return cast


def uproot_module() -> Any:
    """Return the module uproot; a MissingExtraError names the extra that installs it."""
    try:
        import_module("awkward")  # uproot writes and reads text branches through it
        import uproot
    except ImportError as error:
        raise MissingExtraError("reading and writing ROOT files", "root") from error
    return uproot
