"""How often a unit is tried, without a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from higgsbench.config.document import format_size, parse_size
from higgsbench.errors import ConfigError
from higgsbench.models import get_model
from higgsbench.runs.engines import Attempts, EngineSettings, Lost
from higgsbench.runs.unit import Unit, UnitResult


def task(key: str, model_file: str | None = None) -> Unit:
    return Unit(
        key=key,
        name=key,
        row=0,
        repeat=0,
        fold=0,
        seed=0,
        spec=get_model("logistic"),
        params={},
        columns=(),
        matrix="X",
        test_matrix=None,
        groups=None,
        training_weights="none",
        negative_weights=None,
        totals=(1.0, 1.0),
        threads=1,
        model_file=model_file,
    )


def done(key: str) -> UnitResult:
    return UnitResult(key, np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), np.empty(0))


class Story:
    """Attempts at units, with what was said and begun."""

    def __init__(self, *keys: str) -> None:
        self.said: list[str] = []
        self.begun: list[str] = []
        left = iter([task(key) for key in keys])
        self.attempts = Attempts(lambda: next(left, None), lambda t: self.begun.append(t.key), self.said.append)

    def next(self) -> str | None:
        found = self.attempts.next()
        return None if found is None else found.key

    def lost(self, key: str) -> UnitResult | None:
        return self.attempts.settle(Lost(key, "its worker process was killed by SIGKILL"))


def test_a_bystander_is_tried_again_at_once() -> None:
    story = Story("a", "b")
    assert [story.next(), story.lost("a"), story.next(), story.next(), story.next()] == ["a", None, "a", "b", None]
    assert story.begun == ["a", "b"]
    assert story.said == ["a: its worker process was killed by SIGKILL; it is tried again"]
    result = story.attempts.settle(done("a"))
    assert result is not None
    assert result.error == ""


def test_who_kills_again_and_again_ends_alone_and_has_failed() -> None:
    story = Story("bad", "good")
    assert (story.next(), story.next()) == ("bad", "good")
    story.lost("bad")
    assert story.next() == "bad"
    story.lost("bad")
    assert story.next() is None  # not beside the other
    assert story.attempts.settle(done("good")) is not None
    assert story.next() == "bad"
    assert story.next() is None
    result = story.lost("bad")
    assert result is not None
    assert result.error.splitlines()[-1].startswith("failed three times, the last time alone: its worker process was")
    assert not story.attempts.running
    assert story.next() is None


def test_a_suspect_that_was_a_bystander_ends_well_and_others_go_on() -> None:
    story = Story("a")
    for _ in range(2):
        assert story.next() == "a"
        story.lost("a")
    assert story.next() == "a"
    result = story.attempts.settle(done("a"))
    assert result is not None
    assert story.next() is None


def test_half_a_model_is_removed(tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.touch()
    attempts = Attempts(iter([task("a", str(half)), None]).__next__, lambda _: None, lambda _: None)
    attempts.next()
    attempts.settle(Lost("a", "gone"))
    assert not half.exists()


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ({"jobs": 1}, "serial"),
        ({"jobs": 2}, "local"),
        ({"jobs": 1, "unit_time_limit": 1.0}, "local"),
        ({"jobs": 1, "engine": "local"}, "local"),
        ({"scheduler": "tcp://a:1"}, "dask"),
        ({"jobs": 4, "engine": "serial"}, "serial"),
    ],
)
def test_the_engine_that_is_meant(choice: dict[str, Any], kind: str) -> None:
    assert EngineSettings(**choice).kind == kind


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"engine": "loky"}, "choose local, serial, dask"),
        ({"engine": "local", "scheduler": "tcp://a:1"}, "takes no scheduler"),
        ({"engine": "serial", "unit_time_limit": 1.0}, "limits on a unit need a process"),
        ({"engine": "serial", "unit_memory_limit": 10**9}, "limits on a unit need a process"),
    ],
)
def test_choices_that_do_not_go_together(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineSettings(**choice).check()


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4e9), ("500 mb", 5e8), ("1.5GiB", 3 << 29), ("123", 123), ("0.5 tb", 5e11)]
)
def test_sizes(text: str, size: float) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "0.1", "4 apples", "1e9", "9" * 99, "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not an amount of memory; write 500MB, 4GB or 1\.5GiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 bytes"), (1e3, "1.0 kB"), (2.5e6, "2.5 MB"), (8.12e8, "812 MB"), (4e9, "4.00 GB"), (12.34e9, "12.3 GB")],
)
def test_sizes_are_written(size: float, text: str) -> None:
    assert format_size(size) == text
