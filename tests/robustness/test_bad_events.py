"""Malformed event files: each is refused in one line that names the file, the row and the column."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import polars as pl
import pytest

from higgsbench.errors import DataError
from higgsbench.events import load_events
from higgsbench.schema import TableSchema
from tests.robustness.conftest import Refuse

Make: TypeAlias = "Callable[[str], bytes]"


def cell(row: int, column: str, value: str) -> Make:
    """Replace one cell; row 1 is the first below the header."""

    def make(text: str) -> bytes:
        rows = [line.split(",") for line in text.splitlines()]
        rows[row][rows[0].index(column)] = value
        return joined(rows)

    return make


def joined(rows: Iterable[Iterable[str]]) -> bytes:
    return ("\n".join(",".join(row) for row in rows) + "\n").encode()


def header(old: str, new: str) -> Make:
    return lambda text: text.replace(old, new, 1).encode()


AT3 = r"bad.csv: row 3 \(line 4\), column "

CASES: dict[str, tuple[Make, str]] = {
    "UTF-16 without a mark": (lambda t: t.encode("utf-16-le"), r"bad.csv: it ends with NUL bytes: .*"),
    "latin-1 header": (header("EventId", "EventNr\xb0"), r"bad.csv: unknown column 'EventNr°'.*"),
    "NUL in a number": (cell(3, "PRI_met", "1\x002"), AT3 + r"PRI_met: '1.x002' is not a number"),
    "zeros at the end": (
        lambda t: t.encode() + bytes(1 << 21),
        r"bad.csv: it ends with NUL bytes: the file was cut off while it was written",
    ),
    "NUL label": (cell(3, "Label", "\x00"), AT3 + r"Label: found '.x00', expected 's' or 'b'; describe .*"),
    "steering column": (header("DER_mass_vis", "\x1b[2J"), r"bad.csv: unknown column '.x1b\[2J'; the layout is .*"),
    "endless cell": (cell(3, "PRI_met", "9x" * 5000), AT3 + f"PRI_met: '{'9x' * 20}' is not a number"),
    "open quote": (cell(3, "Label", '"s'), r"bad.csv: row 3 \(line 4\): a quote is opened and never closed"),
    "blanks in the header": (
        lambda t: t.replace(",", ", ", 3).encode(),
        r"bad.csv: line 1: there are spaces around the column name 'DER_mass_MMC' and 2 more; write names and .*",
    ),
    "gzip and junk": (lambda t: gzip.compress(t.encode()) + b"junkjunk", r"bad.csv: damaged or incomplete file: .*"),
    "an open quote in a last line": (
        lambda t: t.encode() + b'"',
        r"bad.csv: row 141 \(line 142\): a quote is opened and never closed; .*",
    ),
    "gzip cut off": (lambda t: gzip.compress(t.encode())[:-30], r"bad.csv: damaged or incomplete file: .*"),
    "gzip in gzip": (lambda t: gzip.compress(gzip.compress(t.encode())), r"bad.csv: compressed twice; unpack it once"),
    "a parquet head": (lambda _: b"PAR1" + bytes(64), r"bad.csv: damaged or not a Parquet file: .*"),
    "a JSON file": (lambda _: b'{"a": [1, 2]}\n', r"bad.csv: the columns \(\{.* match no built-in .*"),
    "a web page": (lambda _: b"<!DOCTYPE html>\n<html></html>\n", r"bad.csv: the columns \(<!DOCTYPE html>\) .*"),
}


@pytest.mark.parametrize(("make", "expected"), CASES.values(), ids=CASES)
def test_event_files(make: Make, expected: str, here: Path, refuse: Refuse) -> None:
    (here / "bad.csv").write_bytes(make((here / "train.csv").read_text()))
    refuse("run", "c.yaml", "--data", "bad.csv", match=expected)


def cut_off(target: Path) -> None:
    pl.read_csv(target.with_name("train.csv")).write_parquet(target)
    target.write_bytes(target.read_bytes()[:-200])


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda target: target.mkdir(), "bad: a folder, not an event file"),
    "a pipe": (os.mkfifo, "bad: a device or pipe, not an event file"),
    "a link to itself": (lambda target: target.symlink_to(target), "bad: a link to a file that does not exist"),
    "a link to nothing": (lambda target: target.symlink_to("nowhere.csv"), "bad: a link to a file that does not exist"),
    "parquet cut off": (cut_off, "bad: damaged or not a Parquet file: .*"),
}


@pytest.mark.parametrize(("make", "expected"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_text(make: Callable[[Path], object], expected: str, here: Path, refuse: Refuse) -> None:
    make(here / "bad")
    refuse("run", "c.yaml", "--data", "bad", match=expected)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_device(refuse: Refuse) -> None:
    assert refuse("data", "info", "/dev/zero") == "/dev/zero: a device or pipe, not an event file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(here: Path, refuse: Refuse) -> None:
    (here / "train.csv").chmod(0)
    assert refuse("data", "info", "train.csv") == "train.csv: cannot be read: Permission denied"


READERS = [("data", "info"), ("data", "validate"), ("explore",), ("run", "c.yaml", "--data")]


@pytest.mark.parametrize("command", READERS)
def test_all_commands_that_read_events_refuse_alike(command: tuple[str, ...], here: Path, refuse: Refuse) -> None:
    (here / "bad.csv").write_bytes(cell(3, "PRI_met", "high")((here / "train.csv").read_text()))
    assert refuse(*command, "bad.csv") == "bad.csv: row 3 (line 4), column PRI_met: 'high' is not a number"
    assert refuse(*command, "https://example.com/a.csv") == (
        "https://example.com/a.csv: an address, not a file; download it first "
        "(`higgsbench data fetch` brings the official file)"
    )


def test_a_jet_number_without_a_model(here: Path, refuse: Refuse) -> None:
    import higgsbench

    (here / "c.yaml").write_text(
        "models: [{model: lightgbm, params: {n_estimators: 2}}]\nfolds: 2\njet_split: groups\n"
    )
    run = higgsbench.run(here / "c.yaml", data=here / "train.csv", output=here / "runs", jobs=1).folder
    (here / "jets.csv").write_bytes(cell(10, "PRI_jet_num", "4")((here / "test.csv").read_text()))
    assert refuse("predict", run, "jets.csv", "-o", "s.csv") == (
        "jets.csv, column PRI_jet_num: the events have [4] in the group column, which belong to no group; add them to "
        "`data.groups` (with samples) or `jet_groups` and train again, for example [[0], [1], [2, 3, 4]]"
    )


def test_whole_numbers_written_with_a_point_and_a_byte_order_mark_are_read(here: Path) -> None:
    frame = pl.read_csv(here / "train.csv").with_columns(pl.col("PRI_jet_num", "EventId").cast(pl.Float64))
    frame.write_csv(here / "floats.csv")
    (here / "marked.csv").write_bytes(b"\xef\xbb\xbf" + (here / "train.csv").read_bytes())
    for name in ("floats.csv", "marked.csv"):
        assert load_events(here / name).digest == load_events(here / "train.csv").digest


def test_a_tail_of_zeros_costs_nothing(here: Path, refuse: Refuse) -> None:
    """A terabyte that nobody wrote: reading any part of it would show."""
    with (here / "train.csv").open("rb+") as file:
        file.truncate(1 << 40)
    try:
        for command in READERS:
            refuse(*command, "train.csv", match="train.csv: it ends with NUL bytes.*")
        (here / "train.csv").rename(here / "sub.csv")
        assert "NUL bytes" in refuse("score", "sub.csv", "truth.csv")
    finally:
        (here / "sub.csv").unlink(missing_ok=True)


def test_a_gzip_bomb_is_refused_without_unpacking_it_all(here: Path) -> None:
    """300 MB of event after event in 300 kB, made of one part that is repeated."""
    part = gzip.compress(b"1.25,0.75,s\n" * (1 << 20))
    (here / "bomb.csv.gz").write_bytes(gzip.compress(b"x,y,truth\n") + part * 26)
    layout = TableSchema("mine", ("x", "y"), "truth")
    with pytest.raises(DataError, match=r"bomb.csv.gz: unpacks to more than 100 times its size: not an event file"):
        load_events(here / "bomb.csv.gz", layout)


def test_a_parquet_bomb_is_refused_without_unpacking_it(here: Path, refuse: Refuse) -> None:
    row = pl.read_csv(here / "train.csv").head(1)
    row.select(pl.all().repeat_by(1_200_000).explode()).write_parquet(here / "bomb.parquet")
    expected = r"bomb.parquet: 1,200,000 rows in [0-9,]+ bytes: refused, because .* memory"
    refuse("data", "info", "bomb.parquet", match=expected)
