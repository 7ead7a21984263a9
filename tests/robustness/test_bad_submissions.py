"""Malformed submissions: each is refused in one line that names the file, the line and the column."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.robustness.conftest import Refuse

Change: TypeAlias = "Callable[[list[str]], bytes]"


def row(number: int, column: int, value: str) -> Change:
    def change(lines: list[str]) -> bytes:
        cells = lines[number].split(",")
        cells[column] = value
        lines[number] = ",".join(cells)
        return text(lines)

    return change


def text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def swapped(lines: list[str]) -> bytes:
    """Give line 3 the rank and event of line 4, class kept."""
    return row(3, 1, lines[4].split(",")[1])(lines)


NOT_WHOLE = "is not a whole number"
CELLS = {
    "EventId": {"1e2": NOT_WHOLE, "x": NOT_WHOLE},
    "RankOrder": {
        **dict.fromkeys(("-4", "4.0", "first", "9" * 5000, "\x00"), NOT_WHOLE),
        **dict.fromkeys(("0", "101"), "is not in 1 to 100"),
    },
    "Class": dict.fromkeys(("signal", "S", "s ", "", "\x1b[31ms"), "is neither s nor b"),
}
"""What is wrong with the value of a column."""


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, values in CELLS.items() for value in values])
def test_values(column: str, value: str, here: Path, refuse: Refuse) -> None:
    change = row(3, list(CELLS).index(column), value)
    (here / "sub.csv").write_bytes(change((here / "submission.csv").read_text().splitlines()))
    line, shown = refuse("score", "sub.csv", "truth.csv"), value[:40].replace("\x1b", "\\x1b").replace("\x00", "\\x00")
    assert line == f"sub.csv: line 4, column {column}: '{shown}' {CELLS[column][value]}"


CASES: dict[str, tuple[Change, str]] = {
    "empty": (lambda _: b"", r"sub.csv: the file is empty"),
    "only a header": (lambda lines: text(lines[:1]), r"sub.csv: no events: the file has a header and nothing below it"),
    "no header": (lambda lines: text(lines[1:]), r"sub.csv: line 1 is '\d+,\d+,[sb]', expected the header .*"),
    "blanks in the header": (lambda lines: text(["EventId, RankOrder, Class", *lines[1:]]), r"sub.csv: line 1 is .*"),
    "four values": (lambda lines: text([*lines[:3], lines[3] + ",x", *lines[4:]]), r"sub.csv: line 4 has 4 values, .*"),
    "an empty line": (lambda lines: text([*lines[:3], "", *lines[4:]]), r"sub.csv: line 4 is empty"),
    "a rank twice": (swapped, r"sub.csv: line 5, column RankOrder: '\d+' has occurred before"),
    "an event twice": (
        lambda lines: row(4, 0, lines[3].split(",")[0])(lines),
        r"sub.csv: line 5, column EventId: '\d+' has occurred before",
    ),
    "a foreign event": (row(3, 0, "7"), r"sub.csv: line 4, column EventId: 7 is not one of the 100 test events of .*"),
    "events missing": (
        lambda lines: text([lines[0], *(f"{line.split(',')[0]},{i},b" for i, line in enumerate(lines[1:51], 1))]),
        r"sub.csv: 50 of the 100 test events are missing, e.g. EventId \d+",
    ),
    "quoted numbers": (
        row(3, 0, '"1000000143"'),
        r"sub.csv: line 4, column EventId: '\"1000000143\"' is in quotes: remove the quotes, which the .*",
    ),
    "a quoted header": (
        lambda lines: text(['"EventId","RankOrder","Class"', *lines[1:]]),
        r"sub.csv: line 1: remove the quotes, which the challenge's format does not have \(R: write.csv.*",
    ),
    "UTF-16": (lambda lines: text(lines).decode().encode("utf-16"), r"sub.csv: not UTF-8 text"),
    "a mark of byte order": (lambda lines: b"\xef\xbb\xbf" + text(["x", *lines]), r"sub.csv: line 1 is .*"),
    "zeros at the end": (
        lambda lines: text(lines) + bytes(100),
        r"sub.csv: it ends with NUL bytes: the file was cut off while it was written",
    ),
    "gzip cut off": (lambda lines: gzip.compress(text(lines))[:-30], r"sub.csv: damaged or incomplete file: .*"),
    "gzip bomb": (
        lambda lines: gzip.compress(text(lines[:1])) + gzip.compress(b"1,1,s\n" * (1 << 20)) * 50,
        r"sub.csv: unpacks to more than 100 times its size: .*",
    ),
}


@pytest.mark.parametrize(("change", "expected"), CASES.values(), ids=CASES)
def test_submissions(change: Change, expected: str, here: Path, refuse: Refuse) -> None:
    (here / "sub.csv").write_bytes(change((here / "submission.csv").read_text().splitlines()))
    refuse("score", "sub.csv", "truth.csv", match=expected)


OTHERS: dict[str, tuple[tuple[str, ...], str]] = {
    "absent": (("none.csv", "truth.csv"), r"none.csv: no such file"),
    "a folder": (("run", "truth.csv"), r"run: a folder, not a submission"),
    "a device": (("/dev/null", "truth.csv"), r"/dev/null: a device or pipe, not a submission"),
    "truth without labels": (("submission.csv", "test.csv"), r"test.csv: no column Label: without the truth .*"),
    "truth of other events": (("submission.csv", "train.csv"), r"submission.csv: line 2, column EventId: .*"),
    "unknown sets": (("submission.csv", "truth.csv", "--subset", "x"), r"--subset: no set named 'x'; sets are .*"),
    "a negative total": (("submission.csv", "truth.csv", "--n-s", "-1"), r"n_s must be a positive number, got -1.0"),
    "a total that is not a number": (
        ("submission.csv", "truth.csv", "--n-b", "nan"),
        r"n_b must be a positive number, got nan",
    ),
}


@pytest.mark.parametrize(("args", "expected"), OTHERS.values(), ids=OTHERS)
def test_what_is_scored(args: tuple[str, ...], expected: str, refuse: Refuse) -> None:
    refuse("score", *args, match=expected)


def test_a_mark_of_byte_order_is_read_over(here: Path) -> None:
    from higgsbench.challenge import read_submission

    (here / "sub.csv").write_bytes(b"\xef\xbb\xbf" + (here / "submission.csv").read_bytes())
    assert read_submission(here / "sub.csv").event_id.size == 100
