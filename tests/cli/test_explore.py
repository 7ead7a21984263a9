from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from higgsbench.cli.main import main
from higgsbench.schema import ATLAS_HIGGS


@pytest.fixture
def atlas_file(tmp_path: Path) -> Path:
    """A small table in the official layout with made-up values."""
    rng = np.random.default_rng(5)
    n = 400
    columns: dict[str, object] = {"EventId": np.arange(n)}
    columns |= {name: rng.normal(50.0, 10.0, n).round(3) for name in ATLAS_HIGGS.features}
    columns["PRI_jet_num"] = rng.integers(0, 4, n)
    columns["Weight"] = rng.uniform(0.5, 1.5, n)
    columns["Label"] = np.where(rng.random(n) < 0.3, "s", "b")
    columns["KaggleSet"] = np.where(rng.random(n) < 0.5, "t", "v")
    columns["KaggleWeight"] = rng.uniform(0.5, 1.5, n)
    path = tmp_path / "events.csv"
    pl.DataFrame(columns).write_csv(path)
    return path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["explore", *args])
    assert isinstance(done.value.code, int)
    return done.value.code


def test_table(atlas_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(atlas_file)) == 0
    out, err = capsys.readouterr()
    assert "Class balance by PRI_jet_num" in out
    assert "N_s = 691.99" in out
    assert err == ""


def test_json_has_full_precision(atlas_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(atlas_file), "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_s"] == ATLAS_HIGGS.n_s
    assert [s["name"] for s in found["samples"]] == ["t", "v"]
    assert len(found["features"]) == 30


def test_subset_and_second_file(atlas_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = atlas_file.with_name("other.parquet")
    pl.read_csv(atlas_file).drop("Weight", "Label", "KaggleSet", "KaggleWeight").write_parquet(other)
    code = run(str(atlas_file), "--subset", "v", "--subset", "t", "--test", str(other), "--format", "json")
    assert code == 0
    found = json.loads(capsys.readouterr().out)
    assert [(s["name"], s["events"], s["described"]) for s in found["samples"]] == [
        ("v + t", 400, True),
        ("other.parquet", 400, False),
    ]


def test_html(atlas_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mplhep", reason="needs the extra 'report'")
    page = atlas_file.with_suffix(".html")
    assert run(str(atlas_file), "--html", str(page)) == 0
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert "Wrote" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("PRI_met,", "PRI_mett,"), "PRI_mett"),
        (lambda text: text.replace(",s,", ",x,", 1), "found 'x', expected 's' or 'b'"),
        (lambda text: text.split("\n")[0] + "\n", "no events"),
    ],
)
def test_bad_files_make_one_line_and_exit_code_2(
    atlas_file: Path, capsys: pytest.CaptureFixture[str], change: object, message: str
) -> None:
    assert callable(change)
    atlas_file.write_text(change(atlas_file.read_text()))
    assert run(str(atlas_file)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_without_a_file_the_simulation_is_described_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--events", "2000", "--seed", "3") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "toy simulation (2000 events, seed 3)" in out
    assert "not those of real data" in out


def test_a_file_and_a_seed_contradict_each_other(atlas_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(atlas_file), "--seed", "3") == 2
    assert "--seed" in capsys.readouterr().err


def test_an_absent_subset(atlas_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(atlas_file), "--subset", "b") == 2
    assert "no event in subset 'b'" in capsys.readouterr().err
