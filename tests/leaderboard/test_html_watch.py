"""The HTML page and the board of runs that are going on."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from higgsbench import Leaderboard
from higgsbench.cli.main import cli
from higgsbench.leaderboard.board import unfinished, watch
from higgsbench.leaderboard.render import render

HOSTILE = "<script>alert(1)</script>\"' onclick=x"


def write_run(folder: Path, label: str = "x") -> None:
    (folder / "units").mkdir(parents=True, exist_ok=True)
    row = {
        "name": label, "label": label, "variant": "global", "status": "ok", "digest": label, "ams_cv": 3.1,
        "ams_cv_se": 0.1, "auc": 0.9, "auc_se": 0.01, "log_loss": 0.01, "fraction": 0.1, "s": 1.0, "b": 1.0,
    }  # fmt: skip
    failed = {**row, "name": "f", "label": "f", "digest": "f", "status": "failed", "error": HOSTILE}
    content = {"comparability": {"events": 10, "folds": 3}, "source": HOSTILE, "rows": [row, failed]}
    (folder / "rows.json").write_text(json.dumps(content))


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_html_is_self_contained_accessible_and_escaped(tmp_path: Path) -> None:
    write_run(tmp_path / "a", HOSTILE)
    text = render(Leaderboard.read(tmp_path), "html")
    assert "<script>alert" not in text
    found = Page(text)
    names = [tag for tag, _ in found.tags]
    assert names.count("script") == names.count("style") == names.count("caption") == names.count("h1") == 1
    assert ("html", {"lang": "en"}) in found.tags
    assert {attrs["href"] for _, attrs in found.tags if "href" in attrs} == {"#main", "#runs"}
    assert not any(key in attrs for _, attrs in found.tags for key in ("src", "onclick"))
    heads = [attrs for tag, attrs in found.tags if tag == "th"]
    assert heads
    assert all(attrs["scope"] in ("col", "row") for attrs in heads)
    assert {attrs.get("class") for tag, attrs in found.tags if tag == "tr"} == {None, "best", "failed"}
    assert "3.1" in {attrs.get("data-value") for tag, attrs in found.tags if tag == "td"}


def test_html_from_the_command_line(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    done = CliRunner().invoke(cli, ["leaderboard", "--results", str(tmp_path), "--format", "html"])
    assert done.exit_code == 0
    assert done.output.startswith("<!DOCTYPE html>")


def test_watch_ends_when_the_runs_are_done(tmp_path: Path) -> None:
    write_run(tmp_path / "done")
    going = tmp_path / "going" / "units"
    going.mkdir(parents=True)
    (going / "k.json").write_text("{}")
    assert unfinished(tmp_path) == {"going": 1}
    looks = []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            write_run(tmp_path / "going", "late")

    out = io.StringIO()
    watch(tmp_path, "ams_cv", None, seconds=0.5, console=Console(file=out, width=200), wait=wait)
    assert looks == [0.5, 0.5, 0.5]
    assert "late" in out.getvalue()
    assert unfinished(tmp_path) == {}


def test_watch_can_be_interrupted(tmp_path: Path) -> None:
    (tmp_path / "going" / "units").mkdir(parents=True)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(tmp_path, "ams_cv", None, console=Console(file=io.StringIO()), wait=interrupt)


def test_watch_shows_a_table_only(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["leaderboard", "--results", str(tmp_path), "--watch", "--format", "csv"])
    assert done.exit_code == 2
    assert "leave --format out" in done.output
