"""`higgsbench data` and `explore`: exit codes, one-line errors, tables and JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from higgsbench.events import load_events
from higgsbench.events.fetch import PUBLIC, opendata_path
from higgsbench.schema import ATLAS_HIGGS
from tests.conftest import Call


@pytest.fixture
def run(call: Call) -> Call:
    return partial(call, "data")


def broken_copy(toys: Path, target: Path, **cells: Any) -> Path:
    frame = pl.read_csv(toys)
    first = pl.int_range(frame.height) == 0
    frame.with_columns(
        pl.when(first).then(pl.lit(v, dtype=frame.schema[k])).otherwise(pl.col(k)).alias(k) for k, v in cells.items()
    ).write_csv(target)
    return target


@pytest.mark.parametrize("endings", [("parquet", "csv.gz"), ("root",)])
def test_convert_there_and_back(run: Call, toys: Path, endings: tuple[str, ...]) -> None:
    if "root" in endings:
        pytest.importorskip("uproot")
    file: Path | str = toys
    for ending in (*endings, "csv"):
        code, out, _ = run("convert", file, f"a.{ending}")
        assert (code, out.startswith(f"a.{ending}: 1,600 events, ")) == (0, True)
        file = f"a.{ending}"
        assert load_events(file).digest == load_events(toys).digest
    assert Path(file).read_bytes() == toys.read_bytes()


def test_info(run: Call, toys: Path) -> None:
    code, out, _ = run("info", toys)
    assert code == 0
    for text in (load_events(toys).digest, "691.989", "410,999.847", "PRI_jet_subleading_phi"):
        assert text in out
    content = json.loads(run("info", toys, "--format", "json")[1])
    assert (content["rows"], content["bytes"]) == (1600, toys.stat().st_size)
    assert [subset["name"] for subset in content["subsets"]] == ["t", "b", "v"]
    Path("a.csv").write_text("x,y\n1,2\n")
    assert run("info", "a.csv")[0] == 2


class TestValidate:
    def test_valid(self, run: Call, toys: Path) -> None:
        code, out, err = run("validate", toys)
        assert (code, err) == (0, "")
        assert "violated" not in out
        assert out.rstrip().splitlines()[-1].startswith("passed: ")

    def test_violations(self, run: Call, toys: Path, tmp_path: Path) -> None:
        file = broken_copy(toys, tmp_path / "[a].csv", PRI_met_phi=4.0, PRI_tau_pt=-999.0)
        code, out, err = run("validate", file)
        assert (code, err) == (1, "")
        assert "[a].csv" in out
        assert "violated range_PRI_met_phi" in out
        assert "row 1 (line 2): EventId 1000000000, PRI_met_phi 4.0" in out
        assert "PRI_tau_pt missing" in out
        assert out.rstrip().splitlines()[-1].startswith("failed: ")

    def test_rows_and_strict(self, run: Call, toys: Path, tmp_path: Path) -> None:
        pl.read_csv(toys).with_columns(PRI_met_phi=pl.lit(4.0)).write_csv("a.csv")
        assert "and 1,598 more rows" in run("validate", "a.csv", "--rows", "2")[1]
        file = broken_copy(toys, tmp_path / "a.csv", PRI_met_sumet=15.0)
        assert run("validate", file)[0] == 0
        assert run("validate", file, "--strict")[0] == 1

    def test_json(self, run: Call, toys: Path, tmp_path: Path) -> None:
        file = broken_copy(toys, tmp_path / "a.csv", PRI_lep_pt=1.0)
        code, out, _ = run("validate", file, "--format", "json")
        content = json.loads(out)
        assert (code, content["passed"], content["violating_rows"]) == (1, False, 1)
        rule = next(rule for rule in content["rules"] if rule["rule"] == "range_PRI_lep_pt")
        assert (rule["offenders"], rule["first"][0]["line"], rule["first"][0]["PRI_lep_pt"]) == (1, 2, 1.0)

    def test_what_cannot_be_parsed(self, run: Call, toys: Path) -> None:
        Path("a.csv").write_text(toys.read_text().replace("PRI_met,", "PRI_mett,"))
        code, out, err = run("validate", "a.csv")
        assert (code, out) == (2, "")
        assert err == (
            "Error: a.csv: unknown column 'PRI_mett' (did you mean 'PRI_met'?); the layout is atlas-higgs-2014\n"
        )


class TestSimulate:
    def test_the_seed_decides(self, run: Call, toys: Path) -> None:
        code, out, _ = run("simulate", "--events", "1600", "--seed", "2", "-o", "a.csv")
        assert code == 0
        assert "1,600 toy simulated events" in out
        assert Path("a.csv").read_bytes() == toys.read_bytes()

    def test_options_arrive(self, run: Call) -> None:
        options = "--luminosity 2 --higgs-mass 130 --mix ttbar=3 --mix Z=0.5 --set-proportions t=1,v=1 --tes 0.01"
        assert run("simulate", "--events", "300", "-o", "a.parquet", *options.split())[0] == 0
        events = load_events("a.parquet", cache=False)
        assert set(events.frame["KaggleSet"].unique()) == {"t", "v"}
        train = events.frame.filter((pl.col("KaggleSet") == "t") & (pl.col("Label") == "s"))
        assert train["KaggleWeight"].sum() == pytest.approx(2 * 691.988607712)


class TestShift:
    def test_nothing_to_shift_is_the_identity(self, run: Call, toys: Path) -> None:
        assert run("shift", toys, "a.csv")[0] == 0
        assert Path("a.csv").read_bytes() == toys.read_bytes()
        assert "is the input itself" in run("shift", toys, toys)[2]
        assert "absent does not exist; create it first" in run("shift", toys, "absent/x.csv")[2]
        wrong = run("shift", toys, "b.csv", "--schema", "uci-susy")[2]
        assert "more values than the 19 columns of the layout uci-susy; choose the file's own layout" in wrong
        assert "--tes" in run("shift", toys, "b.csv", "--tes", "-100%")[2]
        assert "unknown process" in run("shift", toys, "b.csv", "--process-scale", "x=1")[2]
        pl.read_csv(toys).filter(pl.col("Label") == "b").write_csv("b.csv")
        code, _, err = run("shift", "b.csv", "c.csv", "--process-scale", "ggF=1.1")
        assert (code, "b.csv: the file has no process ggF; it has " in err) == (2, True), err

    def test_energy_and_normalisation(self, run: Call, toys: Path) -> None:
        assert run("shift", toys, "a.parquet", "--tes", "0.1", "--bkg-scale", "1.5")[0] == 0
        before, after = load_events(toys), load_events("a.parquet")
        assert ((after.frame["PRI_tau_pt"] / before.frame["PRI_tau_pt"] - 1.1).abs() < 1e-4).all()
        assert after.weight[~after.y].sum() == pytest.approx(1.5 * before.weight[~before.y].sum())
        assert run("shift", toys, "b.parquet", "--tes", "10%")[0] == 0
        assert load_events("b.parquet").frame["PRI_tau_pt"].equals(after.frame["PRI_tau_pt"])
        assert run("validate", "b.parquet")[0] == 0

    def test_reselect(self, run: Call, toys: Path) -> None:
        code, out, _ = run("shift", toys, "a.csv", "--tes", "-0.1", "--reselect")
        dropped = 1600 - len(load_events("a.csv"))
        assert (code, dropped > 0) == (0, True)
        assert f"{dropped} events dropped" in out


def test_fetch_a_manual_download(run: Call, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run("fetch", "--from", toys)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "1,600 events instead of 818,238" in err
    counts = dict(pl.read_csv(toys).group_by("KaggleSet").len().iter_rows())
    small = replace(PUBLIC["atlas-higgs-2014"], events=1600, subsets=counts)
    monkeypatch.setattr("higgsbench.events.fetch.PUBLIC", {small.name: small})
    monkeypatch.setattr("higgsbench.events.fetch.PUBLIC", {small.name: small})
    code, out, _ = run("fetch", "--from", toys, "-o", "copy.csv")
    assert code == 0
    assert str(opendata_path()) in out
    assert "verified, 1,600 events" in out
    assert Path("copy.csv").read_bytes() == toys.read_bytes()
    assert "already in the cache" in run("fetch")[1]


class TestExplore:
    def test_table_and_page(self, call: Call, toys: Path) -> None:
        pytest.importorskip("mplhep", reason="needs the extra 'report'")
        code, out, err = call("explore", toys, "--html", "a.html")
        assert (code, err) == (0, "Wrote a.html\n")
        assert "Class balance by PRI_jet_num" in out
        assert "N_s = 691.99" in out
        assert Path("a.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")

    def test_json_has_full_precision(self, call: Call, toys: Path) -> None:
        found = json.loads(call("explore", toys, "--format", "json")[1])
        assert (found["n_s"], len(found["features"])) == (ATLAS_HIGGS.n_s, 30)
        assert [s["name"] for s in found["samples"]] == ["t", "b", "v"]

    def test_subset_and_second_file(self, call: Call, toys: Path) -> None:
        other = pl.read_csv(toys).drop("Weight", "Label", "KaggleSet", "KaggleWeight")
        other.write_parquet("other.parquet")
        options = ("--subset", "v", "--subset", "t", "--test", "other.parquet", "--format", "json")
        samples = json.loads(call("explore", toys, *options)[1])["samples"]
        found = [(s["name"], s["described"]) for s in samples]
        assert found == [("v + t", True), ("b", False), ("other.parquet", False)]
        assert samples[2]["events"] == 1600

    @pytest.mark.parametrize(
        ("rows", "options", "message"), [(0, "", "no events"), (9, "--subset u", "no event in subset 'u'")]
    )
    def test_nothing_to_describe(self, call: Call, toys: Path, rows: int, options: str, message: str) -> None:
        pl.read_csv(toys).head(rows).write_csv("a.csv")
        code, _, err = call("explore", "a.csv", *options.split())
        assert (code, err.count("\n")) == (2, 1)
        assert message in err

    def test_without_a_file_the_simulation_is_described_as_such(self, call: Call) -> None:
        code, out, _ = call("explore", "--events", "2000", "--seed", "3")
        assert code == 0
        assert "toy simulation (2000 events, seed 3)" in " ".join(out.split())
        assert "not those of real data" in " ".join(out.split())
