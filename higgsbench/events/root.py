"""ROOT files: one TTree (or RNTuple) with one branch per column. Needs the extra `root` (uproot and awkward)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.errors import DataError, MissingExtraError
from higgsbench.events.check import check_columns, column_types
from higgsbench.events.columnar import as_layout

if TYPE_CHECKING:
    from pathlib import Path

    from higgsbench.schema import TableSchema

__all__ = ["TREE", "parse_root", "write_root"]

TREE = "events"
"""Name of the tree that is written, and preferred where a file holds several."""

_BLOCK = 1 << 17


def _uproot() -> Any:
    try:
        import awkward  # noqa: F401  (uproot writes and reads text branches through it)
        import uproot
    except ImportError as error:
        raise MissingExtraError("reading and writing ROOT files", "root") from error
    return uproot


def parse_root(file: Path, schema: TableSchema) -> pl.DataFrame:
    """Parse the event tree of a ROOT file.

    Text columns may be text branches or one character per event (`Char_t`).

    Raises:
        DataError: if the file is damaged, holds no tree of the layout or a value not of its column's type.
        MissingExtraError: if uproot is not installed.
    """
    uproot = _uproot()
    try:
        # The mapping keeps a colon in the path from being read as a path inside the file.
        with uproot.open({str(file): None}) as content:
            tree = _event_tree(content, schema, file)
            names = list(tree.keys())
            check_columns(names, schema, str(file))
            raw = pl.DataFrame([_series(name, tree[name].array(library="np"), file) for name in names])
    except DataError:
        raise
    except Exception as error:  # uproot lets the errors of struct, zlib, lz4 and its own interpreter through
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{file}: damaged or not a ROOT file of event columns: {reason}") from error
    text = [name for name, kind in column_types(schema).items() if kind == pl.String() and name in raw.columns]
    return as_layout(raw.with_columns(_characters(raw[name]) for name in text), schema, file)


def _event_tree(content: Any, schema: TableSchema, file: Path) -> Any:
    """Choose the tree named `events`, the only tree, or the only one with the first feature."""
    classes = content.classnames(recursive=True, cycle=False)
    trees = [name for name, kind in classes.items() if kind.startswith("TTree") or "RNTuple" in kind]
    if TREE in trees:
        return content[TREE]
    if len(trees) > 1:
        trees = [name for name in trees if schema.features[0] in content[name].keys()]  # noqa: SIM118
    if len(trees) != 1:
        found = ", ".join(sorted(classes)) or "nothing"
        raise DataError(f"{file}: no single tree of events (one named {TREE!r} would be taken); the file holds {found}")
    return content[trees[0]]


def _series(name: str, values: Any, file: Path) -> pl.Series:
    if values.ndim != 1 or (values.dtype == object and len(values) and not isinstance(values[0], str)):
        raise DataError(f"{file}: column {name}: a branch with several values per event; one number each is needed")
    if values.dtype == object:
        return pl.Series(name, values.tolist(), dtype=pl.String)
    return pl.Series(name, np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))


def _characters(column: pl.Series) -> pl.Series:
    """Turn a branch of single characters into text; leave everything else."""
    if column.dtype not in (pl.Int8, pl.UInt8) or column.is_in([0, 1]).all():
        return column
    codes = [chr(code) for code in range(256)]
    return pl.Series(column.name, [codes[int(code) & 255] for code in column.to_list()], dtype=pl.String)


def write_root(frame: pl.DataFrame, target: Path) -> None:
    """Write a table as TTree `events`, text columns as text branches.

    Args:
        frame: table without nulls.
        target: file to write; the caller makes the writing atomic.

    Raises:
        MissingExtraError: if uproot is not installed.
    """
    uproot = _uproot()
    import awkward

    text = awkward.Array(["s"]).type.content
    kinds = {name: text if kind == pl.String() else kind for name, kind in _numpy_types(frame).items()}
    with uproot.recreate(str(target)) as content:
        tree = content.mktree(TREE, kinds, title="higgsbench events")
        for start in range(0, frame.height, _BLOCK):
            block = frame.slice(start, _BLOCK)
            tree.extend({column.name: _branch(column, awkward) for column in block.iter_columns()})


def _numpy_types(frame: pl.DataFrame) -> dict[str, Any]:
    return {
        name: kind if kind == pl.String() else np.dtype(np.int64 if kind.is_integer() else np.float64)
        for name, kind in frame.schema.items()
    }


def _branch(column: pl.Series, awkward: Any) -> Any:
    if column.dtype != pl.String():
        return column.to_numpy()
    # The array is put together from its parts: awkward's own way from Python strings is ten times slower.
    letters = np.frombuffer("".join(column.to_list()).encode(), dtype=np.uint8)
    offsets = np.concatenate([[0], np.cumsum(column.str.len_bytes().to_numpy(), dtype=np.int64)])
    characters = awkward.contents.NumpyArray(letters, parameters={"__array__": "char"})
    index = awkward.index.Index64(offsets)
    return awkward.Array(awkward.contents.ListOffsetArray(index, characters, parameters={"__array__": "string"}))
