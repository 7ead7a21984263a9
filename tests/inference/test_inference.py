"""Expected significances, workspaces and shifts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from higgsbench.cli.main import main
from higgsbench.config.regions import Systematic
from higgsbench.errors import DataError, MetricError, MissingExtraError
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.inference import (
    ScoredShifts,
    ShiftedScores,
    read_shifts,
    shift_table,
)
from higgsbench.inference.statistics import honest_bins, model_significance
from higgsbench.inference.workspace import Template, build_workspace, expected_results, shifted_template
from higgsbench.metrics import ams
from higgsbench.metrics.significance import BinnedSums, BinningRules, asimov_significance, combined_significance
from higgsbench.runs import find_run
from higgsbench.schema import N_B, N_S

MakeRun = Callable[..., Path]
Stats = Callable[..., tuple[str, str]]
needs_pyhf = pytest.mark.skipif(not (find_spec("pyhf") and find_spec("iminuit")), reason="needs the extra 'stats'")


@pytest.fixture
def stats(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> Stats:
    """Call `higgsbench stats` for a run of the models x and y."""
    results = make_run("a", {"x": 0.2, "y": 0.3}).parent

    def call(*options: str, code: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit, match=str(code)):
            main(["stats", "a", "--results", str(results), "--max-bins", "3", *options])
        return capsys.readouterr()

    return call


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


@needs_pyhf
@pytest.mark.parametrize("shape", [SHAPE, sums([50.0], [100.0])])
def test_pyhf_agrees_with_the_formula_without_uncertainties(shape: BinnedSums) -> None:
    found = expected_results(build_workspace(Template(shape), mc_stat=False))
    assert found.z == pytest.approx(combined_significance(shape.s, shape.b), rel=1e-6)
    assert list(found.band) == sorted(found.band)


@needs_pyhf
def test_an_exported_workspace_gives_pyhf_the_same_number(tmp_path: Path) -> None:
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
    assert set(parameters) == {"mu", "background_norm", "shift_tes", "mcstat_score"}
    found = expected_results(built).z
    assert found is not None
    assert found == pytest.approx(float(z), rel=1e-3)
    assert found < combined_significance(SHAPE.s, SHAPE.b)


@needs_pyhf
@pytest.mark.parametrize(("spread", "bins", "sigma_b"), [(0.05, 1, 0.0), (0.3, 1, 0.0), (1.0, 1, 0.0), (0.3, 2, 0.1)])
def test_small_samples_give_what_can_be_given(spread: float, bins: int, sigma_b: float) -> None:
    s, b = np.full(bins, 30.0), np.geomspace(4000.0, 100.0, bins)
    built = build_workspace(Template(BinnedSums(s, b, (spread * s) ** 2, (spread * b) ** 2)), sigma_b=sigma_b)
    found = expected_results(built)
    assert found.z is not None or "significance" in found.problems[0]
    if found.upper_limit is None:
        assert found.band == ()
        assert "no expected limit: " in found.problems[-1]
    else:
        assert (len(found.band), found.upper_limit) == (5, found.band[2])
        assert list(found.band) == sorted(found.band)


@needs_pyhf
def test_a_limit_beyond_the_bound_of_the_workspace_is_found() -> None:
    s, b = np.array([30.0]), np.array([4000.0])
    built = build_workspace(Template(BinnedSums(s, b, (0.25 * s) ** 2, (0.25 * b) ** 2)))
    (bound,) = built["measurements"][0]["config"]["parameters"][0]["bounds"]
    found = expected_results(built)
    assert found.problems == ()
    assert found.band[4] > bound[1]


@needs_pyhf
def test_a_fit_that_fails_costs_nothing_else(stats: Stats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise MetricError("no minimum")

    monkeypatch.setattr("higgsbench.inference.workspace._limits", fails)
    options = ["--model", "x", "--fit", "--workspace", str(tmp_path / "w.json")]
    out, err = stats(*options)
    assert "Warning: x: no expected limit: no minimum" in err
    assert "expected 95% CLs limit on the signal strength not found" in out
    content = json.loads(stats(*options, "--format", "json")[0])["pyhf"]
    assert content["z"] > 0.0
    assert content["upper_limit"] is None
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


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda frame: frame.drop("score"), "missing column score; the layout of `higgsbench predict` needs"),
        (lambda frame: pl.concat([frame, frame[:1]]), "EventId"),
        (lambda frame: frame.with_columns(pl.col("EventId") + 1_000_000), "not among the expected ones"),
        (lambda frame: frame.with_columns(score=pl.lit(float("nan"))), "column score: found nan"),
        (lambda frame: frame.with_columns(score=pl.lit(None, pl.Float64)), "has missing values"),
    ],
)
def test_damaged_score_files_are_named(
    shifted: dict[str, Path], damage: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    path = shifted["nominal"]
    damage(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(DataError, match=rf"nominal\.parquet: .*{message}"):
        read_shifts(shifted["events"], path, [], (N_S, N_B))


def options_of(shifted: dict[str, Path]) -> list[str]:
    files = ["--events", str(shifted["events"]), "--nominal", str(shifted["nominal"])]
    return ["--model", "x", "--counting", *files, "--shift", f"tes={shifted['up']},{shifted['down']}"]


def test_command_line(stats: Stats, shifted: dict[str, Path], tmp_path: Path) -> None:
    assert "Z(10%)" in stats("--sigma-b", "0.1")[0]
    target = tmp_path / "w.json"
    content = json.loads(stats(*options_of(shifted), "--workspace", str(target), "--format", "json")[0])
    assert [row["name"] for row in content["shifts"]] == ["nominal", "tes up", "tes down"]
    assert content["shifts"][1]["b_change"] > 0.0
    built = json.loads(target.read_text())
    assert built["observations"][0]["data"] == [pytest.approx(content["shifts"][0]["s"] + content["shifts"][0]["b"])]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_workspace_that_cannot_be_built_costs_nothing_else(
    stats: Stats, shifted: dict[str, Path], tmp_path: Path, wanted: bool
) -> None:
    pl.read_parquet(shifted["down"]).with_columns(pl.col("score") - 100.0).write_parquet(shifted["down"])
    workspace = ["--fit", "--workspace", str(tmp_path / "w.json")] if wanted else []
    out, err = stats(*options_of(shifted), *workspace)
    assert "tes down" in out
    assert ("Warning: x: no workspace, so no fit: every bin needs expected background" in err) == wanted
    assert not (tmp_path / "w.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fit"], "choose it with --model"),
        (["--events", "e.csv"], "belong together"),
        (["--model", "x", "--fit", "--sigma-b", "0.1", "--sigma-b", "0.2"], "give --sigma-b once"),
        (["--sigma-b", "abc"], "'abc' is not a share; write a fraction such as 0.05, or 5%"),
        (["--sigma-b", "0.05,5%"], "'0.05,5%' is not a share"),
    ],
)
def test_options_that_do_not_fit(stats: Stats, options: list[str], message: str) -> None:
    assert message in stats(*options, code=2)[1]


def test_a_share_over_one_is_questioned(stats: Stats) -> None:
    meant = "uncertainty of 5 is 500%; if you mean 5%, write 5% (command line) or 0.05"
    assert meant in stats("--sigma-b", "5")[1]
    assert "uncertainty" not in stats("--sigma-b", "5%")[1]


@pytest.mark.parametrize("counting", [True, False])
def test_too_few_events_for_a_bin_leave_out_the_shape_only(stats: Stats, tmp_path: Path, counting: bool) -> None:
    workspace = tmp_path / "w.json"
    options = ["--model", "x", "--min-effective", "1e9", "--sigma-b", "5%", "--workspace", str(workspace)]
    options += ["--counting"] * counting
    out, err = stats(*options)
    assert "x: the shape is left out: all events together are too few" in err
    assert ("x: no workspace: the events do not fill one bin of the score; choose --counting" in err) != counting
    assert workspace.exists() == counting
    assert re.search(r"│ *- *│ *- *│ *- *│|(- +){2}-\s", out), out
    model = json.loads(stats(*options, "--format", "json")[0])["models"][0]
    assert model["ams"]["value"] > 0.0
    assert (model["shape"], model["bins"]) == ([], None)
