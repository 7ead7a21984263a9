"""One reader for every format: CSV, gzip, Parquet and ROOT, small and large, whole and in parts, give the same."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import DataError
from higgsbench.events import Events, EventStream, load_events, open_events
from higgsbench.events.cache import StoredEvents
from higgsbench.events.check import truth_columns, without_truth
from higgsbench.schema import ATLAS_HIGGS, TableSchema

LAYOUT = TableSchema(
    "own", ("x", "y"), "label", weight="w", event_id="id", group="jets", missing=-99.9, ignore_unknown=True
)
READ = ["id", "x", "y", "jets", "w", "label"]
FORMATS = [".csv", ".csv.gz", ".parquet", ".root"]
SMALL, LARGE = 700, 150_000
"""Events of a small file and of one of more than 8 MiB of text, which is more than one block."""


def frame(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(rows)
    x = np.where(rng.random(rows) < 0.1, -99.9, rng.normal(size=rows))
    return pl.DataFrame(
        {
            "comment": ['a, "b"\nand c' if i % 9 == 0 else f"event {i}" for i in range(rows)],
            "id": np.arange(rows) * 3,
            "x": x,
            "flag": rng.random(rows) < 0.5,
            "y": rng.normal(size=rows),
            "vector": [[1.0, 2.0][: i % 3] for i in range(rows)],
            "jets": rng.integers(0, 4, rows),
            "w": rng.uniform(0.5, 1.0, rows),
            "label": np.where(rng.random(rows) < 0.3, "s", "b"),
        }
    )


def as_text(table: pl.DataFrame) -> bytes:
    if "vector" in table.columns:
        table = table.with_columns(pl.Series("vector", [str(list(v)) for v in table["vector"]]))
    return table.write_csv().encode()


def write_root(table: pl.DataFrame, file: Path) -> None:
    uproot = pytest.importorskip("uproot")
    import awkward

    texts = awkward.Array(["s"]).type.content
    kinds: dict[str, Any] = {name: table[name].to_numpy().dtype for name in table.columns}
    kinds |= {name: texts for name in ("comment", "label") if name in kinds}
    branches: dict[str, Any] = {name: table[name].to_numpy() for name in table.columns}
    branches |= {name: awkward.Array(table[name].to_list()) for name in ("comment", "label") if name in kinds}
    if "vector" in kinds:
        kinds["vector"], branches["vector"] = "var * float64", awkward.Array(table["vector"].to_list())
    with uproot.recreate(file) as content:
        content.mktree("tree", kinds).extend(branches)


def written(table: pl.DataFrame, folder: Path, ending: str) -> Path:
    file = folder / f"events{ending}"
    if ending == ".parquet":
        table.write_parquet(file)
    elif ending == ".root":
        write_root(table, file)
    else:
        text = as_text(table)
        file.write_bytes(text if ending == ".csv" else gzip.compress(text, 1))
    return file


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def opened(file: Path) -> Events:
    return open_events(file, LAYOUT, large=0)


def streamed(file: Path) -> pl.DataFrame:
    return pl.concat(list(EventStream(file, LAYOUT, block_bytes=700, batch_rows=60).batches()))


def faults(file: Path) -> set[str]:
    """Return what each way to read a file says is wrong with it."""
    ways: list[Callable[[], object]] = [
        lambda: load_events(file, LAYOUT, cache=False),
        lambda: opened(file),
        lambda: streamed(file),
    ]
    found = set()
    for read in ways:
        with pytest.raises(DataError) as caught:
            read()
        found.add(str(caught.value).removeprefix(f"{file}: "))
    return found


@pytest.mark.parametrize("rows", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)])
@pytest.mark.parametrize("ending", FORMATS)
def test_columns_that_are_not_read_are_ignored(tmp_path: Path, ending: str, rows: int) -> None:
    """Text with commas, quotes and newlines, vectors and booleans, where the layout does not name them."""
    table = frame(rows)
    file = written(table, tmp_path, ending)
    events, stored = load_events(file, LAYOUT, cache=False), opened(file)
    expected = table.select("id", "x", "y", "jets", "w", "label").with_columns(
        x=pl.when(pl.col("x") != -99.9).then("x")
    )
    assert events.frame.equals(expected)
    assert isinstance(stored, StoredEvents)
    assert pl.concat(list(stored.batches())).equals(expected)
    assert events.digest == stored.digest
    if rows == SMALL:
        assert streamed(file).equals(expected)
    parts = EventStream(file, LAYOUT, columns=without_truth(LAYOUT)).batches()
    assert pl.concat(list(parts)).equals(expected.select("id", "x", "y", "jets"))


@pytest.mark.parametrize("kind", [pl.Float32, pl.Float64])
@pytest.mark.parametrize("ending", [".parquet", ".root"])
def test_a_sentinel_that_single_precision_cannot_hold(tmp_path: Path, ending: str, kind: Any) -> None:
    table = frame(SMALL).with_columns(pl.col("x").cast(kind))
    file = written(table, tmp_path, ending)
    missing = (table["x"] + 99.9).abs() < 1e-4
    for events in (load_events(file, LAYOUT, cache=False), opened(file)):
        assert pl.concat(list(events.batches()))["x"].is_null().equals(missing, check_names=False)
    text = written(table.with_columns(pl.col("x").cast(pl.Float64)), tmp_path, ".csv")
    assert load_events(text, LAYOUT, cache=False).frame["x"].is_null().sum() == missing.sum()


def test_a_sentinel_beyond_single_precision(tmp_path: Path) -> None:
    layout = TableSchema("own", ("x",), "label", missing=1e300)
    pl.DataFrame({"x": [1e300, 1.0], "label": ["s", "b"]}).write_parquet(tmp_path / "a.parquet")
    assert load_events(tmp_path / "a.parquet", layout, cache=False).frame["x"].to_list() == [None, 1.0]


CELLS: list[tuple[str, str, Any, str]] = [
    ("label", "label", "q", "column label: found 'q', expected 's' or 'b'; the labels are `signal`"),
    ("zero weight", "w", 0.0, "column w: found 0.0, expected a positive weight; leave out events of zero weight"),
    ("negative weight", "w", -1.0, "column w: found -1.0, expected a positive weight; a custom layout"),
    ("infinite", "y", float("inf"), "column y: found inf, expected a finite number"),
    ("group", "jets", -1, "column jets: found -1, expected a group number of 0 or more"),
]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(("column", "value", "message"), [c[1:] for c in CELLS], ids=[c[0] for c in CELLS])
def test_every_way_to_read_says_the_same(tmp_path: Path, ending: str, column: str, value: Any, message: str) -> None:
    """The row counts events; the line counts the newlines inside quoted cells, too."""
    table = frame(60)
    table = table.with_columns(pl.when(pl.int_range(60) == 40).then(pl.lit(value)).otherwise(column).alias(column))
    (fault,) = faults(written(table, tmp_path, ending))
    line = " (line 47)" if ending.startswith(".csv") else ""  # header, 40 rows above, 5 newlines in them
    assert fault.startswith(f"row 41{line}, {message}"), fault


@pytest.mark.parametrize("ending", FORMATS)
def test_new_events_need_no_truth_and_the_truth_no_features(tmp_path: Path, ending: str) -> None:
    table = frame(60)
    wrong = [table.with_columns(pl.lit(value).alias(name)) for name, value in (("label", "?"), ("w", 0.0), ("w", -5.0))]
    for spoiled in (*wrong, table.drop("w"), table.drop("label")):
        file = written(spoiled, tmp_path, ending)
        parts = EventStream(file, LAYOUT, columns=without_truth(LAYOUT)).batches()
        assert pl.concat(list(parts)).columns == ["id", "x", "y", "jets"]
    file = written(table.select("label", "id", "w"), tmp_path, ending)
    events = load_events(file, LAYOUT, columns=truth_columns(LAYOUT), cache=False)
    assert events.frame.equals(table.select("id", "w", "label"))


@pytest.mark.parametrize("size", [5, 100, 10**6])
@pytest.mark.parametrize("ending", FORMATS)
def test_the_size_of_the_parts_does_not_matter(tmp_path: Path, ending: str, size: int) -> None:
    file = written(frame(200), tmp_path, ending)
    whole = load_events(file, LAYOUT, cache=False).frame
    stream = EventStream(file, LAYOUT, block_bytes=size, batch_rows=size)
    for check in (True, False):
        assert pl.concat(list(stream.batches(check=check))).equals(whole)


def test_a_row_that_is_too_long(tmp_path: Path) -> None:
    """A row that is too long would shift the columns; it is found where not all columns are read, too."""
    text = as_text(frame(60).drop("vector")).replace(b"event 7,", b"event 7, again,")
    (tmp_path / "a.csv").write_bytes(text)
    (fault,) = faults(tmp_path / "a.csv")
    assert fault.startswith("row 8 (line 10): more values than the 8 columns; write decimal points, not commas")


@pytest.mark.slow
@pytest.mark.parametrize("bad", [b"12.x", b'"12'], ids=["cell", "quote"])
def test_a_bad_cell_late_in_a_large_file_is_named_at_once(tmp_path: Path, bad: bytes) -> None:
    text = as_text(frame(LARGE).select(READ))
    (tmp_path / "good.csv").write_bytes(text)
    lines = text.split(b"\n")
    cells = lines[LARGE - 10].split(b",")
    lines[LARGE - 10] = b",".join([cells[0], bad, *cells[2:]])
    (tmp_path / "bad.csv").write_bytes(b"\n".join(lines))
    start = time.perf_counter()
    load_events(tmp_path / "good.csv", LAYOUT, cache=False)
    normal = time.perf_counter() - start
    start = time.perf_counter()
    with pytest.raises(DataError, match=rf"row {LARGE - 10} \(line {LARGE - 9}\)"):
        load_events(tmp_path / "bad.csv", LAYOUT, cache=False)
    assert time.perf_counter() - start < normal + 1.0


def test_rows_and_lines_of_a_file_without_a_header(tmp_path: Path) -> None:
    layout = TableSchema("bare", ("x",), "y", signal="1", background="0", header=False, columns=("y", "x"))
    (tmp_path / "a.csv").write_text("1,0.5\n0,1.5\n1,wide\n")
    for read in (load_events, lambda f, s: open_events(f, s, large=0), lambda f, s: list(EventStream(f, s).batches())):
        with pytest.raises(DataError, match=r"row 3 \(line 3\), column x: 'wide' is not a number"):
            read(tmp_path / "a.csv", layout)


ADVICE: list[tuple[str, bytes, str]] = [
    ("zip", b"PK\x03\x04" + bytes(9), "a zip archive; unpack it first"),
    ("bz2", b"BZh91AY&SY123", "compressed with bzip2; unpack it first, or compress it with gzip"),
    ("xz", b"\xfd7zXZ\x00\x00", "compressed with xz; unpack it first"),
    ("zstd", b"\x28\xb5\x2f\xfd1234", "compressed with Zstandard; unpack it first"),
    ("arrow", b"ARROW1\x00\x00", "an Arrow or Feather file; write it as Parquet"),
    ("feather", b"FEA1\x00\x00\x00\x00", "an Arrow or Feather file; write it as Parquet"),
    ("hdf5", b"\x89HDF\r\n\x1a\n", "an HDF5 file; write its table as Parquet"),
    ("semicolons", b"x;y;label\n1,5;2,5;s\n", "the columns are separated by semicolons; separate them by commas"),
    ("tabs", b"x\ty\tlabel\n1\t2\ts\n", "the columns are separated by tabs; separate them by commas"),
    ("decimal comma", b'id,x,y,jets,w,label\n1,"1,5",2,0,1,s\n', "'1,5' is not a number; write decimal points"),
    ("empty line", b"id,x,y,jets,w,label\n1,1,2,0,1,s\n\n", "row 2 (line 3): an empty line; remove it"),
    ("more cells", b"id,x,y,jets,w,label\n1,1,5,2,0,1,s\n", "more values than the 6 columns; write decimal points"),
    ("large event number", b"id,x,y,jets,w,label\n18446744073709551615,1,2,0,1,s\n", "renumber the events"),
    ("0/1 labels", b"id,x,y,jets,w,label\n1,1,2,0,1,1\n", "expected 's' or 'b'; the labels are `signal` and `backgr"),
]


@pytest.mark.parametrize(("content", "message"), [a[1:] for a in ADVICE], ids=[a[0] for a in ADVICE])
def test_messages_say_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    (fault,) = faults(tmp_path / "a.csv")
    assert message in fault


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_an_index_of_pandas_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text(f"{name},EventId\n0,1\n")
    with pytest.raises(DataError, match=r"the index of a pandas table; write the file without it .*index=False"):
        load_events(tmp_path / "a.csv", ATLAS_HIGGS)


@pytest.mark.parametrize("kind", [pl.UInt64, pl.Int32, pl.Float64])
def test_event_numbers_of_other_types(tmp_path: Path, kind: Any) -> None:
    table = frame(60).with_columns(pl.col("id").cast(kind))
    events = load_events(written(table, tmp_path, ".parquet"), LAYOUT, cache=False)
    assert events.event_id.tolist() == list(range(0, 180, 3))
    large = table.with_columns(id=pl.col("id").cast(pl.UInt64) + 2**63)
    (fault,) = faults(written(large, tmp_path, ".parquet"))
    assert "row 1, column id: 9223372036854775808 is not a whole number of at most 9223372036854775807" in fault


def test_a_column_may_be_called_row(tmp_path: Path) -> None:
    layout = TableSchema("own", ("row",), "label")
    (tmp_path / "a.csv").write_text("row,label\n" + "".join(f"{i},s\n" for i in range(50)))
    chosen = open_events(tmp_path / "a.csv", layout, large=0).take(np.array([3, 7]))
    assert pl.concat(list(chosen.batches()))["row"].to_list() == [3.0, 7.0]
