from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from higgsbench.errors import DataError
from higgsbench.events import EventStream, load_events
from higgsbench.schema import TableSchema

SCHEMA = TableSchema(
    name="small", features=("x", "k"), label="y", weight="w", event_id="id", integers=frozenset({"k"}), missing=-999.0
)
TEXT = "id,x,k,w,y\n" + "".join(f"{i},{i / 2 if i % 7 else -999.0},{i % 3},0.5,{'sb'[i % 2]}\n" for i in range(500))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    text, zipped, parquet = (tmp_path / name for name in ("a.csv", "a.csv.gz", "a.parquet"))
    text.write_text(TEXT)
    zipped.write_bytes(gzip.compress(TEXT.encode()))
    pl.read_csv(text).write_parquet(parquet)
    return [text, zipped, parquet]


@pytest.mark.slow
@pytest.mark.parametrize("size", [5, 17, 100, 10**6])
def test_the_parts_make_the_whole(files: list[Path], size: int) -> None:
    whole = load_events(files[0], SCHEMA, cache=False).frame
    for file in files:
        stream = EventStream(file, SCHEMA, block_bytes=size, batch_rows=size)
        for check in (True, False):
            assert pl.concat(list(stream.batches(check=check))).equals(whole)


def test_line_endings_and_a_missing_last_newline(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TEXT)
    (tmp_path / "b.csv").write_bytes(TEXT.rstrip().replace("\n", "\r\n").encode())
    a, b = (pl.concat(list(EventStream(tmp_path / n, SCHEMA, block_bytes=64).batches())) for n in ("a.csv", "b.csv"))
    assert a.equals(b)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("300,150.0,0,", "300,150.0,zero,", r"row 301 \(line 302\), column k: 'zero' is not a whole number"),
        ("300,150.0,0,", "300,wide,0,", r"row 301 \(line 302\), column x: 'wide' is not a number"),
        ("300,150.0,0,", "300,,0,", r"row 301 \(line 302\), column x: empty"),
        ("300,150.0,0,0.5", "300,150.0,0,-0.5", r"row 301 \(line 302\), column w: not a positive weight"),
        ("300,150.0,0,0.5", "300,150.0,0,0.5,9", r"row 301 \(line 302\): more values than the 5 columns"),
    ],
)
def test_a_fault_is_named_by_its_row_in_the_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    file = tmp_path / "bad.csv"
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(DataError, match=message):
        list(EventStream(file, SCHEMA, block_bytes=200).batches())


def test_damaged_and_odd_files(files: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(files[1].read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged or incomplete"):
        list(EventStream(cut, SCHEMA).batches())
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(files[2].read_bytes()[:-30])
    with pytest.raises(DataError, match="Parquet"):
        list(EventStream(broken, SCHEMA).batches())
    with pytest.raises(DataError, match="no such file"):
        EventStream(tmp_path / "absent.csv", SCHEMA)
    with pytest.raises(DataError, match="a folder"):
        EventStream(tmp_path, SCHEMA)
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        EventStream(tmp_path / "empty.csv", SCHEMA)
    (tmp_path / "header.csv").write_text("id,x,k,w,y\n")
    with pytest.raises(DataError, match="no events"):
        list(EventStream(tmp_path / "header.csv", SCHEMA).batches())
