"""The language of expressions: what the parser finds in them, and what they are worth."""

from __future__ import annotations

import polars as pl
import pytest

from higgsbench.errors import ConfigError
from higgsbench.expressions import Leaf, parse_expression

COLUMNS = ["met", "jet_pt", "event_number", "in", "Jet.pt", "len"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("met", ["met"]),
        ("jet_pt[0] / jet_pt [ 12 ]", ["jet_pt[0]", "jet_pt[12]"]),
        ("len(jet_pt) + SUM( jet_pt ) / met + met", ["len(jet_pt)", "sum(jet_pt)", "met"]),
        ("greatest(max(jet_pt), min(jet_pt), mean(jet_pt))", ["max(jet_pt)", "min(jet_pt)", "mean(jet_pt)"]),
        ('"in" + "Jet.pt"[1] + sum("Jet.pt")', ["in", "Jet.pt[1]", "sum(Jet.pt)"]),
        ("len + len(jet_pt)", ["len", "len(jet_pt)"]),
    ],
)
def test_leaves(text: str, names: list[str]) -> None:
    expression = parse_expression(text, COLUMNS, "weight")
    assert [leaf.name for leaf in expression.leaves] == names
    frame = pl.DataFrame({name: [1, 2] for name in names})
    assert frame.select(expression.polars.alias("x"))["x"].dtype == pl.Float64


def test_a_leaf_says_what_it_reads() -> None:
    text = 'jet_pt[3] - mean(jet_pt) + "Jet.pt"'
    expected = (Leaf("jet_pt", 3), Leaf("jet_pt", "mean"), Leaf("Jet.pt"))
    assert parse_expression(text, COLUMNS, "weight").leaves == expected


@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt64, pl.Int32, pl.UInt8, pl.Float64, pl.Float32])
@pytest.mark.parametrize("number", [3, 5, 300])
def test_modulo_of_whole_numbers(kind: pl.DataType, number: int) -> None:
    values = [0, 1, 4, 7, 255] + ([2**63 - 1, 2**53 + 1] if kind in (pl.Int64, pl.UInt64) else [])
    values += [2**64 - 1] if kind == pl.UInt64 else []
    frame = pl.DataFrame({"event_number": pl.Series(values, dtype=kind)})
    for text in (f"event_number % {number}", f"(0 + event_number % {number} * 1) / 1"):
        found = frame.select(parse_expression(text, COLUMNS, "folds").polars.alias("x"))["x"].to_list()
        assert found == [value % number for value in values]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event_number / 2 % 3", [2.5, 0.5, None]),  # division first, never of whole numbers
        ("2 * event_number % 3", [1.0, 2.0, None]),
        ("event_number % 3 / 2", [1.0, 0.5, None]),
        ("event_number % 2.5", [0.0, 2.0, None]),
        ("event_number % 0", [None, None, None]),
        ("event_number % met", [1.0, None, None]),
        ("event_number % 2 = 1 and met > 1", [1.0, 0.0, None]),
        ("met / 0", [None, None, None]),
        ("met and event_number > 1", [1.0, 0.0, None]),
        ("event_number and met", [1.0, 0.0, None]),
        ("met or event_number - 7", [1.0, 0.0, 1.0]),
        ("not met - 2", [1.0, 0.0, 0.0]),
        ("not (met and event_number)", [0.0, 1.0, None]),
        ("case when met then event_number else -1 end", [5.0, -1.0, None]),
        ("case met when 2 then 1 when 3 then 2 else 0 end", [1.0, 0.0, 2.0]),
        ("if(met, event_number, -1)", [5.0, -1.0, None]),
        ("if(met and not event_number - 5, 1, 0)", [1.0, 0.0, 0.0]),
        ("met between 1 and 3 and event_number", [1.0, 0.0, None]),
        ("(met > 1) + 1 and (met)", [1.0, 0.0, 1.0]),
        ("met is not null and event_number in (5, 7) and (event_number)", [1.0, 1.0, None]),
    ],
)
def test_values(text: str, expected: list[float | None]) -> None:
    frame = pl.DataFrame({"event_number": [5, 7, None], "met": [2.0, 0.0, 3.0]})
    assert frame.select(parse_expression(text, COLUMNS, "select").polars.alias("x"))["x"].to_list() == expected


def test_as_a_condition_a_missing_value_is_false() -> None:
    frame = pl.DataFrame({"met": [2.0, 0.0, None]})
    holds = parse_expression("met", COLUMNS, "select").holds
    assert frame.select(holds.alias("x"))["x"].to_list() == [True, False, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jet_pt[-1]", r"write jet_pt\[0\] for the first element; elements count from 0"),
        ("jet_pt[0.5]", r"write jet_pt\[0\]"),
        ("jet_pt[0", r"write jet_pt\[0\]"),
        ("jet_pt[met]", r"write jet_pt\[0\]"),
        ("(jet_pt + met)[0]", r"'\[' is allowed only for an element of a column"),
        ("jet_pt[0][1]", r"'\[' is allowed only for an element of a column"),
        ("max(jet_pt, met)", r"max .* takes one vector column; the largest of several values is greatest"),
        ("sum(jet_pt[0])", "sum .* takes one vector column"),
        ("sum(2 * jet_pt)", "sum .* takes one vector column"),
        ("sum(jet_p)", r"no column named 'jet_p' \(did you mean 'jet_pt'\?\)"),
        ("jet_p[0]", r"no column named 'jet_p' \(did you mean 'jet_pt'\?\)"),
        ("len(jet_pt) met", "an operator is missing before met"),
        ("met % ", "weight: 'met % ': not an expression; an operand is missing"),
        ("met > > 10", "weight: 'met > > 10': not an expression; an operand is missing"),
        ("sum(jet_pt", r"a bracket '\(' is not closed; add a '\)'"),
        ("met + 1) * (2", r"a bracket '\)' closes nothing"),
        ("ssum(jet_pt)", r"ssum is not a function of one event \(did you mean 'sum'\?\)"),
        ("xyzzy(jet_pt)", "choose from .* len, .* max, mean, .* sum"),
        ("jet_pt(0)", r"jet_pt is not a function of one event; for an element of a column write jet_pt\[0\]"),
        ("met ** 2", r"'\*\*' at character 5 is not an operator; write power\(x, 2\)"),
        ("met^2", r"'\^' at character 4 is not an operator; write power\(x, 2\)"),
        ("met > 1 && met < 3", "'&&' at character 9 is not an operator; write and, or, not"),
        ("met > 1 || met < 3", r"'\|\|' at character 9 is not an operator; write and, or, not"),
        ("!met", "'!' at character 1 is not an operator; write and, or, not"),
        ("mc_label + met", "mc_label is the truth"),
        ("count(jet_pt)", "count is not a function of one event"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_expression(text, COLUMNS, "weight", never=["mc_label"], reason="is the truth")
    assert str(caught.value).startswith("weight: ")
    assert "\n" not in str(caught.value)


def test_behind_the_reader_leaves_are_columns() -> None:
    columns = ["jet_pt[0]", "len(jet_pt)"]
    text = "jet_pt[0] + len(jet_pt)"
    frame = pl.DataFrame({"jet_pt[0]": [1.0], "len(jet_pt)": [2]})
    expression = parse_expression(text, columns, "features", vectors=False)
    assert frame.select(expression.polars.alias("x"))["x"].to_list() == [3.0]
    with pytest.raises(ConfigError, match=r"no column named 'jet_pt\[1\]' \(did you mean 'jet_pt\[0\]'"):
        parse_expression("jet_pt[1]", columns, "features", vectors=False)
