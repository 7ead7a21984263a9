"""The statistical model: its configuration, templates, fits, and intervals in pseudo-experiments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import polars as pl
import pytest

from higgsbench import __version__
from higgsbench.config.document import read_yaml
from higgsbench.config.load import load_config
from higgsbench.config.regions import RegionConfig, StatisticalModel
from higgsbench.errors import ConfigError, DataError
from higgsbench.events import Events
from higgsbench.inference.events import Moved
from higgsbench.inference.interval import built_models, fit_model
from higgsbench.inference.regions import ModelEvents, RowModel, Side, row_model
from higgsbench.inference.workspace import Likelihood, pruned, smoothed
from higgsbench.metrics import processes_of
from higgsbench.runs import find_run
from higgsbench.schema import TableSchema

MakeModel = Callable[..., tuple[ModelEvents, RowModel]]
needs_pyhf = pytest.mark.skipif(not (find_spec("pyhf") and find_spec("iminuit")), reason="needs the extra 'stats'")


def config(**keys: Any) -> dict[str, Any]:
    return {"models": ["logistic"], "regions": [{"name": "SR"}], **keys}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"systematics": [{"name": "a", "norm": 0.1, "processes": "tbar"}]},
         "configuration: systematics[0].processes: no process 'tbar' (did you mean 'ttbar'?)"),
        ({"systematics": [{"name": "a", "files": ["up.csv", "down.csv"]}]}, "[0].files: up.csv: no such file"),
        ({"systematics": [{"name": "a", "files": [["a.csv", "b.csv"], "c.csv"]}]}, "[0].files: name one file"),
        ({"systematics": [{"name": "a", "weights": ["a", "b"]}]}, "systematics[0].weights: this needs `data.samples`"),
        ({"systematics": [{"name": "a", "shift": "vh_scale=0.1"}]}, "systematics[0].shift: the file has no process VH"),
        ({"regions": [{"name": "a", "select": "mass > 1"}]}, "regions[0].select: no column named 'mass'"),
        ({"regions": [{"name": "a", "observable": "mass"}]}, "regions[0].observable: no column named 'mass'"),
        ({"regions": [{"name": "a", "select": "score > -7"}, {"name": "b", "select": "score > -5"}]},
         "regions[1]: a and b overlap"),
    ],
)  # fmt: skip
def test_a_model_is_checked_on_the_events_before_training(keys: dict[str, Any], message: str) -> None:
    from higgsbench.api.running import plan_run

    data = {"source": "simulated", "events": 2000, "seed": 1, "mix": {"VH": 0}}
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        plan_run(config(data=data, folds=2, preset="quick", **keys))
    assert "\n" not in str(error.value)


def test_short_forms() -> None:
    given = [{"name": "a", "norm": 0.25, "processes": "Z"}, {"name": "a", "norm": [1.2, 0.9], "processes": ["W"]}]
    one, other = load_config(config(systematics=given)).config.systematics or []
    assert (one.norm, one.processes) == ([1.25, 0.8], ["Z"])
    assert other.norm == [1.2, 0.9]
    assert RegionConfig(name="CR", control=True).most_bins == 1


def test_smoothing_merges_bins_until_the_error_is_small() -> None:
    nominal, variance = np.array([100.0, 10.0, 10.0, 1.0]), np.array([1.0, 4.0, 4.0, 1.0])
    side = np.array([110.0, 12.0, 10.0, 3.0])
    (found,) = smoothed(nominal, variance, [side], 0.15)
    np.testing.assert_allclose(found, [110.0, *(nominal[1:] * 25.0 / 21.0)])
    np.testing.assert_array_equal(smoothed(nominal, variance, [side], 0.0)[0], side)


def test_pruning_keeps_what_changes() -> None:
    nominal = np.array([10.0, 30.0])
    assert pruned(nominal, [nominal * 1.001, nominal], 0.01) == (None, None)
    factors, shape = pruned(nominal, [nominal * 1.1, nominal * 0.9], 0.01)
    assert factors == pytest.approx((1.1, 0.9))
    assert shape is None
    _, shape = pruned(nominal, [np.array([12.0, 28.1]), nominal], 0.01)
    assert shape is not None
    assert shape[0].sum() == pytest.approx(40.0)
    up = np.array([12.0, 31.0])
    _, shape = pruned(nominal, [up, nominal], 0.0)
    assert shape is not None
    np.testing.assert_array_equal(shape[0], up)


# Process, bin, and content: nominal, after an upward and after a downward shift. Bins 0 and 1 are the control region.
DOCUMENTED = [
    ("background", 0, 105.0, 110.0, 95.0), ("background", 1, 100.0, 115.0, 90.0),
    ("signal", 2, 30.0, 30.0, 30.0), ("signal", 3, 35.0, 35.0, 35.0),
    ("bkg1", 2, 100.0, 110.0, 90.0), ("bkg1", 3, 100.0, 110.0, 90.0),
    ("bkg2", 2, 50.0, 55.0, 45.0), ("bkg2", 3, 120.0, 55.0, 45.0),
]  # fmt: skip


@needs_pyhf
def test_the_two_channel_workspace_of_pyhfs_documentation() -> None:
    """Notebook "Multibin Coupled HistoSys" (scikit-hep/pyhf), from ten events per process and bin."""
    process, x, weight, up, down = (np.repeat(column, 10) for column in zip(*DOCUMENTED, strict=True))
    columns: dict[str, Any] = {"x": x + 0.5, "Label": np.where(process == "signal", "s", "b"), "Weight": weight / 10.0}
    columns |= {"EventId": np.arange(x.size), "Process": process}
    layout = TableSchema("made-up", ("x",), "Label", weight="Weight", event_id="EventId", process="Process")
    events = Events(pl.DataFrame(columns), layout, "made-up events")
    processes = processes_of(events.process, events.y, events.weight)
    assert processes is not None
    regions = [
        {"name": "control", "select": "x < 2", "observable": "x", "edges": [0, 1, 2]},
        {"name": "signal", "select": "x >= 2", "observable": "x", "edges": [2, 3, 4]},
    ]
    shift = {"name": "coupled_histosys", "weights": ["up", "down"], "processes": ["background", "bkg1", "bkg2"]}
    rules = {"mc_stat": False, "smooth": 0.0, "prune": 0.0}
    given = StatisticalModel.model_validate({"regions": regions, "systematics": [shift], "templates": rules})
    sides = [Side(Moved("", events.frame, np.arange(x.size), side / 10.0), side / 10.0) for side in (up, down)]
    found = ModelEvents(
        cast("Any", None), given, events, events, "made-up events", events.weight,
        processes, {0: (sides[0], sides[1])}, {"x": [columns["x"]] * 3}, (),
    )  # fmt: skip
    likelihood = Likelihood(row_model(found, cast("Any", SimpleNamespace(name="x"))).workspace)
    data = np.array([110.0, 105.0, 170.0, 220.0])
    best = likelihood.fit(data)
    # The notebook's optimiser stops 0.0003 before the minimum, 0.0005 of the error of mu.
    np.testing.assert_allclose(best.values, [0.63607078, -0.30257894], atol=5e-4)
    without = likelihood.fit(data, mu=0.0)
    assert without.values["coupled_histosys"] == pytest.approx(0.29087602, abs=1e-4)
    contents = likelihood.expected(mu=0.0, coupled_histosys=0.29087602)
    np.testing.assert_allclose(contents, [106.80676913, 104.01075137, 154.36314037, 213.86871072], rtol=1e-8)


CODE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, pyhf
pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
w = pyhf.Workspace(json.load(open(sys.argv[1]))); m = w.model(); c = m.config
start = (c.suggested_init(), c.suggested_bounds(), c.suggested_fixed())
z = pyhf.infer.test_statistics.q0(0.0, w.data(m), m, *start) ** 0.5
lists = pyhf.infer.hypotest(float(sys.argv[2]), m.expected_data([0.0 if i == c.poi_index else v for i, v in
    enumerate(c.suggested_init())]), m, return_expected_set=True)[1]
print(z, lists[2], *m.expected_data(c.suggested_init(), include_auxdata=False))
"""


@needs_pyhf
@pytest.mark.parametrize("mc_stat", [True, False])
def test_pyhf_gets_the_same_numbers_from_the_workspace(made_up: MakeModel, mc_stat: bool, tmp_path: Path) -> None:
    _, model = made_up(mc_stat=mc_stat)
    fit = fit_model(model)
    assert fit.expected.z is not None
    assert fit.expected.upper_limit is not None
    file = tmp_path / "w.json"
    file.write_text(json.dumps(model.workspace))
    command = [sys.executable, "-c", CODE, str(file), str(fit.expected.upper_limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    z, level, *contents = map(float, done.stdout.split())
    assert fit.expected.z == pytest.approx(z, rel=1e-6)
    assert level == pytest.approx(0.05, rel=1e-4)  # CLs at the printed limit
    yields = [sum(sum(one.events) for one in fit.yields[name].values()) for name in ("high", "low")]
    assert [sum(contents[:-1]), contents[-1]] == pytest.approx(yields, rel=1e-6)


@needs_pyhf
def test_the_fit_of_a_model(made_up: MakeModel) -> None:
    _, model = made_up()
    fit = fit_model(model)
    assert fit.interval[0] == pytest.approx(1.0, abs=1e-3)
    assert fit.parts[0] < fit.parts[1] < fit.parts[2] == pytest.approx((fit.interval[2] - fit.interval[1]) / 2.0)
    assert {impact.name for impact in fit.impacts} == {"scale", "lumi"}
    assert all(0.0 < impact.error < 1.01 and impact.up * impact.down < 0.0 for impact in fit.impacts)
    assert type(fit).of(json.loads(json.dumps(fit.content))) == fit
    assert [table.caption for table in fit.as_tables()][1] == "x: expected fit"
    assert "-0.00 ±" not in str(fit.as_tables()[2].rows)
    assert fit.advice() == []
    assert replace(fit, parts=(1.0, 1.5, 1.6)).advice() == [
        "x: too few simulated events widen the interval: half width 1.5, 1 from the data alone; use more events"
    ]


def test_regions_must_not_overlap(made_up: MakeModel) -> None:
    regions = [{"name": "a", "observable": "x", "edges": [0, 1]}, {"name": "b", "select": "x > 2", "edges": [0, 1]}]
    with pytest.raises(ConfigError, match=r"regions: a and b share .* events"):
        made_up(regions=regions)
    with pytest.raises(ConfigError, match="regions: b: none of the 6,000 events is in it"):
        made_up(regions=[{"name": "b", "select": "x > 200", "control": True}])
    with pytest.raises(ConfigError, match="regions: b: select: no column named 'y'"):
        made_up(regions=[{"name": "b", "select": "y > 200", "control": True}])


def test_a_free_process_and_one_that_is_not_changed(made_up: MakeModel) -> None:
    systematics = [
        {"name": "scale", "shift": "tes=0.03", "processes": "Z"},
        {"name": "w", "free": True, "processes": "W"},
    ]
    _, model = made_up(systematics=systematics)
    high = model.channels["high"]
    assert (high["W"].free, dict(high["W"].shapes), dict(high["H"].shapes)) == (("w",), {}, {})
    assert set(high["Z"].shapes) == {"scale"}


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two regions and three systematics, in a folder of its own."""
    from higgsbench import run

    folder = tmp_path_factory.mktemp("analysis")
    regions = [
        {"name": "SR", "select": "score >= -7", "edges": [-7, -5.5, -4]},
        {"name": "CR", "select": "score < -7", "observable": "DER_mass_vis", "edges": [0, 80, 150], "control": True},
    ]
    systematics = [
        {"name": "tes", "shift": "tes=0.03"},
        {"name": "z_norm", "shift": "z_scale=0.1"},
        {"name": "ttbar", "norm": 0.2, "processes": "ttbar"},
    ]
    data = {"source": "simulated", "events": 4000, "seed": 1}
    models = ["logistic", {"model": "xgboost", "params": {"n_estimators": 20}}]
    config = {"data": data, "models": models, "preset": "quick", "folds": 2, "stack": False}
    run(config | {"regions": regions, "systematics": systematics}, output=folder / "results", jobs=1)
    return folder


@needs_pyhf
def test_from_run_to_intervals(analysis: Path, call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(analysis)
    code, out, err = call(
        "stats", "latest", "--model", "xgboost", "--fit", "--workspace", tmp_path / "w.json", "--format", "json"
    )
    assert code == 0, err
    fit = json.loads(out)["fit"]
    assert [impact["name"] for impact in fit["impacts"]].count("tes") == 1
    built = json.loads((tmp_path / "w.json").read_text())
    assert [channel["name"] for channel in built["channels"]] == ["SR", "CR"]
    z_samples = [s for channel in built["channels"] for s in channel["samples"] if s["name"] == "Z"]
    norm = {m["name"]: m for m in z_samples[0]["modifiers"] if m["type"] == "normsys"}["z_norm"]
    assert norm["data"]["hi"] == pytest.approx(1.1)
    options = ["interval", "latest", "--experiments", "6", "--format", "json"]
    code, out, err = call(*options)
    assert code == 0, err
    assert call(*options)[1] == out
    assert "6 pseudo-experiments" in call(*options[:-2])[1]
    assert (
        "0 pseudo-experiments" in call("interval", "latest", "--experiments", "0")[1]
    )  # keeps those of the first call
    Path("other.yaml").write_text("regions: [{name: all, select: score >= -6, control: true}]\n")
    for command in (["interval", "latest", "--experiments", "2"], ["stats", "latest", "--model", "xgboost", "--fit"]):
        shown = call(*command, "--regions", "other.yaml")[1]
        assert "does not keep these results, because the regions are those of other.yaml" in shown
        assert "held-out events" in shown
        assert "too few simulated events widen the interval" in shown
    rows = {row["name"]: row for row in json.loads(out)["rows"]}
    assert set(rows) == {"logistic", "xgboost"}
    code, out, _ = call("leaderboard", "--format", "json", "--columns", "model,mu_width,coverage", "--sort", "mu_width")
    shown = json.loads(out)["tables"][0]["rows"]
    widths = [row["mu_width"] for row in shown]
    assert widths == sorted(row["mu_width"] for row in rows.values())
    if find_spec("mplhep"):
        code, out, err = call("report", "latest", "-o", tmp_path / "page.html")
        assert code == 0, err
        page = (tmp_path / "page.html").read_text()
        for caption in ("expected events", "nuisance parameters", "6 pseudo-experiments", "Pulls and impacts"):
            assert caption in page


def test_events_of_another_version_are_named(analysis: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("higgsbench.inference.events._matching", Mock(side_effect=DataError("toy: they differ")))
    monkeypatch.chdir(analysis)
    code, _, err = call("interval", "latest")
    assert code == 2
    assert "--shift" not in err
    made = f"higgsbench {__version__} made the run, and this is {__version__}"
    assert f"toy: they differ. The simulation may have changed since ({made}): run the configuration again." in err


def _arrays(histogram: str) -> dict[str, Any]:
    with np.load(f"histograms/{histogram}.npz") as arrays:
        return dict(arrays)


@needs_pyhf
@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver:DeprecationWarning")  # pyhf 0.7 uses it
def test_cabinetry_builds_the_same_yields(analysis: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(analysis)
    code, _, err = call("export", "cabinetry", "latest", "-o", "fit", "--model", "xgboost")
    assert code == 0, err
    monkeypatch.chdir(analysis / "fit")
    content = read_yaml(Path("config.yml")).value
    assert [region["Name"] for region in content["Regions"]] == ["SR", "CR"]
    assert {entry["ModifierName"] for entry in content["Systematics"]} == {"tes", "z_norm", "ttbar"}
    parts = [_arrays(f"CR_{s['Name']}")["yields"] for s in content["Samples"][1:] if "CR" in s["Regions"]]
    np.testing.assert_allclose(_arrays("CR_Asimov")["yields"], np.sum(parts, axis=0))
    shape = next(entry for entry in content["Systematics"] if entry["Type"] == "NormPlusShape")
    place = f"{shape['Regions']}_{shape['Samples']}_{shape['Name'].replace(' ', '-')}"
    assert _arrays(f"{place}_Up")["yields"].shape == _arrays(f"{place}_Down")["bins"][1:].shape
    cabinetry = pytest.importorskip("cabinetry")
    cabinetry.configuration.validate(content)
    built = cabinetry.workspace.build(content)
    assert [channel["name"] for channel in built["channels"]] == ["SR", "CR"]
    fit = cabinetry.fit.fit(*cabinetry.model_utils.model_and_data(built), minos="mu")
    _, own, _ = built_models(find_run("latest", "../results"), ["xgboost"], None)
    best, low, high = fit_model(own["xgboost"]).interval
    assert fit.bestfit[fit.labels.index("mu")] == pytest.approx(best, abs=1e-3)
    assert fit.minos_uncertainty["mu"] == pytest.approx((low - best, high - best), rel=0.01)
    assert call("export", "cabinetry", "latest", "-o", ".", "--model", "xgboost")[0] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["interval", "latest", "--mu", "2", "1"], "mu: the range 2 to 1 is empty"),
        (["stats", "latest", "--fit"], "choose it with --model"),
        (
            ["stats", "latest", "--model", "xgboost", "--counting", "--regions", "c.yaml"],
            "regions cannot be combined with a count",
        ),
        (["interval", "latest", "--regions", "c.yaml"], "c.yaml: no `regions`; add them"),
        (
            ["interval", "latest", "--regions", "d.yaml"],
            "d.yaml:3: systematics[0].processes: no process 'Q' (choose",
        ),
    ],
)
def test_options_that_do_not_fit(
    analysis: Path, call: Any, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(analysis)
    Path("c.yaml").write_text("models: [logistic]\n")
    Path("d.yaml").write_text("regions: [{name: a}]\nsystematics:\n- {name: a, norm: 0.1, processes: Q}\n")
    code, _, err = call(*options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@needs_pyhf
def test_weights_and_files_of_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from higgsbench import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(1)
    for name, mean, weight in (("H", 1.0, 0.05), ("Z", 0.0, 1.0), ("W", -0.2, 1.0)):
        x = rng.normal(mean, 1.0, 600).round(4)
        table = pl.DataFrame({"n": np.arange(600), "x": x, "w": weight})
        table = table.with_columns(w_up=pl.col("w") * 1.2, w_down=pl.col("w") * 0.9)
        for end, step in (("", 0.0), ("_up", 0.2), ("_down", -0.2)):
            table.with_columns(pl.col("x") + step)[: 600 if not end else 550].write_csv(f"{name}{end}.csv")
    samples = [{"files": f"{name}.csv", "process": name, "signal": name == "H"} for name in ("H", "Z", "W")]
    systematics = [
        {"name": "scale", "files": ["Z_up.csv", "Z_down.csv"], "processes": "Z"},
        {"name": "pileup", "weights": ["w_up", "w_down"], "processes": ["H", "W"]},
    ]
    data = {"samples": samples, "weight": "w", "id": "n", "features": "x"}
    regions = [{"name": "SR", "observable": "x", "edges": [-1, 0, 1]}]
    config = {"data": data, "models": ["logistic"], "preset": "quick", "folds": 2, "stack": False, "jet_split": "none"}
    config |= {"regions": regions, "systematics": systematics, "templates": {"smooth": 0.0, "prune": 0.0}}
    result = run(config, output="results", jobs=1)
    _, built, _ = built_models(find_run(result), [], None)
    channel = built["logistic"].channels["SR"]
    up, down = channel["Z"].shapes["scale"]
    edges = [-np.inf, 0.0, np.inf]
    expected = [np.histogram(pl.read_csv(f"Z_{way}.csv")["x"], edges)[0] for way in ("up", "down")]
    np.testing.assert_allclose([up, down], expected)
    for name in ("H", "W"):
        heavy, light = channel[name].shapes["pileup"]
        np.testing.assert_allclose(heavy / channel[name].nominal, 1.2)
        np.testing.assert_allclose(light / channel[name].nominal, 0.9)
        assert "scale" not in channel[name].shapes
    assert built["logistic"].moved[1] == ({}, {})
