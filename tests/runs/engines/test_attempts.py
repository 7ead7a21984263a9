"""How often a unit is tried, without a process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from higgsbench.errors import ConfigError
from higgsbench.models import get_model
from higgsbench.runs.engines import Attempts, EngineSettings, Lost
from higgsbench.runs.unit import Unit, UnitResult


def task(key: str, model_file: str | None = None) -> Unit:
    base = Unit(key, key, 0, 0, 0, 0, get_model("logistic"), {}, (), "X", None, None, "none", None, (1.0, 1.0), 1)
    return dataclasses.replace(base, model_file=model_file)


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
    assert (story.next(), story.next()) == ("bad", None)
    result = story.lost("bad")
    assert result is not None
    assert result.error.splitlines()[-1].startswith("failed three times, the last time alone: its worker process was")
    assert (story.attempts.running, story.next()) == ({}, None)


def test_a_suspect_that_was_a_bystander_ends_well_and_half_a_model_is_removed(tmp_path: Path) -> None:
    story = Story("a")
    for _ in range(2):
        assert story.next() == "a"
        story.lost("a")
    assert story.next() == "a"
    assert story.attempts.settle(done("a")) is not None
    assert story.next() is None
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
        ({"engine": "loky"}, "choose from local, serial, dask"),
        ({"engine": "local", "scheduler": "tcp://a:1"}, "does not take a scheduler"),
        ({"engine": "serial", "unit_time_limit": 1.0}, "limits on a unit need a process"),
        ({"engine": "serial", "unit_memory_limit": 10**9}, "limits on a unit need a process"),
    ],
)
def test_choices_that_do_not_go_together(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EngineSettings(**choice).check()
