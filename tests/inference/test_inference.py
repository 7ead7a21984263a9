"""Expected significances, workspaces and shifts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from higgsbench.cli.main import cli, main
from higgsbench.errors import DataError, MetricError, MissingExtraError
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.inference import (
    ScoredShifts,
    ShiftedScores,
    Template,
    build_workspace,
    model_significance,
    shift_table,
)
from higgsbench.inference.events import Systematic
from higgsbench.inference.shifts import read_shifts
from higgsbench.inference.statistics import honest_bins
from higgsbench.inference.workspace import expected_results, shifted_template
from higgsbench.metrics import ams
from higgsbench.metrics.significance import BinnedSums, BinningRules, asimov_significance, combined_significance
from higgsbench.runs import find_run
from higgsbench.schema import N_B, N_S

MakeRun = Callable[..., Path]


def sums(s: list[float], b: list[float]) -> BinnedSums:
    signal, background = np.array(s), np.array(b)
    return BinnedSums(signal, background, signal / 50.0, background / 2.0)


SHAPE = sums([30.0, 20.0], [300.0, 40.0])


def test_significance_of_a_run(make_run: MakeRun) -> None:
    row = find_run(make_run("a", {"x": 0.2})).row("x")
    found = model_significance(row, [0.05], BinningRules(4, 10.0, 20.0), replicas=100)
    assert found.bins is not None
    y, w = found.truth.y, found.truth.weight
    s, b = w[found.selected & y].sum(), w[found.selected & ~y].sum()
    assert (found.s.value, found.b.value) == pytest.approx((s, b))
    assert found.ams.value == pytest.approx(ams(s, b))
    assert found.z.value == pytest.approx(ams(s, b, 0.0))
    assert found.z_sigma[0.05].value == pytest.approx(float(asimov_significance(s, b, 0.05, relative=True)))
    assert found.shape[0.0].value == pytest.approx(combined_significance(found.bins.s, found.bins.b))
    assert found.shape[0.0].value > found.z.value > found.z_sigma[0.05].value
    assert min(v.se for v in (found.s, found.b, found.ams, found.shape[0.0])) > 0.0
    assert (found.bins.s.sum(), found.bins.b.sum()) == pytest.approx((N_S, N_B))


def test_bins_of_a_fold_do_not_know_its_labels(make_run: MakeRun) -> None:
    row = find_run(make_run("a", {"x": 0.2})).row("x")
    truth, score = row.truth, row.scores[0]
    own = truth.fold[0] == 1
    rules = BinningRules(3, 10.0, 20.0)
    before, bins = honest_bins(score, truth, rules)
    after, _ = honest_bins(score, replace(truth, y=np.where(own, ~truth.y, truth.y)), rules)
    assert bins == 3
    np.testing.assert_array_equal(after[own], before[own])
    assert (after[~own] != before[~own]).any()


@pytest.mark.parametrize("shape", [SHAPE, sums([50.0], [100.0])])
def test_pyhf_agrees_with_the_formula_without_uncertainties(shape: BinnedSums) -> None:
    pytest.importorskip("pyhf")
    pytest.importorskip("iminuit")
    found = expected_results(build_workspace(Template(shape), mc_stat=False))
    assert found.z == pytest.approx(combined_significance(shape.s, shape.b), rel=1e-6)
    assert list(found.band) == sorted(found.band)


def test_an_exported_workspace_gives_pyhf_the_same_number(tmp_path: Path) -> None:
    pytest.importorskip("pyhf")
    pytest.importorskip("iminuit")
    up, down = sums([31.0, 21.0], [310.0, 43.0]), sums([29.0, 19.0], [290.0, 38.0])
    built = build_workspace(Template(SHAPE, {"tes": (up, down)}), sigma_b=0.05)
    file = tmp_path / "w.json"
    file.write_text(json.dumps(built))
    code = (
        "import json, sys, warnings; warnings.simplefilter('ignore'); import pyhf\n"
        "pyhf.set_backend('numpy', 'minuit'); w = pyhf.Workspace(json.load(open(sys.argv[1]))); m = w.model()\n"
        "c = m.config; print(pyhf.infer.test_statistics.q0(0.0, w.data(m), m, c.suggested_init(), "
        "c.suggested_bounds(), c.suggested_fixed()) ** 0.5, *c.parameters)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    z, *parameters = done.stdout.split()
    assert set(parameters) == {"mu", "background_norm", "shift_tes", "mcstat"}
    found = expected_results(built).z
    assert found is not None
    assert found == pytest.approx(float(z), rel=1e-3)
    assert found < combined_significance(SHAPE.s, SHAPE.b)


@pytest.mark.parametrize(("bins", "sigma_b"), [(1, 0.0), (2, 0.1)])
@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0])
def test_small_samples_give_what_can_be_given(spread: float, bins: int, sigma_b: float) -> None:
    pytest.importorskip("pyhf")
    pytest.importorskip("iminuit")
    s, b = np.full(bins, 30.0), np.geomspace(4000.0, 100.0, bins)
    built = build_workspace(Template(BinnedSums(s, b, (spread * s) ** 2, (spread * b) ** 2)), sigma_b=sigma_b)
    found = expected_results(built)
    assert found.z is not None or "significance" in found.problems[0]
    if found.upper_limit is None:
        assert found.band == ()
        assert "no expected limit: the fit of the workspace failed: " in found.problems[-1]
    else:
        assert (len(found.band), found.upper_limit) == (5, found.band[2])
        assert list(found.band) == sorted(found.band)


def test_a_limit_beyond_the_bound_of_the_workspace_is_found() -> None:
    pytest.importorskip("pyhf")
    pytest.importorskip("iminuit")
    s, b = np.array([30.0]), np.array([4000.0])
    built = build_workspace(Template(BinnedSums(s, b, (0.25 * s) ** 2, (0.25 * b) ** 2)))
    (bound,) = built["measurements"][0]["config"]["parameters"][0]["bounds"]
    found = expected_results(built)
    assert found.problems == ()
    assert found.band[4] > bound[1]


def test_a_fit_that_fails_costs_nothing_else(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyhf")
    pytest.importorskip("iminuit")

    def fails(*args: object) -> None:
        raise RuntimeError("no minimum")

    results = make_run("a", {"x": 0.2}).parent
    monkeypatch.setattr("higgsbench.inference.workspace._limits", fails)
    options = ["--fit", "--workspace", str(tmp_path / "w.json"), "--max-bins", "3"]
    for form in (["--format", "json"], []):
        with pytest.raises(SystemExit, match="0"):
            main(["stats", "a", "--results", str(results), *options, *form])
        shown = capsys.readouterr()
        assert "Warning: x: no expected limit: the fit of the workspace failed: no minimum" in shown.err
        if form:
            content = json.loads(shown.out)["pyhf"]
            assert content["z"] > 0.0
            assert content["upper_limit"] is None
        else:
            assert "expected 95% CLs limit on the signal strength not found" in shown.out
    assert json.loads((tmp_path / "w.json").read_text())["version"] == "1.0.0"


def test_workspaces_need_background_everywhere() -> None:
    with pytest.raises(MetricError, match="every bin needs expected background"):
        build_workspace(Template(sums([1.0, 2.0], [3.0, 0.0])))
    with pytest.raises(MetricError, match="sigma_b"):
        build_workspace(Template(SHAPE), sigma_b=-0.1)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyhf", None)
    with pytest.raises(MissingExtraError, match=r"higgsbench\[stats\]"):
        expected_results(build_workspace(Template(SHAPE)))


def test_shift_table_by_hand() -> None:
    y = np.array([True, True, False, False])
    w = np.array([10.0, 10.0, 40.0, 40.0])
    nominal = ShiftedScores("nominal", y, np.array([2.0, 0.0, 2.0, 0.0]), w)
    up = ShiftedScores("tes up", y, np.array([2.0, 2.0, 2.0, 2.0]), w)
    lost = ShiftedScores("tes down", y[1:], np.array([0.0, 2.0, 0.0]), w[1:])
    first, second, third = shift_table(nominal, [up, lost], 1.0)
    assert (first.s, first.b, first.ams_change) == (10.0, 40.0, 0.0)
    assert (second.s_change, second.b_change) == (1.0, 1.0)
    assert second.ams_change == pytest.approx(ams(20.0, 80.0) - ams(10.0, 40.0))
    assert (third.s, third.s_change) == (0.0, -1.0)
    found = shifted_template(ScoredShifts(up, {}), np.array([-np.inf, 1.0]), selected_only=False).nominal
    assert (list(found.s), list(found.b)) == ([0.0, 20.0], [0.0, 80.0])


@pytest.fixture
def shifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Toy events and scores as `higgsbench predict` writes them, nominal and shifted."""
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "cache"))
    files = {"events": write_simulated(SimulationSettings(events=400, seed=2), tmp_path / "toys.csv")}
    table = pl.read_csv(files["events"])
    score = np.random.default_rng(0).normal(size=table.height) - 4.0 + 2.0 * (table["Label"] == "s").to_numpy()
    for name, move in (("nominal", 0.0), ("up", 0.1), ("down", -0.1)):
        files[name] = tmp_path / f"{name}.parquet"
        pl.DataFrame({"EventId": table["EventId"], "score": score + move}).write_parquet(files[name])
    return files


def test_shifts_from_files(shifted: dict[str, Path]) -> None:
    lost = pl.read_parquet(shifted["down"])[5:]
    lost.write_parquet(shifted["down"])
    found = read_shifts(
        shifted["events"], shifted["nominal"], [Systematic("tes", files=(shifted["up"], shifted["down"]))], (N_S, N_B)
    )
    base, (up, down) = found.nominal, found.sides["tes"]
    assert base.weight[base.y].sum() == pytest.approx(N_S)
    np.testing.assert_allclose(up.score, base.score + 0.1)
    assert down.weight.sum() < base.weight.sum() == pytest.approx(up.weight.sum())


@pytest.mark.parametrize("damage", ["missing", "column", "twice", "foreign", "nan"])
def test_damaged_score_files_are_named(shifted: dict[str, Path], damage: str) -> None:
    path = shifted["nominal"]
    frame = pl.read_parquet(path)
    {
        "missing": lambda: path.unlink(),
        "column": lambda: frame.drop("score").write_parquet(path),
        "twice": lambda: pl.concat([frame, frame[:1]]).write_parquet(path),
        "foreign": lambda: frame.with_columns(pl.col("EventId") + 1_000_000).write_parquet(path),
        "nan": lambda: frame.with_columns(score=pl.lit(float("nan"))).write_parquet(path),
    }[damage]()
    with pytest.raises(DataError, match=r"nominal\.parquet: "):
        read_shifts(shifted["events"], path, [], (N_S, N_B))


def test_command_line(make_run: MakeRun, shifted: dict[str, Path], tmp_path: Path) -> None:
    results = make_run("a", {"x": 0.2, "y": 0.3}).parent
    common = ["stats", "a", "--results", str(results), "--max-bins", "3"]
    done = CliRunner().invoke(cli, [*common, "--sigma-b", "0.1"])
    assert done.exit_code == 0, done.output
    assert "Z(10%)" in done.output
    target = tmp_path / "w.json"
    shifts = ["--events", str(shifted["events"]), "--nominal", str(shifted["nominal"]), "--shift",
              f"tes={shifted['up']},{shifted['down']}"]  # fmt: skip
    done = CliRunner().invoke(
        cli, [*common, "--model", "x", *shifts, "--counting", "--workspace", str(target), "--format", "json"]
    )
    assert done.exit_code == 0, done.output
    content = json.loads(done.output)
    assert [row["name"] for row in content["shifts"]] == ["nominal", "tes up", "tes down"]
    assert content["shifts"][1]["b_change"] > 0.0
    built = json.loads(target.read_text())
    assert built["observations"][0]["data"] == [pytest.approx(content["shifts"][0]["s"] + content["shifts"][0]["b"])]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_workspace_that_cannot_be_built_costs_nothing_else(
    make_run: MakeRun, shifted: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: bool
) -> None:
    pl.read_parquet(shifted["down"]).with_columns(pl.col("score") - 100.0).write_parquet(shifted["down"])
    results = make_run("a", {"x": 0.2}).parent
    shifts = ["--events", str(shifted["events"]), "--nominal", str(shifted["nominal"]), "--shift",
              f"tes={shifted['up']},{shifted['down']}"]  # fmt: skip
    workspace = ["--fit", "--workspace", str(tmp_path / "w.json")] if wanted else []
    with pytest.raises(SystemExit, match="0"):
        main(["stats", "a", "--results", str(results), "--max-bins", "3", "--counting", *shifts, *workspace])
    shown = capsys.readouterr()
    assert "tes down" in shown.out
    assert ("Warning: x: no workspace, so no fit: every bin needs expected background" in shown.err) == wanted
    assert not (tmp_path / "w.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fit"], "choose it with --model"),
        (["--events", "e.csv"], "belong together"),
        (["--model", "x", "--fit", "--sigma-b", "0.1", "--sigma-b", "0.2"], "give --sigma-b once"),
    ],
)
def test_options_that_do_not_fit(
    make_run: MakeRun, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results = make_run("a", {"x": 0.2, "y": 0.3}).parent
    with pytest.raises(SystemExit, match="2"):
        main(["stats", "a", "--results", str(results), *options])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("counting", [True, False])
def test_too_few_events_for_a_bin_leave_out_the_shape_only(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], counting: bool
) -> None:
    results = make_run("a", {"x": 0.2}).parent
    workspace = tmp_path / "w.json"
    options = ["--min-effective", "1e9", "--sigma-b", "5%", "--workspace", str(workspace), *["--counting"] * counting]
    with pytest.raises(SystemExit, match="0"):
        main(["stats", "a", "--results", str(results), *options])
    shown = capsys.readouterr()
    assert "x: the shape is left out: all events together are too few" in shown.err
    assert ("x: no workspace: the events do not fill one bin of the score; choose --counting" in shown.err) != counting
    assert workspace.exists() == counting
    assert re.search(r"│ *- *│ *- *│ *- *│|(- +){2}-\s", shown.out), shown.out
    with pytest.raises(SystemExit, match="0"):
        main(["stats", "a", "--results", str(results), *options, "--format", "json"])
    model = json.loads(capsys.readouterr().out)["models"][0]
    assert model["ams"]["value"] > 0.0
    assert (model["shape"], model["bins"]) == ([], None)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("5", 0, "uncertainty of 5 is 500%; if you mean 5%, write 5% (command line) or 0.05"),
        ("5%", 0, None),
        ("abc", 2, "'abc' is not a share; write a fraction such as 0.05, or 5%"),
        ("0.05,5%", 2, "'0.05,5%' is not a share"),
    ],
)
def test_shares(
    make_run: MakeRun, text: str, code: int, message: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    results = make_run("a", {"x": 0.2}).parent
    with pytest.raises(SystemExit, match=str(code)):
        main(["stats", "a", "--results", str(results), "--max-bins", "3", "--sigma-b", text])
    error = capsys.readouterr().err
    assert message in error if message else "uncertainty" not in error
