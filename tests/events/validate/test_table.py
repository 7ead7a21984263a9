"""Limits widen by as much as a file's precision moves its values, in every format, and by no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from higgsbench.events.validate import ValidationReport, validate_events, validate_file
from higgsbench.events.validate.table import DECIMAL, RuleTable
from higgsbench.schema import FEATURES

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = ("Weight", "KaggleWeight")
NUMBERS = (*DECIMAL, *WEIGHTS)


def as_stored(frame: pl.DataFrame) -> pl.DataFrame:
    """The table as a file holds it, missing values as -999."""
    return frame.with_columns(pl.col(DECIMAL).fill_null(-999.0))


def single(frame: pl.DataFrame, names: tuple[str, ...] = NUMBERS) -> pl.DataFrame:
    return as_stored(frame).with_columns(pl.col(names).cast(pl.Float32))


def with_digits(frame: pl.DataFrame, form: str, names: tuple[str, ...], target: Path) -> Path:
    texts = (pl.Series(name, [form % value for value in as_stored(frame)[name]]) for name in names)
    as_stored(frame).with_columns(texts).write_csv(target)
    return target


def write_single_root(frame: pl.DataFrame, target: Path) -> None:
    uproot: Any = pytest.importorskip("uproot")
    with uproot.recreate(target) as file:
        columns = {name: single(frame)[name].to_numpy() for name in ("EventId", *FEATURES, "Weight")}
        file["events"] = columns | {"Label": (frame["Label"] == "s").cast(pl.Int32).to_numpy()}


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
    write_single_root(toys, tmp_path / "toys.root")
    # Labels are numbers here, for brevity: each of them breaks its own rule.
    assert offended(validate_file(tmp_path / "toys.root")) == {"label": len(toys)}


@pytest.mark.parametrize(
    ("form", "names"),
    [("%.2f", DECIMAL), *((f"%.{digits}g", NUMBERS) for digits in (3, 4, 5, 6, 7)), ("%.6g", WEIGHTS)],
)
def test_few_digits_break_no_rule(toys: pl.DataFrame, tmp_path: Path, form: str, names: tuple[str, ...]) -> None:
    assert offended(validate_file(with_digits(toys, form, names, tmp_path / "toys.csv"))) == {}


def test_few_digits_break_no_rule_in_few_events(toys: pl.DataFrame, tmp_path: Path) -> None:
    assert offended(validate_file(with_digits(toys.head(5), "%.2f", DECIMAL, tmp_path / "toys.csv"))) == {}


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
    row = int((toys["PRI_jet_num"] == 2).arg_max() or 0)
    changed = toys.with_columns(
        pl.when(pl.int_range(pl.len()) == row).then(pl.col(name) + size).otherwise(pl.col(name)).alias(name)
        for name, size in moved.items()
    )
    target = tmp_path / "toys.csv"
    if form is None:
        single(changed).write_csv(target)
    else:
        with_digits(changed, form, NUMBERS if form.endswith("g") else DECIMAL, target)
    assert offended(validate_file(target)).get(rule) == 1


def test_full_precision_gets_no_slack(toys: pl.DataFrame) -> None:
    table = RuleTable(toys)
    assert all(table.slack(name) == 0.0 for name in DECIMAL)
