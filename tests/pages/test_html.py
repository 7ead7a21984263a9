"""Pages: every text is escaped, tables sort by numbers, the security policy fits, and drawing is quiet."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import re

import pytest
from rich.console import Console

from higgsbench.pages import (
    Cell,
    Definitions,
    Details,
    Gallery,
    Heading,
    Listing,
    Part,
    Picture,
    Section,
    Table,
    html_table,
    page,
)
from higgsbench.pages.drawing import style

ODD = "<b>&\"'\x1b</script></style>"


def shown(*parts: Part) -> str:
    return page("t", [], [Section("a", "A", parts)], "")


@pytest.mark.parametrize(
    "part",
    [
        ODD,
        Heading(ODD),
        Listing(ODD, ODD),
        Definitions([(ODD, ODD)]),
        Table(ODD, [ODD, ODD], [(ODD, Cell(ODD, 1.0))]),
        Table(ODD, [ODD], [(ODD,)], sortable=True),
        Gallery([Picture("<svg/>", ODD, ODD)]),
        Details(ODD, [ODD, Table(ODD, [ODD], [(ODD,)])]),
    ],
    ids=lambda part: type(part).__name__,
)
def test_every_text_is_escaped(part: Part) -> None:
    text = page(ODD, [ODD], [Section("a", ODD, [part])], ODD)
    assert "<b>" not in text
    assert "\x1b" not in text
    assert text.count("</style>") == 1
    assert text.count("</script>") == ("sortable" in text.split("<body>")[1])
    assert text.count("&lt;b&gt;&amp;&#34;&#39;\N{REPLACEMENT CHARACTER}") >= 7


def test_cells_carry_what_they_are_sorted_by() -> None:
    text = shown(Table("t", ["a", "b"], [("x", Cell("1.2 ± 0.1", 1.23456789)), ("y", Cell("", None))], sortable=True))
    assert '<td data-value="1.23456789">1.2 ± 0.1</td>' in text
    assert '<td data-value=""></td>' in text
    assert '<table class="sortable">' in text
    odd = shown(Table("t", ["a", "b"], [(Cell("∞", float("inf")), Cell("-", float("nan")))], text=()))
    assert '<th scope="row" data-value="Infinity">∞' in odd
    assert '<td data-value="">-' in odd


def test_a_narrow_terminal_stacks_columns_and_loses_none() -> None:
    rows = [["alpha", *(f"{number}.25 ± 0.125" for number in range(9))], ["beta", *"123456789"]]
    table = Table("t", ["model", *(f"metric {number}" for number in range(9))], rows)
    console = Console(width=80, file=io.StringIO(), record=True)
    table.show(console, stack=True)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("alpha" in line for line in lines) == 3
    assert sum(line.count(" ± 0.125") for line in lines) == 9
    assert len(table.stacked(200)) == 1
    long = Table("t", ["model", "metric"], [["x" * 90, "1"]])
    assert [part.headings for part in long.stacked(80)] == [["model", "metric"]]


def test_a_notebook_escapes_every_text_and_shows_the_first_rows() -> None:
    text = html_table(Table(ODD, ["a", ODD], [(ODD, Cell(ODD, 1.0))], marks=["best"]))
    assert text.count("&lt;b&gt;&amp;&quot;&#x27;\N{REPLACEMENT CHARACTER}") == 4
    assert not re.search("<b>|<style|<script|\x1b", text)
    assert 'style="font-weight:bold"' in text
    many = html_table(Table("t", ["a"], [(str(number),) for number in range(120)]))
    assert many.count("<td") == 100
    assert "t (first 100 rows of 120)" in many


def test_rows_and_columns_are_styled() -> None:
    text = shown(Table("t", ["a", "b", "c"], [("x", "1", "y"), ("z", "2", "w")], text=(0, 2), marks=["best", ""]))
    assert '<tr class="best"><th scope="row" class="t">x</th><td>1</td><td class="t">y</td></tr>' in text
    assert '<tr><th scope="row" class="t">z</th>' in text


@pytest.mark.parametrize("inside", [False, True])
def test_the_policy_allows_the_styles_and_the_script_of_the_page_only(inside: bool) -> None:
    table = Table("t", ["a"], [("x",)], sortable=True)
    text = shown(Details("d", [table]) if inside else table)
    (policy,) = re.findall(r'Security-Policy" content="([^"]*)"', text)
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_pages_without_sorting_run_no_script_and_empty_sections_are_left_out() -> None:
    text = page("t", [], [Section("a", "A", [Table("t", ["a"], [("x",)])]), Section("b", "B", [])], "")
    assert "script" not in text.lower()
    assert 'href="#a"' in text
    assert 'id="b"' not in text


def test_a_temporary_cache_of_matplotlib_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Regression: without a home directory, every report began with a warning about the cache."""
    pytest.importorskip("mplhep")
    with style():
        logger = logging.getLogger("matplotlib")
        logger.warning("mkdir -p failed for path %s: %s", "a", "b")
        logger.warning("Matplotlib created a temporary cache directory at %s because there was %s", "a", "b")
        logger.warning("something else")
    assert caplog.messages == ["something else"]
