"""What an event file must be: a file of a known format, with the columns and values of its layout.

Each check raises a `DataError` that names the file and the first row and column at fault.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import polars as pl

from higgsbench.errors import DataError, nearest_hint
from higgsbench.files import printable, told_plainly
from higgsbench.schema import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from higgsbench.schema import TableSchema

Format: TypeAlias = Literal["text", "gzip", "parquet", "root"]

OF_SAMPLES = "samples"
"""Name of the layout that `data.samples` describes."""
HARMLESS = 1 << 28  # bytes that a file may unpack to, whatever its size
MOST_TIMES = 100  # text of events compresses to about a third, repeated columns to a tenth, zeros to a thousandth
_LARGEST = 1e30  # squares of larger values overflow in single precision; no momentum, mass or weight comes near
_TOO_LARGE = "larger than any measured value or weight can be (1e+30)"
# A web address, also one that lost a slash when it became a path; drives of Windows have one letter.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(.+)")
_OTHER_FORMATS = (
    (rb"PK\x03\x04", "a zip archive; unpack it first"),
    (rb"BZh[1-9]1AY", "compressed with bzip2; unpack it first, or compress it with gzip instead"),
    (rb"\xfd7zXZ", "compressed with xz; unpack it first, or compress it with gzip instead"),
    (rb"\x28\xb5\x2f\xfd", "compressed with Zstandard; unpack it first, or compress it with gzip instead"),
    (rb"ARROW1\x00|FEA1\x00|\xff\xff\xff\xff", "an Arrow or Feather file; write it as Parquet (pandas: to_parquet)"),
    (rb"\x89HDF", "an HDF5 file; write its table as Parquet (pandas: to_parquet)"),
)
_PANDAS_INDEX = ("", "Unnamed: 0", "__index_level_0__")


@dataclass(frozen=True)
class Place:
    """Where the rows of one part of a file are in it, so that messages can name them."""

    source: str  # name of the file
    first_row: int = 0  # position of the part's first row in the file
    line: int | None = None  # number of that row's line, None for files that are not text
    below: NDArray[np.int64] | None = None  # (n,) how many lines each row is below it; None where every row is one line
    rows: NDArray[np.int64] | None = None  # (m,) rows of the part that were kept; None for all

    def row(self, row: int) -> str:
        """Name a row of the part: rows count from 1 without the header, lines as an editor counts them."""
        row = row if self.rows is None else int(self.rows[row])
        number = f"row {self.first_row + row + 1}"
        if self.line is None:
            return number
        return f"{number} (line {self.line + (row if self.below is None else int(self.below[row]))})"

    def fault(self, row: int, what: str) -> DataError:
        """Return the error for something wrong in a row; `what` begins with its punctuation."""
        return DataError(f"{self.source}: {self.row(row)}{what}")


_TREE_OF = re.compile(r"(.+\.root):([^:]+)", re.IGNORECASE | re.DOTALL)


def split_tree(path: str | Path) -> tuple[Path, str | None]:
    """Split `file.root:tree` into the file and the name of the tree, None if the path names only a file."""
    found = _TREE_OF.fullmatch(str(path))
    return (Path(path), None) if found is None else (Path(found[1]), found[2])


def named_file(path: object) -> tuple[Path, str | None]:
    """Return the file and the tree that a path names."""
    if not isinstance(path, (str, os.PathLike)):
        raise DataError(f"path: expected the name of a file, got {str(path)[:60]!r} (a {type(path).__name__})")
    if path == "":
        raise DataError("the file name is empty")
    whole = Path(path).expanduser()
    return (whole, None) if whole.exists() else split_tree(whole)


_NOT_TEXT = {".root": "ROOT", ".parquet": "Parquet"}  # a text with such a name is a mistake or an error page


def first_look(file: Path, wanted: str = "an event file") -> Format:
    """Return the format of a file, in messages `wanted`, by its first bytes; the cost does not depend on its size."""
    name = printable(file)
    _must_be_file(file, name, wanted)
    with told_plainly(DataError, name, "read"), file.open("rb") as stream:
        magic = stream.read(8)
        stream.seek(0 if magic == b"" else -1, 2)
        last = stream.read(1)
    if magic == b"":
        raise DataError(f"{name}: the file is empty")
    for pattern, advice in _OTHER_FORMATS:
        if re.match(pattern, magic):
            raise DataError(f"{name}: {advice}")
    # A ROOT file continues with a big-endian version number; a text may begin with the word.
    if magic[:5] == b"root\x00":
        return "root"
    if magic[:4] == b"PAR1":
        return "parquet"
    if (kind := _NOT_TEXT.get(file.suffix.lower())) is not None:
        raise DataError(f"{name}: not a {kind} file; rename it if it is CSV")
    if magic[:2] == b"\x1f\x8b":
        return "gzip"
    # What begins with another byte is not text.
    if last == b"\x00" and b"\x00" < magic[:1] < b"\x80":
        raise DataError(f"{name}: it ends with NUL bytes: the file was cut off while it was written")
    return "text"


def _must_be_file(file: Path, name: str, wanted: str) -> None:
    with told_plainly(DataError, name, "read"):
        there, is_link = file.exists(), file.is_symlink()
    if there and file.is_file():
        return
    what = "a link to a file that does not exist" if is_link else "no such file"
    if there:
        what = f"{'a folder' if file.is_dir() else 'a device or pipe'}, not {wanted}"
    elif address := _ADDRESS.fullmatch(name):
        name = f"{address[1]}://{address[2]}"
        what = "an address, not a file; download it first (`higgsbench data fetch` brings the official file)"
    raise DataError(f"{name}: {what}")


def check_table_size(file: Path, source: str, rows: int, columns: int) -> None:
    """Refuse a columnar file that states far more values than its size can hold."""
    size = file.stat().st_size
    if 8 * rows * columns > max(HARMLESS, 10 * MOST_TIMES * size):
        raise DataError(
            f"{source}: {rows:,} rows in {size:,} bytes: refused, because the file would exhaust the memory"
        )


def column_types(schema: TableSchema) -> dict[str, pl.DataType]:
    """Return the type of every column a file of this layout may have, in file order."""
    kinds = dict.fromkeys(schema.integers, pl.Int64()) | dict.fromkeys(schema.categories, pl.String())
    named = (
        (schema.event_id, pl.Int64()),
        *((name, kinds.get(name, pl.Float64())) for name in schema.features),
        (schema.group, pl.Int64()),
        (schema.fold, pl.Int64()),
        (schema.weight, pl.Float64()),
        (schema.label, pl.String()),
        (schema.subset, pl.String()),
        (schema.subset_weight, pl.Float64()),
        (schema.process, pl.String()),
    )
    types: dict[str, pl.DataType] = {}
    for name, kind in named:
        if name:
            types.setdefault(name, kind)  # the group may be a feature
    return types


def without_truth(schema: TableSchema) -> tuple[str, ...]:
    """Return the columns that new events are scored by: all except label, process and weights."""
    truth = (schema.label, schema.weight, schema.subset_weight, schema.process)
    return tuple(name for name in column_types(schema) if name not in truth)


def truth_columns(schema: TableSchema) -> tuple[str, ...]:
    """Return the columns that scoring a selection needs: event numbers, labels, weights, subsets and processes."""
    known = (schema.event_id, schema.label, schema.weight, schema.subset, schema.subset_weight, schema.process)
    return tuple(name for name in known if name is not None)


def check_columns(header: Sequence[str], schema: TableSchema, source: str, read: Collection[str] | None = None) -> None:
    """Check a header: every needed column once, no unknown column unless the layout allows it.

    What is wrong with a column of the layout that is not among `read` (all when None) does not matter.
    """
    known = list(column_types(schema))
    read = known if read is None else read
    for place, name in enumerate(header):
        if name in read and name in header[:place]:
            raise DataError(f"{source}: column {name} appears twice in the header")
        if name not in known and not schema.ignore_unknown:
            hint = f"{nearest_hint(name, [k for k in known if k not in header])}; the layout is {schema.name}"
            if name in _PANDAS_INDEX:
                hint = ", the index of a pandas table; write the file without it (`index=False`)"
            raise DataError(f"{source}: unknown column {name[:60]!r}{hint}")
    needed = dict.fromkeys((*schema.features, schema.event_id or "", schema.group or "", schema.fold or ""))
    missing = [name for name in needed if name in read and name not in header]
    if missing and schema.name == OF_SAMPLES:
        name = missing[0]
        key = "group" if name == schema.group else "categorical" if name in schema.categories else "features"
        raise DataError(f"{source}: no column {name!r}{nearest_hint(name, header)}, which `data.{key}` names")
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{source}: missing {'column' if len(missing) == 1 else 'columns'} {', '.join(missing[:3])}{more}; "
            f"the layout {schema.name} needs {sum(name in read for name in needed)} columns"
        )
    for have, lack in ((schema.label, schema.weight), (schema.weight, schema.label)):
        if lack in read and have in read and have in header and lack not in header:
            raise DataError(
                f"{source}: column {have} without column {lack}; labelled events need both, test events neither"
            )


def _rules(frame: pl.DataFrame, schema: TableSchema) -> Iterator[tuple[str, pl.Expr, str]]:
    """Yield (column, expression that is true for a bad value, what is wrong)."""
    for name, kind in frame.schema.items():
        column = pl.col(name)
        if kind == pl.Float64():
            yield name, ~(column.abs() <= _LARGEST), _TOO_LARGE  # NaN compares as above every number
        if name not in schema.features or name in schema.integers:
            yield name, column.is_null(), "empty"
        if name in (schema.weight, schema.subset_weight) and not schema.negative_weights:
            yield name, column <= 0.0, "a positive weight"
        if name == schema.label and schema.background is not None:
            allowed = [schema.signal, schema.background]
            yield name, ~column.is_in(allowed), f"{schema.signal!r} or {schema.background!r}"
        elif name == schema.subset and schema.subset_values:
            yield name, ~column.is_in(list(schema.subset_values)), f"one of {', '.join(schema.subset_values)}"
        elif name == schema.group:
            yield name, column < 0, "a group number of 0 or more"


def told_column(name: str, schema: TableSchema) -> str:
    """Name a column in a message, with its expression if it is computed; the user wrote that of the fold as a key."""
    text = schema.derived.get(name, name)
    if name == schema.fold:
        return f"folds.by: {text}"
    return f"column {name}" if text == name else f"column {name} = {text}"


def check_content(frame: pl.DataFrame, schema: TableSchema, place: Place) -> None:
    """Check the values of one part, its sentinels replaced by null, which is allowed in a measured feature."""
    rules = list(_rules(frame, schema))
    counts = frame.select([bad.any().alias(str(i)) for i, (_, bad, _) in enumerate(rules)]).row(0)
    for broken, (name, bad, what) in zip(counts, rules, strict=True):
        if broken:
            row = frame.select(bad.fill_null(False).arg_max()).item()
            raise place.fault(row, f", {told_column(name, schema)}: {_described(frame[name][row], what, name, schema)}")
    if schema.event_id is not None and schema.event_id in frame.columns:
        check_distinct(frame[schema.event_id], schema, place.source, place.row)


def _described(value: object, what: str, column: str, schema: TableSchema) -> str:
    """Say what was found and expected, and what to do about it where that is known."""
    if value is None:
        return what
    if what == _TOO_LARGE:
        if isinstance(value, float) and math.isfinite(value):
            return f"found {value!r}, {what}"
        what = "a finite number"
    advice = ""
    if column == schema.label:
        own = schema.name not in SCHEMAS
        advice = "; describe other labels in a custom layout (`data.schema` with `signal` and `background`)"
        advice = "; the labels are `signal` and `background` of the layout" if own else advice
    elif "positive" in what:
        zero, negative = "leave out events of zero weight", "a custom layout can allow them with `negative_weights`"
        if schema.name == OF_SAMPLES:
            negative = "choose `data.negative_weights`: resample, drop, absolute or zero"
        advice = f"; {zero if value == 0 else negative}"
    return f"found {value!r}, expected {what}{advice}"


def check_distinct(ids: pl.Series, schema: TableSchema, source: str, row_name: Callable[[int], str]) -> None:
    """Check that every event number is unique; `row_name` names a row by its position."""
    if ids.n_unique() == len(ids):
        return
    row = int((~ids.is_first_distinct()).arg_max() or 0)
    first = row_name(int((ids == ids[row]).arg_max() or 0))
    if schema.ids:
        columns = f"the column{'s' if len(schema.ids) > 1 else ''} {', '.join(schema.ids)}"
        raise DataError(f"{source}: {row_name(row)}: the same event as {first} by {columns}; events must be unique")
    raise DataError(
        f"{source}: {row_name(row)}, column {schema.event_id}: {ids[row]} already occurs in {first}; event numbers "
        "must be unique"
    )
