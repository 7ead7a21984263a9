"""The commands predict, submit and score in sequence, as a user calls them."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

import higgsbench
from tests.conftest import Call

CONFIG = "models: [{{model: lightgbm, params: {{n_estimators: 8}}}}]\nfolds: 2\ndata: {{path: {data}}}\n"


@pytest.fixture(scope="module")
def folder(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled file with sets, its halves in Kaggle's layout, the second one without labels, and two runs."""
    folder = tmp_path_factory.mktemp("predict")
    shutil.copy(toys, folder / "toys.csv")
    plain = pl.read_csv(toys).drop("KaggleSet", "KaggleWeight")
    plain.head(800).write_csv(folder / "half.csv")
    plain.tail(800).write_csv(folder / "truth.csv")
    plain.tail(800).drop("Weight", "Label").write_csv(folder / "blind.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(folder / "cache"))
        for name, more in (("half", f"  test: {folder / 'truth.csv'}"), ("toys", "")):
            (folder / "c.yaml").write_text(CONFIG.format(data=folder / f"{name}.csv"))
            test = folder / "truth.csv" if more else None
            run = higgsbench.run(folder / "c.yaml", test=test, output=folder, jobs=1).folder
            run.rename(folder / f"run-{name}")
    return folder


def row(run: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((run / "rows.json").read_text())["rows"][0]
    return found


def test_half_of_the_sample_scores_the_other(call: Call, folder: Path) -> None:
    code, _, err = call("submit", folder / "run-half", folder / "blind.csv", "-o", "sub.csv", "-j", "1")
    assert code == 0
    assert "800 events scored in" in err
    code, out, _ = call("score", "sub.csv", folder / "truth.csv", "--format", "json")
    assert code == 0
    (score,) = json.loads(out)
    assert score["ams"] == pytest.approx(row(folder / "run-half")["ams_test"], abs=1e-9)
    code, out, _ = call("score", "sub.csv", folder / "truth.csv")
    assert out.startswith(f"all: AMS {score['ams']:.5f} ± {score['se']:.5f}, ")


def test_public_and_private_equal_the_leaderboard(call: Call, folder: Path) -> None:
    call("submit", folder / "run-toys", folder / "toys.csv", "-o", "sub.csv.gz", "--model", "lightgbm")
    code, out, _ = call("score", "sub.csv.gz", folder / "toys.csv", "--format", "json")
    assert code == 0
    expected = row(folder / "run-toys")
    for score, name in zip(json.loads(out), ("ams_test", "ams_public", "ams_private"), strict=True):
        assert score["ams"] == pytest.approx(expected[name], abs=1e-9)
        assert score["se"] == pytest.approx(expected[f"{name}_se"], abs=1e-9)


def test_tables_of_every_ending_are_the_same(call: Call, folder: Path) -> None:
    tables = []
    for name in ("s.csv", "s.csv.gz", "s.parquet"):
        code, out, _ = call("predict", folder / "run-half", folder / "blind.csv", "-o", name)
        assert (code, out) == (0, "")
        tables.append(pl.read_parquet(name) if name.endswith("parquet") else pl.read_csv(name))
    code, out, _ = call("predict", folder / "run-half", folder / "blind.csv", "-o", "-")
    tables.append(pl.read_csv(io.StringIO(out)))
    assert tables[0].columns == ["EventId", "score", "selected"]
    assert tables[0].height == 800
    assert all(table.equals(tables[0]) for table in tables)


def test_a_submission_has_the_official_format(call: Call, folder: Path) -> None:
    code, out, err = call("submit", folder / "run-half", folder / "blind.csv", "-o", "-")
    assert code == 0
    assert out.splitlines()[0] == "EventId,RankOrder,Class"
    table = pl.read_csv(io.StringIO(out))
    assert sorted(table["RankOrder"]) == list(range(1, 801))
    assert set(table["Class"]) == {"s", "b"}
    assert "scored by lightgbm of run-half" in err


def test_data_that_breaks_a_rule_half_way_leaves_no_file(call: Call, folder: Path) -> None:
    lines = (folder / "blind.csv").read_text().splitlines()
    lines[500] = lines[500].replace(",", ",x", 1)
    Path("bad.csv").write_text("\n".join(lines) + "\n")
    code, _, err = call("predict", folder / "run-half", "bad.csv", "-o", "s.csv")
    assert code == 2
    assert "row 500 (line 501), column DER_mass_MMC" in err
    assert [p.name for p in Path().iterdir()] == ["bad.csv"]


def test_no_models_is_said_with_the_remedy(call: Call, folder: Path) -> None:
    assert call("run", folder / "c.yaml", "--no-models", "-q", "--output", "out", "-j", "1")[0] == 0
    (run,) = Path("out").iterdir()
    code, _, err = call("predict", run, folder / "blind.csv", "-o", "s.csv")
    assert code == 2
    assert "run the same configuration again with `store_models: true`" in err


def test_scores_in_root(call: Call, folder: Path) -> None:
    uproot = pytest.importorskip("uproot")
    for name in ("s.root", "s.parquet"):
        options = ("--columns", "Label,PRI_jet_num,PRI_met", "-o", name)
        assert call("predict", folder / "run-half", folder / "truth.csv", *options)[0] == 0
    table = pl.read_parquet("s.parquet")
    with uproot.open("s.root") as written:
        tree = written["events"]
        assert tree.keys() == table.columns == ["EventId", "score", "selected", "Label", "PRI_jet_num", "PRI_met"]
        for name, values in tree.arrays(library="np").items():
            assert values.tolist() == table[name].to_list()
        assert tree["selected"].typename == "bool"


def test_events_that_the_run_was_trained_on(call: Call, folder: Path) -> None:
    """A submission for them would score far too well; `predict` scores them by models that did not see them."""
    code, _, err = call("predict", folder / "run-half", folder / "half.csv", "-o", "scores.csv")
    assert code == 0
    assert "Warning" not in err
    assert "half.csv: 800 of 800 events scored out of fold, by models that did not see them" in err
    never = ("--out-of-fold", "never")
    for command, target, options in (("predict", "scores.csv", never), ("submit", "submission.csv", ())):
        code, _, err = call(command, folder / "run-half", folder / "half.csv", "-o", target, *options)
        assert code == 0
        assert "Warning: " in err
        assert "half.csv: 800 of the events have the EventId of events that the run was trained on" in err
        assert "Warning" not in call(command, folder / "run-half", folder / "blind.csv", "-o", target)[2]
