"""`higgsbench data`: exit codes, one-line errors, tables and JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl
import pytest

from higgsbench.events import load_events
from higgsbench.events.fetch import Expectation, fetch_opendata, opendata_path
from higgsbench.events.simulate import SimulationSettings, write_simulated
from tests.cli.conftest import Call

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("fetch", "info", "validate", "convert", "simulate", "shift")

Run: TypeAlias = Call


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulated(SimulationSettings(events=400, seed=2), tmp_path_factory.mktemp("toys") / "toys.csv")


@pytest.fixture
def run(call: Call) -> Run:
    return partial(call, "data")


def broken_copy(toys: Path, target: Path, **cells: Any) -> Path:
    frame = pl.read_csv(toys)
    first = pl.int_range(frame.height) == 0
    frame.with_columns(
        pl.when(first).then(pl.lit(v, dtype=frame.schema[k])).otherwise(pl.col(k)).alias(k) for k, v in cells.items()
    ).write_csv(target)
    return target


def test_every_command_is_listed(run: Run) -> None:
    out = run("--help")[1]
    assert all(name in out for name in COMMANDS)


class TestConvert:
    def test_there_and_back(self, run: Run, toys: Path, tmp_path: Path) -> None:
        code, out, _ = run("convert", toys, "a.parquet")
        assert (code, out.startswith("a.parquet: 400 events, ")) == (0, True)
        assert run("convert", "a.parquet", "b.csv.gz")[0] == 0
        assert run("convert", "b.csv.gz", "c.csv")[0] == 0
        assert (tmp_path / "c.csv").read_bytes() == toys.read_bytes()
        assert load_events("a.parquet").digest == load_events(toys).digest

    def test_root(self, run: Run, toys: Path, tmp_path: Path) -> None:
        pytest.importorskip("uproot")
        assert run("convert", toys, "a.root")[0] == 0
        assert run("convert", "a.root", "b.csv")[0] == 0
        assert (tmp_path / "b.csv").read_bytes() == toys.read_bytes()

    @pytest.mark.parametrize(
        ("source", "target", "message"),
        [
            ("toys", "a.txt", "must end in one of"),
            ("toys", "toys", "is the input itself"),
            ("none.csv", "a.csv", "none.csv: no such file"),
            (".", "a.csv", "a folder"),
        ],
    )
    def test_errors_are_one_line(self, run: Run, toys: Path, source: str, target: str, message: str) -> None:
        paths = [toys if name == "toys" else name for name in (source, target)]
        code, out, err = run("convert", *paths)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1


class TestInfo:
    def test_table(self, run: Run, toys: Path) -> None:
        code, out, _ = run("info", toys)
        assert code == 0
        assert load_events(toys).digest in out
        assert "691.989" in out
        assert "410,999.847" in out
        assert "PRI_jet_subleading_phi" in out

    def test_json(self, run: Run, toys: Path) -> None:
        content = json.loads(run("info", toys, "--format", "json")[1])
        assert content["rows"] == 400
        assert content["bytes"] == toys.stat().st_size
        assert [subset["name"] for subset in content["subsets"]] == ["t", "b", "v"]

    def test_a_file_that_is_none(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("x,y\n1,2\n")
        assert run("info", "a.csv")[0] == 2


class TestValidate:
    def test_valid(self, run: Run, toys: Path) -> None:
        code, out, err = run("validate", toys)
        assert (code, err) == (0, "")
        assert "violated" not in out
        assert out.rstrip().splitlines()[-1].startswith("passed: ")

    def test_violations(self, run: Run, toys: Path, tmp_path: Path) -> None:
        file = broken_copy(toys, tmp_path / "[a].csv", PRI_met_phi=4.0, PRI_tau_pt=-999.0)
        code, out, err = run("validate", file)
        assert (code, err) == (1, "")
        assert "[a].csv" in out
        assert "violated range_PRI_met_phi" in out
        assert "row 1 (line 2): EventId 1000000000, PRI_met_phi 4.0" in out
        assert "PRI_tau_pt missing" in out
        assert out.rstrip().splitlines()[-1].startswith("failed: ")

    def test_rows(self, run: Run, toys: Path, tmp_path: Path) -> None:
        pl.read_csv(toys).with_columns(PRI_met_phi=pl.lit(4.0)).write_csv(tmp_path / "a.csv")
        out = run("validate", "a.csv", "--rows", "2")[1]
        assert "and 398 more rows" in out

    def test_strict(self, run: Run, toys: Path, tmp_path: Path) -> None:
        file = broken_copy(toys, tmp_path / "a.csv", PRI_met_sumet=15.0)
        assert run("validate", file)[0] == 0
        assert run("validate", file, "--strict")[0] == 1

    def test_json(self, run: Run, toys: Path, tmp_path: Path) -> None:
        file = broken_copy(toys, tmp_path / "a.csv", PRI_lep_pt=1.0)
        code, out, _ = run("validate", file, "--format", "json")
        content = json.loads(out)
        assert (code, content["passed"], content["violating_rows"]) == (1, False, 1)
        rule = next(rule for rule in content["rules"] if rule["rule"] == "range_PRI_lep_pt")
        assert (rule["offenders"], rule["first"][0]["line"], rule["first"][0]["PRI_lep_pt"]) == (1, 2, 1.0)

    def test_what_cannot_be_parsed(self, run: Run, toys: Path, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(toys.read_text().replace("PRI_met,", "PRI_mett,"))
        code, out, err = run("validate", "a.csv")
        assert (code, out) == (2, "")
        assert err == (
            "Error: a.csv: unknown column 'PRI_mett' (did you mean 'PRI_met'?); the layout is atlas-higgs-2014\n"
        )


class TestSimulate:
    def test_the_seed_decides(self, run: Run, toys: Path, tmp_path: Path) -> None:
        code, out, _ = run("simulate", "--events", "400", "--seed", "2", "-o", "a.csv")
        assert code == 0
        assert "400 toy simulated events" in out
        assert (tmp_path / "a.csv").read_bytes() == toys.read_bytes()

    def test_options_arrive(self, run: Run) -> None:
        options = "--luminosity 2 --higgs-mass 130 --mix ttbar=3 --mix Z=0.5 --set-proportions t=1,v=1 --tes 0.01"
        assert run("simulate", "--events", "300", "-o", "a.parquet", *options.split())[0] == 0
        events = load_events("a.parquet", cache=False)
        assert set(events.frame["KaggleSet"].unique()) == {"t", "v"}
        train = events.frame.filter((pl.col("KaggleSet") == "t") & (pl.col("Label") == "s"))
        assert train["KaggleWeight"].sum() == pytest.approx(2 * 691.988607712)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--mix Z", "--mix: 'Z' is not NAME=NUMBER"),
            ("--mix Z=1,Z=2", "--mix: Z is given twice"),
            ("--mix Q=1", "unknown process"),
            ("--process-scale ttba=2", "did you mean 'ttbar'"),
            ("--set-proportions t=a", "'t=a' is not NAME=NUMBER"),
            ("--higgs-mass 500", "higgs_mass"),
            ("--tes -2", "tes"),
        ],
    )
    def test_errors_are_one_line(self, run: Run, options: str, message: str, tmp_path: Path) -> None:
        code, out, err = run("simulate", "--events", "10", "-o", "a.csv", *options.split())
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


class TestShift:
    def test_nothing_to_shift_is_the_identity(self, run: Run, toys: Path, tmp_path: Path) -> None:
        assert run("shift", toys, "a.csv")[0] == 0
        assert (tmp_path / "a.csv").read_bytes() == toys.read_bytes()

    def test_energy_scale(self, run: Run, toys: Path) -> None:
        assert run("shift", toys, "a.parquet", "--tes", "0.1")[0] == 0
        before, after = load_events(toys).frame, load_events("a.parquet").frame
        assert ((after["PRI_tau_pt"] / before["PRI_tau_pt"] - 1.1).abs() < 1e-4).all()
        assert run("validate", "a.parquet")[0] == 0

    def test_reselect(self, run: Run, toys: Path) -> None:
        code, out, _ = run("shift", toys, "a.csv", "--tes", "-0.1", "--reselect")
        dropped = 400 - len(load_events("a.csv"))
        assert code == 0
        assert dropped > 0
        assert f"{dropped} events dropped" in out

    def test_normalisation(self, run: Run, toys: Path) -> None:
        assert run("shift", toys, "a.csv", "--bkg-scale", "1.5")[0] == 0
        before, after = load_events(toys), load_events("a.csv")
        assert after.weight[~after.y].sum() == pytest.approx(1.5 * before.weight[~before.y].sum())

    def test_errors(self, run: Run, toys: Path) -> None:
        assert "is the input itself" in run("shift", toys, toys)[2]
        assert "unknown process" in run("shift", toys, "a.csv", "--process-scale", "x=1")[2]


class TestFetch:
    @pytest.fixture
    def expected(self, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        counts = dict(pl.read_csv(toys).group_by("KaggleSet").len().iter_rows())
        small = partial(fetch_opendata, expected=Expectation(rows=400, subsets=counts))
        monkeypatch.setattr("higgsbench.events.fetch.fetch_opendata", small)

    @pytest.mark.usefixtures("expected")
    def test_a_manual_download(self, run: Run, toys: Path, tmp_path: Path) -> None:
        code, out, _ = run("fetch", "--from", toys, "-o", "copy.csv")
        assert code == 0
        assert str(opendata_path()) in out
        assert "verified, 400 events" in out
        assert (tmp_path / "copy.csv").read_bytes() == toys.read_bytes()
        assert "already in the cache" in run("fetch")[1]

    def test_another_file(self, run: Run, toys: Path) -> None:
        code, out, err = run("fetch", "--from", toys)
        assert (code, out) == (2, "")
        assert "400 events instead of 818,238" in err
        assert len(err.strip().splitlines()) == 1
