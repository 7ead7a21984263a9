"""Every rule catches what it is there for, and nothing that real events do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.validation_corruptions import KINDS, Caught, corruptions_caught, total_share
from higgsbench.errors import DataError
from higgsbench.events import Events
from higgsbench.events.derived import ANALYTIC, agreement, columns_of, derive, rounding_bounds
from higgsbench.events.validate import RULES, ValidationReport, validate_events, validate_file
from higgsbench.events.validate.rules import _disagrees, rules_of
from higgsbench.events.validate.table import DECIMAL, WEIGHTS, RuleTable
from higgsbench.events.write import write_events
from higgsbench.schema import ATLAS_HIGGS, DERIVED, FEATURES, SCHEMAS, SIMULATED_FROM, TableSchema

NUMBERS = (*DECIMAL, *WEIGHTS)


def with_cell(frame: pl.DataFrame, row: int, **cells: Any) -> pl.DataFrame:
    index = pl.int_range(frame.height)
    return frame.with_columns(
        pl.when(index == row).then(pl.lit(value, dtype=frame.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in cells.items()
    )


def broken(report: ValidationReport, status: str = "violated") -> set[str]:
    return {result.rule.name for result in report.results if result.status == status}


def row_with_jets(frame: pl.DataFrame, number: int) -> int:
    return int((frame["PRI_jet_num"] == number).arg_max() or 0)


def test_names_are_unique_and_every_rule_says_what_it_demands() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.description for rule in RULES)
    assert {f"derived_{name}" for name in DERIVED if name != "DER_mass_MMC"} <= {rule.name for rule in RULES}


TWO = TableSchema("two", ("PRI_met", "PRI_met_phi", "m"), "y", signal="1", background="0", weight="w", event_id="n",
                  group="jets", groups=((0,), (1, 2)), missing=-7.0)  # fmt: skip
FINE: dict[str, list[Any]] = {
    "n": [1, 2], "PRI_met": [30.0, 40.0], "PRI_met_phi": [3.0, None], "m": [1.0, 2.0], "jets": [0, 2],
    "w": [0.5, 1.5], "y": ["1", "0"]}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value", "rule", "status"),
    [
        ("n", 1, "event_id_unique", "violated"),
        ("m", float("inf"), "finite", "violated"),
        ("y", "2", "known_y", "violated"),
        ("w", 0.0, "positive_w", "violated"),
        ("jets", 3, "groups", "violated"),
        ("PRI_met", -1.0, "range_PRI_met", "violated"),
        ("PRI_met_phi", 3.2, "range_PRI_met_phi", "violated"),
        ("m", -999.0, "unknown_mark", "warning"),
    ],
)
def test_other_layouts_are_checked_for_what_they_state(column: str, value: Any, rule: str, status: str) -> None:
    assert validate_events(pl.DataFrame(FINE), schema=TWO).passed(strict=True)
    report = validate_events(pl.DataFrame(FINE | {column: [FINE[column][0], value]}), schema=TWO)
    assert (broken(report, status), report.passed()) == ({rule}, status == "warning")
    assert next(result for result in report.results if result.rule.name == rule).first[0]["row"] == 2


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_layout_has_rules_with_names_of_their_own(schema: TableSchema) -> None:
    names = [rule.name for rule in rules_of(schema)]
    assert len(set(names)) == len(names)
    assert {"finite", "never_missing"} <= set(names)
    if schema.missing is None:
        frame = pl.DataFrame({name: [None, 1.0] for name in schema.features} | {schema.label: ["1", "0"]})
        assert "never_missing" in broken(validate_events(frame, schema=schema))


@pytest.mark.parametrize("name", ["fair-universe-2023", "uci-higgs"])
def test_real_events_of_other_layouts_pass(name: str) -> None:
    file = Path(__file__).parents[2] / f"../shared/data/{name}-sample.csv.gz"
    if not file.is_file():
        pytest.skip("the samples of real events (../shared/data) are not there")
    assert validate_file(file, schema=SCHEMAS[name]).passed(strict=True)


def test_lines_of_files_without_header(tmp_path: Path) -> None:
    schema = TableSchema("x", ("a",), "y", signal="1", background="0", header=False, columns=("y", "a"))
    for header, line in (("", 2), ("y,a\n", 3)):
        (tmp_path / "a.csv").write_text(f"{header}1,0.5\n2,1.5\n")
        (found,) = (r for r in validate_file(tmp_path / "a.csv", schema=schema).results if r.first)
        assert found.first == ({"row": 2, "line": line, "y": "2"},)


def test_all_real_events_pass_even_strictly(sample: pl.DataFrame) -> None:
    report = validate_events(sample)
    assert report.rows == 15_000
    assert report.passed(strict=True)
    assert all(result.status == "held" for result in report.results)


def test_simulated_events_pass(toys: pl.DataFrame) -> None:
    report = validate_events(Events(toys, ATLAS_HIGGS, "toys"))
    assert report.source == "toys"
    assert broken(report) == set()
    assert not report.violating.any()
    assert validate_events(as_stored(toys)).passed()  # the sentinel means the same as null
    assert validate_events(toys.drop("Weight", "Label", "KaggleSet", "KaggleWeight")).passed()
    no_jets = with_cell(toys, row_with_jets(toys, 0), PRI_jet_all_pt=-0.0)
    assert validate_events(no_jets).passed()


def test_extreme_but_genuine_values_pass(toys: pl.DataFrame) -> None:
    # Nothing depends on sumet: a huge value is an outlier, no error. 3.142 is pi after rounding.
    frame = with_cell(toys, 0, PRI_met_sumet=2842.617)
    assert validate_events(frame).passed(strict=True) == validate_events(toys).passed(strict=True)
    report = validate_events(with_cell(toys, 0, PRI_tau_phi=3.142, PRI_lep_phi=-3.142, PRI_met_phi=3.142))
    assert not {name for name in broken(report) if name.startswith("range_")}
    assert "range_PRI_met_phi" in broken(validate_events(with_cell(toys, 0, PRI_met_phi=3.143)))


@pytest.mark.parametrize(
    ("cells", "rule"),
    [
        ({"PRI_tau_pt": 19.999}, "range_PRI_tau_pt"),
        ({"PRI_tau_eta": -2.501}, "range_PRI_tau_eta"),
        ({"PRI_lep_pt": 25.999}, "range_PRI_lep_pt"),
        ({"PRI_lep_eta": 2.6}, "range_PRI_lep_eta"),
        ({"PRI_met": 0.0}, "range_PRI_met"),
        ({"PRI_met_sumet": -1.0}, "range_PRI_met_sumet"),
        ({"PRI_jet_num": 4}, "range_PRI_jet_num"),
        ({"PRI_tau_phi": -3.15}, "range_PRI_tau_phi"),
        ({"DER_mass_MMC": -5.0}, "range_DER_mass_MMC"),
        ({"PRI_tau_pt": None}, "never_missing"),
        ({"PRI_met_sumet": math.nan}, "finite"),
        ({"PRI_met_sumet": math.inf}, "finite"),
        ({"PRI_met_sumet": 200.1234}, "decimals"),
        ({"Label": "x"}, "label"),
        ({"KaggleSet": "q"}, "subset"),
        ({"EventId": SIMULATED_FROM + 3}, "event_id_unique"),
        ({"Weight": 0.0}, "weight_positive"),
        ({"KaggleWeight": -1.0}, "subset_weight_positive"),
        ({"Weight": 0.5}, "weight_ratio"),
        ({"KaggleWeight": 0.5}, "weight_ratio"),
    ],
)
def test_a_single_wrong_cell_is_caught_and_shown(toys: pl.DataFrame, cells: dict[str, Any], rule: str) -> None:
    frame = with_cell(toys, 17, **cells)
    report = validate_events(frame)
    result = next(r for r in report.results if r.rule.name == rule)
    assert (result.status, result.offenders) == ("violated", 1)
    assert (result.first[0]["row"], result.first[0]["EventId"]) == (18, frame["EventId"][17])
    assert next(iter(cells)) in result.first[0]
    assert not report.passed()
    assert report.violating[17]


@pytest.mark.parametrize("name", [name for name in DERIVED if name != "DER_mass_MMC"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_derived_quantities_must_follow_from_primary_ones(toys: pl.DataFrame, name: str, factor: float) -> None:
    row = int(toys.select(pl.when(pl.col("PRI_jet_num") >= 2).then(pl.col(name).abs()).arg_max()).item())
    value = round(toys[name][row] * factor, 3)
    assert f"derived_{name}" in broken(validate_events(with_cell(toys, row, **{name: value})))


def test_jet_values_must_exist_exactly_with_the_jets(toys: pl.DataFrame) -> None:
    none, one, two = (row_with_jets(toys, n) for n in (0, 1, 2))
    report = validate_events(with_cell(toys, none, PRI_jet_leading_eta=1.0))
    assert broken(report) == {"missing_leading_jet"}
    first = next(r for r in report.results if r.rule.name == "missing_leading_jet").first[0]
    assert set(first) == {"row", "EventId", "PRI_jet_num", "PRI_jet_leading_eta"}
    assert broken(validate_events(with_cell(toys, one, DER_mass_jet_jet=80.0))) == {"missing_second_jet"}
    assert "missing_second_jet" in broken(validate_events(with_cell(toys, two, DER_lep_eta_centrality=None)))
    assert validate_events(with_cell(toys, two, DER_mass_MMC=None)).passed()


def test_jets_are_ordered_and_add_up(toys: pl.DataFrame) -> None:
    one, two, three = (row_with_jets(toys, n) for n in (1, 2, 3))
    pt = toys["PRI_jet_leading_pt"]
    assert "jets_ordered" in broken(validate_events(with_cell(toys, two, PRI_jet_subleading_pt=pt[two] + 1)))
    assert "jets_sum" in broken(validate_events(with_cell(toys, one, PRI_jet_all_pt=pt[one] + 0.005)))
    least = pt[three] + toys["PRI_jet_subleading_pt"][three] + 30.0
    assert "jets_sum" in broken(validate_events(with_cell(toys, three, PRI_jet_all_pt=round(least - 0.1, 3))))
    assert "jets_sum" not in broken(validate_events(with_cell(toys, three, PRI_jet_all_pt=round(least + 900, 3))))


def test_rare_but_legal_things_fail_only_strictly(toys: pl.DataFrame) -> None:
    calm = toys.filter(~validate_events(toys).unusual)
    report = validate_events(with_cell(calm, 5, PRI_met_sumet=15.0))
    assert broken(report) == set()
    assert broken(report, "warning") == {"range_PRI_met_sumet_usual"}
    assert report.passed()
    assert not report.passed(strict=True)
    assert report.unusual.sum() == 1


def test_a_label_against_its_weight_is_a_warning_without_the_second_weight(toys: pl.DataFrame) -> None:
    frame = toys.drop("KaggleWeight", "KaggleSet")
    background = int((frame["Label"] == "b").arg_max() or 0)
    report = validate_events(with_cell(frame, background, Label="s"))
    assert {"label_and_weight", "signal_weights_few"} <= broken(report, "warning")
    assert broken(report, "not applicable") == {"subset", "subset_weight_positive", "weight_ratio"}


def test_rows_are_found_in_every_block(toys: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("higgsbench.events.validate._BLOCK", 1000)
    frame = toys
    for row in (3999, 5, 2000):
        frame = with_cell(frame, row, PRI_met_phi=4.0)
    result = next(r for r in validate_events(frame, shown=2).results if r.rule.name == "range_PRI_met_phi")
    assert (result.offenders, result.checked) == (3, 4000)
    assert [first["row"] for first in result.first] == [6, 2001]


def test_files_name_their_lines(toys: pl.DataFrame, tmp_path: Path) -> None:
    frame = with_cell(toys, 4, Weight=-1.0)
    text = validate_file(write_events(frame, tmp_path / "a.csv"))
    table = validate_file(write_events(frame, tmp_path / "a.parquet"))
    first = [next(r for r in report.results if r.status == "violated").first[0] for report in (text, table)]
    assert (first[0]["row"], first[0]["line"]) == (5, 6)
    assert "line" not in first[1]


def test_unreadable_content_is_an_error(toys: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no events"):
        validate_events(toys.head(0))
    with pytest.raises(DataError, match="PRI_met"):
        validate_events(toys.drop("PRI_met"))
    file = tmp_path / "a.csv"
    file.write_text(write_events(toys, tmp_path / "b.csv").read_text().replace(f"{toys['PRI_met'][0]}", "abc", 1))
    with pytest.raises(DataError, match=r"line 2.*'abc' is not a number"):
        validate_file(file)


@pytest.mark.parametrize("name", ANALYTIC)
def test_shortcuts_agree_with_the_full_bounds(toys: pl.DataFrame, name: str) -> None:
    columns = columns_of(toys, FEATURES)
    bound = rounding_bounds(columns, (name,))[name]
    rng = np.random.default_rng(1)
    # Around the bound on either side, where a wrong shortcut would show.
    moved = derive(columns, (name,))[name] + bound * rng.uniform(0.9, 1.1, len(toys)) * rng.choice([-1, 1], len(toys))
    wrong = ~agreement(columns, {name: moved}, (name,))[name] & ~np.isnan(moved)
    table = RuleTable(toys.with_columns(pl.Series(name, moved, nan_to_null=True)))
    found = _disagrees(name, table)
    assert 0 < wrong.sum() < np.sum(~np.isnan(moved))
    # The shortcuts give away at most the 1e-9 for the binary tail of decimals.
    assert np.sum(found != wrong) == 0


@given(column=st.sampled_from(FEATURES), row=st.integers(0, 39), value=st.one_of(st.none(), st.floats(width=64)))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_of_a_cell_makes_it_fail(toys: pl.DataFrame, column: str, row: int, value: float | None) -> None:
    frame = toys.head(40)
    if column == "PRI_jet_num":
        value = None if value is None or not abs(value) < 2**62 else int(value)
    frame = with_cell(frame, row, **{column: value})
    report = validate_events(frame)
    json.dumps(report.as_dict(), allow_nan=False)
    assert report.violating.sum() <= 1


# Limits widen by as much as a file's precision moves its values, in every format, and by no more


def as_stored(frame: pl.DataFrame) -> pl.DataFrame:
    """The table as a file holds it, missing values as -999."""
    return frame.with_columns(pl.col(DECIMAL).fill_null(-999.0))


def single(frame: pl.DataFrame, names: tuple[str, ...] = NUMBERS) -> pl.DataFrame:
    return as_stored(frame).with_columns(pl.col(names).cast(pl.Float32))


def with_digits(frame: pl.DataFrame, form: str, names: tuple[str, ...], target: Path) -> Path:
    texts = (pl.Series(name, [form % value for value in as_stored(frame)[name]]) for name in names)
    as_stored(frame).with_columns(texts).write_csv(target)
    return target


def offended(report: ValidationReport) -> dict[str, int]:
    return {r.rule.name: r.offenders for r in report.results if r.status == "violated"}


@pytest.mark.parametrize("names", [NUMBERS, NUMBERS[::2]], ids=["all", "some"])
@pytest.mark.parametrize("kind", ["parquet", "csv", "wide.csv"])
def test_single_precision_breaks_no_rule(toys: pl.DataFrame, tmp_path: Path, kind: str, names: tuple[str, ...]) -> None:
    target, frame = tmp_path / f"toys.{kind}", single(toys, names)
    if kind == "parquet":
        frame.write_parquet(target)
    else:  # the shortest text of each number, or all digits of its double
        (frame if kind == "csv" else frame.with_columns(pl.col(names).cast(pl.Float64))).write_csv(target)
    assert offended(validate_file(target)) == {}


def test_single_precision_breaks_no_rule_in_root(toys: pl.DataFrame, tmp_path: Path) -> None:
    uproot: Any = pytest.importorskip("uproot")
    # Labels are numbers here, for brevity: each of them breaks its own rule.
    table = single(toys).select("EventId", *FEATURES, "Weight", (pl.col("Label") == "s").cast(pl.Int32))
    with uproot.recreate(tmp_path / "toys.root") as file:
        file["events"] = {column.name: column.to_numpy() for column in table}
    assert offended(validate_file(tmp_path / "toys.root")) == {"label": len(toys)}


@pytest.mark.parametrize(
    ("form", "names"),
    [("%.2f", DECIMAL), *((f"%.{digits}g", NUMBERS) for digits in (3, 4, 5, 6, 7)), ("%.6g", WEIGHTS)],
)
def test_few_digits_break_no_rule(toys: pl.DataFrame, tmp_path: Path, form: str, names: tuple[str, ...]) -> None:
    for frame in (toys, toys.head(5)) if form == "%.2f" else (toys,):
        assert offended(validate_file(with_digits(frame, form, names, tmp_path / "toys.csv"))) == {}


def test_real_events_in_single_precision_pass_even_strictly(sample: pl.DataFrame) -> None:
    assert validate_events(sample.with_columns(pl.col(NUMBERS).cast(pl.Float32))).passed(strict=True)


@pytest.mark.parametrize(
    ("form", "moved", "rule"),
    [
        (None, {"DER_sum_pt": 0.002}, "derived_DER_sum_pt"),
        (None, {"DER_deltaeta_jet_jet": 0.003}, "derived_DER_deltaeta_jet_jet"),
        (None, {"PRI_met_phi": 4.0}, "range_PRI_met_phi"),
        (None, {"KaggleWeight": 1e-5}, "weight_ratio"),
        ("%.2f", {"DER_sum_pt": 0.05}, "derived_DER_sum_pt"),
        ("%.2f", {"PRI_jet_all_pt": 0.05}, "jets_sum"),
        ("%.6g", {"KaggleWeight": 0.1}, "weight_ratio"),
    ],
)
def test_a_wrong_value_is_found_in_low_precision_too(
    toys: pl.DataFrame, tmp_path: Path, form: str | None, moved: dict[str, float], rule: str
) -> None:
    # Single precision resolves 1e-5 in the weights of signal, not in the largest of background.
    row = row_with_jets(toys.with_columns(pl.when(pl.col("Label") == "s").then("PRI_jet_num").otherwise(-1)), 2)
    changed = with_cell(toys, row, **{name: toys[name][row] + size for name, size in moved.items()})
    target = tmp_path / "toys.csv"
    if form is None:
        single(changed).write_csv(target)
    else:
        with_digits(changed, form, NUMBERS if form.endswith("g") else DECIMAL, target)
    assert offended(validate_file(target)).get(rule) == 1


def test_full_precision_gets_no_slack(toys: pl.DataFrame) -> None:
    table = RuleTable(toys)
    assert all(table.slack(name) == 0.0 for name in DECIMAL)


# What share of one-cell corruptions is noticed; benchmarks/validation_corruptions.py prints the whole table

# Measured shares are 1 to 3 percentage points higher; a rule that stops working costs more than that.
LEAST = {
    "sign flipped": 0.96,
    "times 10": 0.88,
    "plus 1": 0.87,
    "last digit plus 1": 0.18,
    "another event's value": 0.87,
    "value to missing": 0.94,
    "missing to value": 0.92,
    "another Label": 0.98,
}
BLIND = {"DER_mass_MMC", "PRI_met_sumet"}
"""No other column says what these ought to be."""


def check(results: list[Caught]) -> None:
    for kind in dict.fromkeys(result.kind for result in results):
        share = total_share([r for r in results if r.kind == kind])
        assert share >= LEAST.get(kind, 0.0), kind
    plain = [r for r in results if r.kind not in ("last digit plus 1", "another KaggleSet")]
    assert sum(r.cells for r in plain) > 10_000
    assert total_share(plain) > 0.9
    assert total_share([r for r in plain if r.column not in BLIND]) > 0.95
    assert total_share(plain, strict=True) >= total_share(plain)


def test_simulated_events(toys: pl.DataFrame) -> None:
    results = corruptions_caught(toys, seed=1)
    assert {result.kind for result in results} == {*KINDS, "another Label", "another KaggleSet"}
    check(results)
    # With several sets in the file, each has its ratio of weights.
    assert total_share([r for r in results if r.kind == "another KaggleSet"]) > 0.95


def test_real_events(sample: pl.DataFrame) -> None:
    check(corruptions_caught(sample, seed=1))


def test_weights_cannot_be_changed_unnoticed(toys: pl.DataFrame) -> None:
    results = [r for r in corruptions_caught(toys.head(1000), seed=2) if r.column in ("Weight", "KaggleWeight")]
    results = [r for r in results if r.kind != "last digit plus 1"]  # below the tolerance for large weights
    assert total_share(results) == pytest.approx(1.0)
