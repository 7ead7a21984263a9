"""Built-in layouts: each in every format, recognised by its columns; files that have none of them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.config.load import load_config, with_layout
from higgsbench.errors import DataError
from higgsbench.events import EventStream, load_events
from higgsbench.events.check import column_types
from higgsbench.events.samples import recognised
from higgsbench.events.write import FORMATS, write_events
from higgsbench.schema import ATLAS_HIGGS, FAIR_UNIVERSE, SCHEMAS, UCI_HIGGS, UCI_SUSY, TableSchema
from tests.conftest import Call

DATA = Path(__file__).parents[2] / "../shared/data"
ROWS = 6
EVERY = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


def table(schema: TableSchema) -> pl.DataFrame:
    """Events of a layout, the first value of the first feature missing where the layout allows it."""
    columns: dict[str, Any] = {}
    for at, (name, kind) in enumerate(column_types(schema).items()):
        numbers = np.arange(ROWS) % 3 + (0 if name in schema.integers else 0.25 * at)
        columns[name] = pl.Series(numbers, dtype=pl.Float64() if kind == pl.String() else kind)
    if schema.missing is not None:
        first = schema.features[0]
        columns[first] = pl.Series([None, *columns[first][1:]])
    columns[schema.label] = [schema.signal if i % 2 else str(schema.background) for i in range(ROWS)]
    if schema.event_id is not None:
        columns[schema.event_id] = np.arange(ROWS)[::-1] + 5
    if schema.weight is not None:
        columns[schema.weight] = np.arange(ROWS) + 0.5
    if schema.process is not None:
        columns[schema.process] = [f"process {i}" for i in range(ROWS)]
    if schema.subset is not None:
        columns |= {schema.subset: ["t"] * ROWS, str(schema.subset_weight): np.full(ROWS, 1.5)}
    return pl.DataFrame(columns)


@EVERY
@pytest.mark.parametrize("ending", FORMATS)
def test_every_layout_in_every_format(schema: TableSchema, ending: str, tmp_path: Path) -> None:
    """The file is recognised, and events, digest and order stay the same."""
    if ending == ".root":
        pytest.importorskip("uproot")
    events = table(schema)
    file = write_events(events, tmp_path / f"events{ending}", schema)
    stream = EventStream(file)
    assert stream.schema is schema
    assert stream.table().equals(events)
    direct = load_events(write_events(events, tmp_path / "direct.parquet", schema), schema, cache=False)
    assert load_events(file, cache=False).digest == direct.digest


@EVERY
def test_values_that_are_missing(schema: TableSchema, tmp_path: Path) -> None:
    text = write_events(table(schema), tmp_path / "a.csv", schema).read_text()
    if schema.missing is not None:
        assert f"{schema.missing}" in text.splitlines()[1].split(",")
        assert load_events(tmp_path / "a.csv").frame[schema.features[0]].null_count() == 1


@pytest.mark.parametrize("schema", [s for s in SCHEMAS.values() if not s.header], ids=lambda s: s.name)
@pytest.mark.parametrize("zipped", [False, True])
def test_without_a_header(schema: TableSchema, zipped: bool, tmp_path: Path) -> None:
    events = table(schema)
    lines = events.select(schema.columns).write_csv(include_header=False).replace("\n1,", "\n1.000e+00,")
    (tmp_path / "a").write_bytes(gzip.compress(lines.encode()) if zipped else lines.encode())
    assert recognised(tmp_path / "a") is schema
    assert load_events(tmp_path / "a", cache=False).frame.equals(events)


def test_columns_that_a_layout_does_not_name(tmp_path: Path) -> None:
    """Joined bundles of FAIR Universe have the columns source_file and tes; test files have no labels."""
    schema = SCHEMAS["fair-universe-2023"]
    joined = table(schema).fill_null(-7.0).with_columns(source_file=pl.lit("a, b"), tes=pl.lit(1.01))
    joined.write_csv(tmp_path / "a.csv")
    assert load_events(tmp_path / "a.csv").frame.columns == list(column_types(schema))
    joined.drop("Label", "Weight").write_csv(tmp_path / "b.csv")
    assert not load_events(tmp_path / "b.csv").labelled
    table(FAIR_UNIVERSE).fill_null(-25.0).select(FAIR_UNIVERSE.features).write_parquet(tmp_path / "c.parquet")
    assert recognised(tmp_path / "c.parquet") is FAIR_UNIVERSE


NUMBERS = ",".join(["0.5"] * 18)
REFUSED = {
    "other columns": (b"x,y,label\n1,2,1\n", r"a: the columns \(x, y, label\) match no built-in layout"),
    "many columns": (b"a,b,c,d,e\n", r"a: the columns \(a, b, c, d, \.\.\.\) match no"),
    "numbers": (b"1,2,3\n4,5,6\n", "a: line 1 is not a header, and no built-in layout without one has 3 columns"),
    "another label": (f"7,{NUMBERS}\n".encode(), "has 19 columns and this label; describe the columns"),
    "a text among numbers": (f"x,{NUMBERS}\n".encode(), "line 1 is not a header"),
    "a label far down": (f"1,{NUMBERS}\n2,{NUMBERS}\n".encode(), r"row 2 \(line 2\), column label: found '2'"),
    "too few cells": (f"1,{NUMBERS}\n1,2\n".encode(), r"row 2 \(line 2\), column lepton_1_eta: empty"),
    "an empty file": (b"", "a: the file is empty"),
    "one feature lacks": (",".join(UCI_HIGGS.columns[:-1]).encode() + b"\n", "missing column m_wwbb; the layout"),
    "one feature more": (",".join([*UCI_SUSY.columns, "x"]).encode() + b"\n", "unknown column 'x'.*layout is uci-susy"),
    "a twin": (",".join([*UCI_SUSY.columns, "R"]).encode() + b"\n", "column R appears twice"),
    "damaged Parquet": (b"PAR1" + bytes(50), "damaged or not a Parquet file"),
    "damaged ROOT": (b"root\x00" + bytes(50), "damaged or not a ROOT file"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_other_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    if content.startswith(b"root"):
        pytest.importorskip("uproot")
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_events(tmp_path / "a", cache=False)
    assert "\n" not in str(caught.value)


def test_a_file_with_only_the_truth(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("EventId,Weight,Label\n1,1,s\n")
    assert recognised(tmp_path / "a.csv", ATLAS_HIGGS) is ATLAS_HIGGS


def test_the_layout_is_part_of_the_configuration(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_events(table(UCI_SUSY), tmp_path / "a.csv", UCI_SUSY)
    config: dict[str, Any] = {"data": {"path": str(file)}, "models": ["logistic"]}
    with caplog.at_level("INFO", "higgsbench"):
        loaded = with_layout(load_config(config))
    assert loaded.config.data.layout == "uci-susy"
    assert [record.getMessage() for record in caplog.records] == [f"{file}: recognised as the layout uci-susy"]
    assert loaded.config.data.table_schema() is UCI_SUSY
    assert len(caplog.records) == 1
    config["data"] = {"source": "simulated"}
    assert with_layout(load_config(config)).config.data.layout == "atlas-higgs-2014"


@pytest.mark.parametrize(
    ("name", "layout", "events"),
    [("fair-universe-2023-sample", "fair-universe-2023", 24_150), ("uci-higgs-sample", "uci-higgs", 10_984)],
)
def test_samples(name: str, layout: str, events: int) -> None:
    file = DATA / f"{name}.csv.gz"
    if not file.is_file():
        pytest.skip(f"{file.name} (../shared/data) is not there")
    found = load_events(file, cache=False)
    assert (found.schema.name, len(found), found.labelled) == (layout, events, True)


class TestCommands:
    def test_convert_keeps_the_order(self, call: Call, tmp_path: Path) -> None:
        events = table(UCI_SUSY)
        lines = events.select(UCI_SUSY.columns).write_csv(include_header=False)
        (tmp_path / "SUSY.csv").write_text(lines)
        last = "SUSY.csv"
        pytest.importorskip("uproot")
        for ending in FORMATS:
            code, out, err = call("data", "convert", last, f"next{ending}")
            assert (code, f"next{ending}: 6 events" in out) == (0, True), err
            last = f"next{ending}"
        assert EventStream(last).table().equals(events)

    def test_a_layout_of_ones_own(self, call: Call, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("x,y\n1,0\n,1\n")
        (tmp_path / "own.yaml").write_text("features: [x]\nlabel: y\nmissing: empty\n")
        (tmp_path / "run.yaml").write_text("data: {schema: {features: [x], label: y, missing: -1}}\n")
        assert call("data", "info", "a.csv", "--schema", "own.yaml", "--format", "json")[0] == 0
        assert call("data", "convert", "a.csv", "a.parquet", "--schema", "own.yaml")[0] == 0
        code, _, err = call("data", "convert", "a.csv", "a.root", "--schema", "own.yaml")
        assert (code, err) == (
            2,
            "Error: a.root: column x has missing values, which ROOT cannot leave empty; write Parquet, or name a "
            "number for them as `missing` of the layout\n",
        )
        assert call("data", "info", "a.csv", "--schema", "run.yaml")[0] == 2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                ["--tes", "0.1"],
                "energy shifts need the momentum columns; layout uci-susy lacks PRI_tau_pt, PRI_tau_eta",
            ),
            (["--bkg-scale", "2"], "normalisation shifts need weights, which the layout uci-susy does not have"),
            (["--reselect"], "--reselect uses the thresholds of the challenge, not of the layout uci-susy"),
        ],
    )
    def test_shifts_say_what_a_layout_lacks(self, call: Call, tmp_path: Path, options: list[str], message: str) -> None:
        write_events(table(UCI_SUSY), tmp_path / "a.csv", UCI_SUSY)
        code, _, err = call("data", "shift", "a.csv", "b.csv", *options)
        assert (code, err.splitlines()[-1].startswith(f"Error: a.csv: {message}")) == (2, True), err
        assert not (tmp_path / "b.csv").exists()

    def test_configurations_name_events_and_layouts(self, call: Call, tmp_path: Path) -> None:
        (tmp_path / "s.csv").write_text("n,pt,w\n1,2.5,1\n2,7.5,2\n")
        (tmp_path / "b.csv").write_text("n,pt,w\n1,3.5,-1\n2,4.5,8\n")
        (tmp_path / "c.yaml").write_text(
            "data:\n  samples: [{files: s.csv, process: H, signal: true}, {files: b.csv, process: Z}]\n"
            "  id: n\n  weight: w\n  negative_weights: drop\n  features: [pt]\nmodels: [logistic]\n"
        )
        code, out, err = call("data", "validate", "c.yaml")
        assert (code, "passed" in out) == (0, True), err
        assert call("data", "convert", "c.yaml", "all.parquet")[0] == 0
        events = pl.read_parquet(tmp_path / "all.parquet")
        assert sorted(events["Process"]) == ["H", "H", "Z", "Z"]
        assert call("data", "shift", "c.yaml", "shifted.parquet", "--bkg-scale", "2")[0] == 0
        moved = pl.read_parquet(tmp_path / "shifted.parquet").filter(pl.col("Process") == "Z")["Weight"]
        assert sorted(moved) == [-2.0, 16.0]
        assert call("data", "info", "c.yaml")[0] == 0
        assert call("data", "validate", "s.csv", "--schema", "c.yaml")[0] == 0

    def test_layouts_are_listed(self, call: Call) -> None:
        out = call("data", "layouts")[1]
        assert all(name in out for name in SCHEMAS)
        assert "doi:10.24432/C5V312" in out
        assert '"features"' in call("data", "layouts", "--format", "json")[1]
