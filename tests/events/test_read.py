"""Reading event files: the official layouts, and every refusal with its file, row and column."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import DataError
from higgsbench.events import Events, EventStream, load_events
from higgsbench.schema import FEATURES, STRUCTURALLY_MISSING, TableSchema

Row = dict[str, str]
Write = Callable[..., Path]


def table(n: int = 6) -> list[Row]:
    """Events as the challenge's training.csv writes them."""
    out = []
    for i in range(n):
        row = {"EventId": str(100 + i)}
        row |= {name: f"{(31 * i + 7 * j) % 50 + 0.125}" for j, name in enumerate(FEATURES)}
        row["PRI_jet_num"] = str(i % 4)
        row |= dict.fromkeys(STRUCTURALLY_MISSING[i % 4], "-999.0")
        out.append({**row, "Weight": str(0.5 + i), "Label": "sb"[i % 2]})
    return out


def cern(n: int = 6) -> list[Row]:
    return [{**r, "KaggleSet": "tbvu"[i % 4], "KaggleWeight": str(1.5 + i)} for i, r in enumerate(table(n))]


def text(rows: list[Row], columns: list[str] | None = None) -> str:
    names = columns or list(rows[0])
    return "\n".join([",".join(names)] + [",".join(r.get(c, "0") for c in names) for r in rows]) + "\n"


def edited(row: int, **cells: str) -> str:
    rows = cern()
    rows[row].update(cells)
    return text(rows)


COLUMNS = list(table(1)[0])
BASE = text(table())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(content: str | bytes, name: str = "events.csv") -> Path:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return make


def load(file: Path) -> Events:
    return load_events(file, cache=False)


def test_files_of_kaggle(write: Write) -> None:
    events = load(write(BASE))
    assert len(events) == 6
    assert events.labelled
    assert events.subset is None
    np.testing.assert_array_equal(events.y, [True, False, True, False, True, False])
    np.testing.assert_array_equal(events.weight, 0.5 + np.arange(6))
    np.testing.assert_array_equal(events.event_id, 100 + np.arange(6))
    assert events.group is not None
    np.testing.assert_array_equal(events.group, [0, 1, 2, 3, 0, 1])
    assert events.frame["PRI_jet_leading_pt"].is_null().to_list() == [True, False, False, False, True, False]
    assert events.frame.select(FEATURES).min().min_horizontal().item() > -999.0
    events = load(write(text(table(), COLUMNS[:-2])))
    assert not events.labelled
    np.testing.assert_array_equal(events.weight, np.ones(6))
    with pytest.raises(DataError, match="no column Label"):
        _ = events.y


def test_file_of_cern(write: Write) -> None:
    events = load(write(text(cern())))
    assert events.subset is not None
    assert events.subset.tolist() == ["t", "b", "v", "u", "t", "b"]
    # KaggleWeight weighs within its KaggleSet, Weight over several.
    np.testing.assert_array_equal(events.weight, 0.5 + np.arange(6))
    np.testing.assert_array_equal(events.take(events.in_subsets(["b"])).weight, [2.5, 6.5])
    np.testing.assert_array_equal(events.in_subsets(["t", "u"]), [True, False, False, True, True, False])


def test_format_and_compression_do_not_matter(write: Write, tmp_path: Path) -> None:
    plain = load(write(text(cern())))
    zipped = gzip.compress(text(cern()).encode())
    pl.read_csv(write(text(cern()))).write_parquet(tmp_path / "a.parquet")
    pl.read_csv(write(text(cern()))).with_columns(pl.col(pl.Float64).cast(pl.Float32)).write_parquet(tmp_path / "b")
    for file in (write(zipped, "a.csv.gz"), write(zipped, "no-ending"), tmp_path / "a.parquet", tmp_path / "b"):
        assert load(file).digest == plain.digest


@pytest.mark.parametrize(
    "content",
    [
        BASE.replace("\n", "\r\n"),
        "\ufeff" + BASE,
        BASE.replace("EventId", '"EventId"').replace(",s\n", ',"s"\n'),
        BASE.rstrip("\n"),
        BASE.replace("-999.0", "-999"),
        BASE.replace("-999.0", "-9.99e2"),
        text(table(), COLUMNS[::-1]),
        text(table(), [COLUMNS[0], *sorted(COLUMNS[1:])]),
    ],
    ids=["CRLF", "BOM", "quoted", "no newline at the end", "-999", "exponent", "reversed columns", "sorted columns"],
)
def test_ways_of_writing_do_not_matter(write: Write, content: str) -> None:
    assert load(write(content)).digest == load(write(BASE)).digest


def test_content_decides_the_digest(write: Write) -> None:
    texts = ("0.0", "-0.0", "1.5", "1.5000001", "-999.0")
    zero, *others = (load(write(edited(1, PRI_met=text))).digest for text in texts)
    assert others[0] == zero  # signed zeros are one content
    assert len({zero, *others}) == 4


R3 = "row 3 (line 4), column"
REFUSED: list[tuple[str, str | bytes, str]] = [
    ("word", edited(2, PRI_met="abc"), f"{R3} PRI_met: 'abc' is not a number"),
    ("blank after number", edited(2, PRI_met="3.5 "), f"{R3} PRI_met: '3.5 ' is not a number"),
    ("NaN", edited(2, PRI_met="nan"), f"{R3} PRI_met: found nan, expected a finite number"),
    ("too large", edited(2, PRI_met="1e999"), f"{R3} PRI_met: found inf, expected a finite number"),
    ("huge", edited(2, PRI_met="1e38"), f"{R3} PRI_met: found 1e+38, larger than any measured value"),
    ("huge weight", edited(2, Weight="1e308"), f"{R3} Weight: found 1e+308, larger than any measured value"),
    ("empty", edited(2, PRI_met=""), f"{R3} PRI_met: empty; a value that could not be measured is written -999.0"),
    ("weight missing", edited(2, Weight="-999.0"), f"{R3} Weight: found -999.0, expected a positive weight"),
    ("Kaggle weight", edited(2, KaggleWeight="0"), f"{R3} KaggleWeight: found 0.0, expected a positive weight"),
    ("label", edited(2, Label="x"), f"{R3} Label: found 'x', expected 's' or 'b'"),
    ("set", edited(2, KaggleSet="p"), f"{R3} KaggleSet: found 'p', expected one of t, b, v, u"),
    ("event number again", edited(2, EventId="100"), f"{R3} EventId: 100 already occurs in row 1 (line 2)"),
    ("event number broken", edited(2, EventId="1.5"), f"{R3} EventId: '1.5' is not a whole number"),
    ("jets broken", edited(2, PRI_jet_num="2.5"), f"{R3} PRI_jet_num: '2.5' is not a whole number"),
    ("row too long", BASE.replace(",b\n", ",b,1\n", 1), "row 2 (line 3): more values than the 33 columns"),
    ("row too short", BASE.replace(",b\n", "\n", 1), "row 2 (line 3), column Label: empty"),
    ("cut off", BASE[:-4], "row 6 (line 7), column Label: empty"),
    ("other encoding", BASE.replace(",s\n", ",\xe9\n", 1).encode("latin-1"), "row 1 (line 2), column Label: not UTF-8"),
    # A feature that is the group, too, is counted and named once.
    ("missing column", text(table(), [c for c in COLUMNS if c != "PRI_jet_num"]),
     "missing column PRI_jet_num; the layout atlas-higgs-2014 needs 31 columns"),
    ("many missing", text(table(), ["EventId", "Weight", "Label"]),
     "the columns (EventId, Weight, Label) match no built-in layout; describe the columns under data.schema in a "
     "configuration, or let `higgsbench init FILE` do it"),
    ("unknown column", BASE.replace("PRI_met,", "PRI_mett,", 1), "unknown column 'PRI_mett' (did you mean 'PRI_met'?)"),
    ("additional column", text(table(), [*COLUMNS, "extra"]), "unknown column 'extra'"),
    ("column twice", text(table(), [*COLUMNS, "PRI_met"]), "column PRI_met appears twice in the header"),
    ("label without weight", text(table(), [c for c in COLUMNS if c != "Weight"]), "column Label without column"),
    ("weight without label", text(table(), COLUMNS[:-1]), "column Weight without column Label"),
    ("empty file", "", "the file is empty"),
    ("empty line", "\n", "line 1 is empty, expected the column names"),
    ("header only", BASE.split("\n")[0] + "\n", "no events: the file has a header and nothing below it"),
    ("no header", "\n".join(BASE.split("\n")[1:]), "no built-in layout without one has 33 columns"),
    ("picture", b"\x89PNG\r\n\x1a\n" + bytes(50), "line 1 is not UTF-8 text"),
    ("endless line", "x" * 100_000, "line 1 is not a header"),
]  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("content", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(write: Write, content: str | bytes, message: str, zipped: bool) -> None:
    raw = content.encode() if isinstance(content, str) else content
    if zipped and not raw:
        message = "line 1 is empty"
    file = write(gzip.compress(raw) if zipped else raw)
    with pytest.raises(DataError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_first_broken_row_is_named(write: Write) -> None:
    rows = table()
    rows[4]["DER_mass_MMC"], rows[1]["PRI_met"] = "x", "y"
    threads = threading.active_count()
    for block_bytes in (1 << 22, 300):  # both in one block, and in two of which the second is parsed ahead
        with pytest.raises(DataError, match=r"row 2 \(line 3\), column PRI_met: 'y'"):
            EventStream(write(text(rows)), block_bytes=block_bytes).table()
        assert threading.active_count() == threads


@pytest.mark.parametrize("name", ["EventId", "Label", "KaggleSet"])
def test_only_measured_values_are_advised_to_be_missing(write: Write, name: str) -> None:
    """Regression: an empty label was told to be written -999.0."""
    with pytest.raises(DataError, match=rf"row 3 \(line 4\), column {name}: empty$"):
        load(write(edited(2, **{name: ""})))


ZIPPED = gzip.compress(text(table(400)).encode())


@pytest.mark.parametrize("place", [10, len(ZIPPED) // 5, len(ZIPPED) // 2, len(ZIPPED) - 20, len(ZIPPED) - 1])
def test_damaged_gzip_is_refused(write: Write, place: int) -> None:
    with pytest.raises(DataError, match="damaged or incomplete"):
        load(write(ZIPPED[:place], "cut.csv.gz"))
    with pytest.raises(DataError, match="damaged or incomplete"):
        load(write(ZIPPED[:place] + bytes([ZIPPED[place] ^ 0x5A]) + ZIPPED[place + 1 :], "flipped.csv.gz"))


def test_gzip_of_several_members_is_one_file(write: Write) -> None:
    both = gzip.compress(BASE[:700].encode()) + gzip.compress(BASE[700:].encode())
    assert load(write(both)).digest == load(write(BASE)).digest


def changed(**columns: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(**columns)


PARQUET: list[tuple[str, Callable[[pl.DataFrame], pl.DataFrame], str]] = [
    ("text", changed(PRI_met=pl.col("PRI_met").cast(pl.String)), "column PRI_met has type String, expected"),
    ("list", changed(PRI_met=pl.concat_list("PRI_met")), "column PRI_met has type List(Float64)"),
    ("half a jet", changed(PRI_jet_num=pl.col("PRI_jet_num") + 0.5), "row 1, column PRI_jet_num: 0.5 is not"),
    ("label", changed(Label=pl.lit(1)), "row 1, column Label: found '1', expected 's' or 'b'"),
    ("NaN", changed(PRI_met=pl.lit(float("nan"))), "row 1, column PRI_met: found nan, expected a finite number"),
    ("no weight", changed(Weight=pl.lit(None, pl.Float64)), "row 1, column Weight: empty"),
    ("no rows", lambda f: f.head(0), "no events"),
    ("unknown", changed(extra=1), "unknown column 'extra'"),
    ("missing", lambda f: f.drop("PRI_met"), "missing column PRI_met"),
]


@pytest.mark.parametrize(("change", "message"), [p[1:] for p in PARQUET], ids=[p[0] for p in PARQUET])
def test_parquet_is_refused_alike(write: Write, tmp_path: Path, change: Any, message: str) -> None:
    file = tmp_path / "a.parquet"
    change(pl.read_csv(write(BASE))).write_parquet(file)
    with pytest.raises(DataError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_missing_in_parquet_may_be_null_or_the_sentinel(write: Write, tmp_path: Path) -> None:
    load(write(BASE)).frame.write_parquet(tmp_path / "null.parquet")
    pl.read_csv(write(BASE)).write_parquet(tmp_path / "sentinel.parquet")
    assert load(tmp_path / "null.parquet").digest == load(tmp_path / "sentinel.parquet").digest


def test_another_layout(write: Write) -> None:
    schema = TableSchema("mine", ("x", "y"), "truth", signal="1", background=None, missing=None)
    events = load_events(write("truth,x,y\n1,0.5,-999.0\n0,2,3\n7,1,1\n"), schema, cache=False)
    np.testing.assert_array_equal(events.y, [True, False, False])
    np.testing.assert_array_equal(events.weight, 1.0)
    np.testing.assert_array_equal(events.event_id, [0, 1, 2])
    assert events.frame["y"].to_list() == [-999.0, 3.0, 1.0]
    assert events.group is None
    assert events.totals() == (1.0, 2.0)


def test_a_text_that_begins_with_the_word_root_is_text(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("root_s,truth\n1.0,1\n2.0,0\n")
    schema = TableSchema("mine", ("root_s",), "truth", signal="1", background="0")
    assert len(load_events(tmp_path / "events.csv", schema, cache=False)) == 2
