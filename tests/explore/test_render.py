from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from higgsbench.errors import DataError, MissingExtraError
from higgsbench.explore import explore
from higgsbench.explore.display import render_terminal
from higgsbench.explore.result import Exploration
from higgsbench.schema import TableSchema

from .conftest import TOY, toy_frame


@pytest.fixture
def render_page() -> Callable[[Exploration], str]:
    pytest.importorskip("mplhep", reason="needs the extra 'report'")
    from higgsbench.explore.display import render_page

    return render_page


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_terminal_lines_fit(width: int, sample_found: Exploration) -> None:
    text = render_terminal(sample_found, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for name in (f.name for f in sample_found.features):
        assert name in text.split("Features, weighted")[1].split("Strongest")[0]
    assert "…" not in text
    assert "\x1b" not in text


def test_terminal_answers_every_question(toy_found: Exploration) -> None:
    text = render_terminal(toy_found, 100)
    for heading in ("Columns", "Class balance and weights", "Weights: w", "Missing values", "Features",
                    "Drift: t against v", "Strongest", "Why splits"):  # fmt: skip
        assert heading in text
    assert "missing lowest: AUC" in " ".join(text.split())


def test_names_are_never_markup(tmp_path: Path, render_page: Callable[[Exploration], str]) -> None:
    name, path = "[red]<b>&x", tmp_path / "odd & <new>.csv"
    schema = TableSchema(name="<i>odd</i>", features=(name, "y"), label="truth", signal="1", background="0")
    toy_frame().select("truth", pl.col("x").alias(name), "y").write_csv(path)
    found = explore(path, schema=schema)
    assert name in render_terminal(found, 120)
    page = render_page(found)
    assert "<b>" not in page
    assert "<new>" not in page
    assert "[red]&lt;b&gt;&amp;x" in page


def test_page_is_self_contained_accessible_and_the_same_twice(
    toy_found: Exploration, render_page: Callable[[Exploration], str]
) -> None:
    text = render_page(toy_found)
    assert render_page(toy_found) == text
    images = re.findall(r'<img src="([^"]*)" alt="([^"]*)"', text)
    assert len(images) == text.count("<img") == 10
    assert all(alt and source.startswith("data:image/svg+xml;base64,") for source, alt in images)
    assert text.count("<table") == text.count("<caption")
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert not re.search("<(script|link|iframe)", text)


def test_page_of_unlabelled_events(tmp_path: Path, render_page: Callable[[Exploration], str]) -> None:
    toy_frame().drop("truth", "w", "part").write_csv(tmp_path / "test.csv")
    found = explore(tmp_path / "test.csv", schema=TOY)
    text = render_page(found)
    assert "no column truth" in text
    assert "Single-feature separation" not in text
    assert "no column truth" in " ".join(render_terminal(found, 80).split())


def test_what_a_page_needs_is_checked_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from higgsbench.pages.drawing import check_page

    pytest.importorskip("mplhep", reason="needs the extra 'report'")
    with pytest.raises(DataError, match="does not exist"):
        check_page(tmp_path / "absent" / "page.html")
    monkeypatch.setitem(sys.modules, "mplhep", None)
    with pytest.raises(MissingExtraError, match=r"higgsbench\[report\]"):
        check_page(tmp_path / "page.html")
