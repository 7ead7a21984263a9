from __future__ import annotations

from higgsbench.pages.html import Cell, definitions, document, paragraph, preformatted, section, table


def test_every_text_is_escaped() -> None:
    odd = '<b>&"'
    columns = [(odd, True), (odd, False)]
    parts = [
        paragraph(odd),
        preformatted(odd, odd),
        definitions([(odd, odd)]),
        table(odd, columns, [(odd, Cell(odd, 1.0))]),
    ]
    text = document(odd, "", [("a", odd, section("a", odd, *parts))], odd)
    assert "<b>" not in text
    assert text.count("&lt;b&gt;&amp;") == 16


def test_cells_carry_what_they_are_sorted_by() -> None:
    text = table(
        "t", [("a", True), ("b", False)], [("x", Cell("1.2 ± 0.1", 1.23456789)), ("y", Cell("", None))], sortable=True
    )
    assert '<td data-value="1.23456789">1.2 ± 0.1</td>' in text
    assert '<td data-value=""></td>' in text
    assert '<table class="sortable">' in text
    odd = table("t", [("a", False), ("b", False)], [(Cell("∞", float("inf")), Cell("-", float("nan")))])
    assert 'data-value="Infinity">∞' in odd
    assert 'data-value="">-' in odd


def test_pages_without_sorting_run_no_script() -> None:
    text = document("t", "", [], "")
    assert "script" not in text.lower()
