"""A made-up analysis from ROOT files to a leaderboard, a report and a tree of scores, as docs/analysis.md does it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import Call

ROOT = Path(__file__).parents[1]


@pytest.fixture
def ntuples() -> ModuleType:
    """The example that writes the files."""
    pytest.importorskip("uproot", reason="the extra `root` is not installed")
    spec = importlib.util.spec_from_file_location("make_ntuples", ROOT / "examples" / "make_ntuples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_init_run_predict_report(call: Call, tmp_path: Path, ntuples: ModuleType) -> None:
    import uproot

    files = ntuples.write_ntuples(tmp_path / "ntuples", scale=0.2)
    code, out, err = call("init", *[file.relative_to(tmp_path) for file in files], "-o", "my.yaml")
    assert (code, out.strip()) == (0, "Wrote my.yaml; run it with `higgsbench run my.yaml`"), err
    code, out, err = call("init", files[0], files[-1], "-o", "my.yaml")
    assert code == 2
    assert "my.yaml: already exists" in err
    text = (tmp_path / "my.yaml").read_text()
    guesses = (
        'weight: "mc_weight * pileup_weight"',
        "id: [run_number, event_number]",
        "group: n_jets",
        "missing: -99.9",
    )
    assert all(guess in text for guess in (*guesses, "categorical: [channel]"))
    quick = ("--set", "models=[lightgbm]", "--set", "preset=quick", "--set", "folds={k: 3, by: event_number % 3}")
    code, out, err = call("run", "my.yaml", *quick, "--set", "data.select=n_tau == 1", "--quiet")
    assert code == 0, err
    assert "samples ggH, ttbar, wjets" in out
    shifted = f"{files[0].relative_to(tmp_path)}:tes_up"
    code, out, err = call("predict", "latest", shifted, "-o", "scores.root", "--columns", "met,pileup_weight")
    assert code == 0, err
    with uproot.open({"scores.root": None}) as content, uproot.open({str(files[0]): None}) as given:
        scores, events = (tree.arrays(library="np") for tree in (content["events"], given["tes_up"]))
    assert (scores["met"] == events["met"]).all()  # every event, in the order of the input
    assert (scores["event_number"] == events["event_number"]).all()
    assert not scores["selected"][events["n_tau"] != 1].any()
    assert scores["selected"].any()
    code, out, err = call("report", "latest", "-o", "report.html")
    assert code == 0, err
    assert "ttbar" in (tmp_path / "report.html").read_text()


def test_the_configuration_of_the_documentation_runs(call: Call, tmp_path: Path, ntuples: ModuleType) -> None:
    ntuples.write_ntuples(tmp_path / "ntuples", scale=0.2)
    page = (ROOT / "docs" / "analysis.md").read_text()
    found = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    (tmp_path / "my.yaml").write_text(found[1])
    code, out, err = call("run", "my.yaml", "--only", "lightgbm", "--quiet")
    assert code == 0, err
    assert "ggH" in out
