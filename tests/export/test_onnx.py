"""The ONNX graph of a run scores as the run does."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

import higgsbench
from higgsbench.errors import ModelError
from higgsbench.events import load_events
from higgsbench.export import chosen_models, export_onnx, input_columns
from higgsbench.export.graph import Graph, log_odds
from higgsbench.models import registered_models
from higgsbench.models.builtin.lightgbm_trees import LoadedLightGBM
from higgsbench.models.packed import PackedMLPClassifier
from higgsbench.runs import find_run
from higgsbench.runs.predictor import FittedRun
from higgsbench.schema import FEATURES
from tests.conftest import Call
from tests.runs.test_categories import config as own_layout
from tests.runs.test_categories import table

from .conftest import CONFIG, ROWS, inputs_of

pytest.importorskip("onnx", reason="needs the extra 'onnx'")
ort = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

BUILT_BY_HAND, WITHOUT_MODELS = {"torch_mlp"}, {"autogluon", "flaml", "tabicl", "tabpfn"}
TIE = 1e-5
"""Distance from the cut within which rounding to single precision may change the selection."""


def evaluated(file: Path | bytes, X: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    source = file if isinstance(file, bytes) else str(file)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # waiting threads of the library spin, which slows down tests that run in parallel
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    scores, selected = session.run(["log_odds", "selected"], {"features": X})
    return scores, selected


def compare(run: Path, events: pl.DataFrame, file: Path, row: str | None, fold: int | None = None) -> None:
    export_onnx(run, file, model=row, fold=fold)
    predictor = chosen_models(find_run(run), row, fold)
    wanted, X = predictor.scores(events), inputs_of(predictor, events)
    found, selected = evaluated(file, X)
    assert (np.abs(found - wanted) <= 1e-4).mean() >= 0.999
    changed = selected != (wanted >= predictor.threshold)
    assert not (changed & (np.abs(wanted - predictor.threshold) > TIE)).any()
    alone, _ = evaluated(file, X[:1])
    np.testing.assert_allclose(alone, found[:1], atol=1e-5)
    with_sentinel, _ = evaluated(file, np.nan_to_num(X, nan=-999.0))
    np.testing.assert_array_equal(with_sentinel, found)


def test_every_model_is_in_the_run_or_known_not_to_be() -> None:
    assert {spec.name for spec in registered_models()} - BUILT_BY_HAND - WITHOUT_MODELS == {*ROWS} - {"clipped"}
    assert all(f"model: {name}" in CONFIG for name in {*ROWS} - {"clipped"})


@pytest.mark.parametrize("kind", ["simulated", "real"])
@pytest.mark.parametrize("row", [*ROWS, *(f"{name} [jets]" for name in ROWS), None])
def test_scores(run: Path, tmp_path: Path, request: pytest.FixtureRequest, row: str | None, kind: str) -> None:
    compare(run, request.getfixturevalue(kind), tmp_path / "m.onnx", row)


def test_categories_are_given_by_position(tmp_path: Path) -> None:
    table().write_csv(tmp_path / "a.csv")
    rounds = {
        "logistic": {},
        "xgboost": {"n_estimators": 9},
        "lightgbm": {"n_estimators": 9},
        "catboost": {"iterations": 4},
    }
    models = [{"model": name, "preset": "quick", "params": params} for name, params in rounds.items()]
    done = higgsbench.run(own_layout(tmp_path / "a.csv", models=models), output=tmp_path, jobs=1)
    events = load_events(tmp_path / "a.csv", FittedRun(find_run(done)).schema, cache=False).frame
    events = events.with_columns(pl.col("channel").replace({"ee": "unknown"}))
    for row in ("logistic", "logistic [jets]", "xgboost"):
        compare(done.folder, events, tmp_path / "m.onnx", row)
    for row in ("lightgbm", "catboost"):
        with pytest.raises(ModelError, match=f"'{row}' cannot be exported"):
            export_onnx(done, tmp_path / "m.onnx", model=row)


def test_merged_jet_groups_share_a_submodel(toys: Path, simulated: pl.DataFrame, tmp_path: Path) -> None:
    pl.read_csv(toys).filter((pl.col("PRI_jet_num") != 0) | (pl.col("Label") == "b")).write_csv(tmp_path / "a.csv")
    models = [{"model": "logistic", "preset": "quick", "calibration": "logit"}]
    config = {"data": {"path": str(tmp_path / "a.csv")}, "models": models, "jet_split": "groups", "folds": 2}
    done = higgsbench.run(config, output=tmp_path, jobs=1)
    compare(done.folder, simulated, tmp_path / "m.onnx", None)


@pytest.mark.parametrize("row", [*ROWS, "xgboost [jets]", None])
def test_events_without_any_value(run: Path, simulated: pl.DataFrame, tmp_path: Path, row: str | None) -> None:
    """Values are missing in columns that are complete in the training, too."""
    empty = simulated.head(50).with_columns(pl.lit(None, pl.Float64).alias(c) for c in FEATURES if c != "PRI_jet_num")
    compare(run, empty, tmp_path / "m.onnx", row)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_fold_scores_its_events_out_of_fold(run: Path, toys: Path, tmp_path: Path, fold: int) -> None:
    stored = find_run(run)
    events = load_events(toys, cache=False).frame.filter(
        pl.col("EventId").is_in(stored.event_id[stored.fold[0] == fold].tolist())
    )
    compare(run, events, tmp_path / "m.onnx", None, fold)
    for row in ("xgboost [jets]", "stack"):
        predictor = chosen_models(stored, row, fold)
        out_of_fold = dict(zip(stored.event_id, stored.score_table[row][0], strict=True))
        wanted = [out_of_fold[number] for number in events["EventId"]]
        np.testing.assert_array_equal(predictor.scores(events), wanted)
        export_onnx(run, tmp_path / "m.onnx", model=row, fold=fold)
        assert (np.abs(evaluated(tmp_path / "m.onnx", inputs_of(predictor, events))[0] - wanted) <= 1e-4).mean() > 0.99


def test_metadata_and_the_added_jet_number(run: Path, simulated: pl.DataFrame, tmp_path: Path) -> None:
    session = ort.InferenceSession(str(export_onnx(run, tmp_path / "m.onnx", model="clipped [jets]")))
    found = session.get_modelmeta().custom_metadata_map
    columns = json.loads(found["columns"])
    assert (found["row"], found["layout"], found["fold"]) == ("clipped [jets]", "atlas-higgs-2014", "all")
    assert float(found["threshold"]) == find_run(run).row("clipped [jets]").cut.threshold
    assert columns[-1]["name"] == "PRI_jet_num"
    assert session.get_inputs()[0].shape == ["events", len(columns)]
    predictor = chosen_models(find_run(run), "catboost", None)
    (mass,) = (column for column in input_columns(predictor) if column["name"] == "mass_collinear")
    assert (mass["unit"], mass["missing"]) == ("GeV", -999.0)
    X = inputs_of(chosen_models(find_run(run), "clipped [jets]", None), simulated)[:2].copy()
    X[0, -1] = 7.0
    scores, selected = evaluated(tmp_path / "m.onnx", X)
    assert np.isnan(scores).tolist() == [True, False]
    assert not selected[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "m.pb"], "Error: m.pb: the name must end with .onnx"),
        (["-o", "no/m.onnx"], "Error: no/m.onnx: cannot be written: no does not exist"),
        (["-o", "m.onnx", "--fold", "2"], "Error: --fold 2: the run has folds 0 to 1"),
        (["-o", "m.onnx", "--model", "svm"], "Error: --model svm: no row of that name; use stack, xgboost"),
    ],
)
def test_refusals(call: Call, run: Path, options: list[str], message: str) -> None:
    code, _, err = call("export", "onnx", run, *options)
    assert code == 2
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert not list(Path().iterdir())


def test_the_command(call: Call, run: Path) -> None:
    code, _, err = call("export", "onnx", run, "-o", "m.onnx", "--model", "lightgbm")
    assert code == 0
    assert err.startswith("Wrote m.onnx (")


def test_a_missing_extra(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, err = call("export", "onnx", run, "-o", "m.onnx")
    assert code == 2
    assert err == "Error: export onnx needs an optional dependency: pip install 'higgsbench[onnx]'\n"


def graph_of(model: Any, columns: int) -> bytes:
    from onnx import TensorProto, helper

    g = Graph()
    score = g("Reshape", log_odds(g, model, "features"), np.array([-1]))
    g.nodes.append(helper.make_node("Cast", [score], ["log_odds"], to=TensorProto.FLOAT))
    g.nodes.append(helper.make_node("Greater", ["log_odds", g.constant(np.float32(0.0))], ["selected"]))
    ends = [("log_odds", TensorProto.FLOAT), ("selected", TensorProto.BOOL)]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", columns])]
    outputs = [helper.make_tensor_value_info(name, kind, ["n"]) for name, kind in ends]
    graph = helper.make_graph(g.nodes, "test", inputs, outputs, g.constants)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made: bytes = helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString()
    return made


def events(missing: bool = True, n: int = 600) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Values on a grid, so that many of them lie exactly on thresholds."""
    rng = np.random.default_rng(4)
    X = rng.integers(-8, 9, (n, 4)).astype(np.float32) / 4
    y = (X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=n) > 0).astype(np.int64)
    if missing:
        X[rng.random(X.shape) < 0.2] = np.nan
    return X.astype(np.float32), y


FEW: dict[str, Any] = {"n_estimators": 12, "n_jobs": 1}
CAT: dict[str, Any] = {"iterations": 12, "verbose": False, "allow_writing_files": False}
LGB: dict[str, Any] = {**FEW, "verbosity": -1}


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "complete"])
@pytest.mark.parametrize(
    "model",
    [
        XGBClassifier(**FEW, max_depth=5, gamma=2.0),
        XGBClassifier(**FEW, booster="dart", rate_drop=0.5, num_parallel_tree=2, subsample=0.5),
        XGBClassifier(**FEW, grow_policy="lossguide", max_leaves=7, base_score=0.9),
        XGBClassifier(**FEW, missing=1.0),
        LGBMClassifier(**LGB),
        LGBMClassifier(**LGB, use_missing=False),
        LGBMClassifier(**LGB, boosting_type="rf", subsample=0.5, subsample_freq=1),
        LGBMClassifier(**{**LGB, "n_estimators": 1}, min_child_samples=10_000),
        CatBoostClassifier(**CAT),
        CatBoostClassifier(**CAT, nan_mode="Max"),
        CatBoostClassifier(**CAT, grow_policy="Lossguide"),
    ],
    ids=["xgboost", "dart", "lossguide", "sentinel", "lightgbm", "no-missing", "rf", "stump", "catboost", "max",
         "catboost-lossguide"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_forms_of_trees(model: Any, missing: bool) -> None:
    from higgsbench.models import get_model

    X, y = events(missing)
    model.fit(X, y)
    name = {"XGBC": "xgboost", "LGBM": "lightgbm", "CatB": "catboost"}[type(model).__name__[:4]]
    fitted = LoadedLightGBM(model.booster_, 1) if name == "lightgbm" else model
    reader = get_model(name).log_odds
    assert reader is not None
    np.testing.assert_allclose(evaluated(graph_of(fitted, 4), X)[0], reader(fitted, X), atol=2e-6)
    # Thresholds are exact: the neighbours of every value fall on the right side.
    for side in (-np.inf, np.inf):
        near = np.nextafter(X, np.float32(side))
        np.testing.assert_allclose(evaluated(graph_of(fitted, 4), near)[0], reader(fitted, near), atol=2e-6)


def test_the_best_round_of_early_stopping() -> None:
    X, y = events()
    model = XGBClassifier(n_estimators=40, early_stopping_rounds=2, eval_metric="logloss", n_jobs=1)
    model.fit(X[:400], y[:400], eval_set=[(X[400:], y[400:])], verbose=False)
    assert model.best_iteration < 37
    found, _ = evaluated(graph_of(model, 4), X)
    np.testing.assert_allclose(found, model.predict(X, output_margin=True), atol=2e-6)


def test_packed_networks() -> None:
    rng, sizes = np.random.default_rng(1), [4, 8, 8, 1]
    arrays = {"center": rng.normal(size=4).astype(np.float32), "scale": np.full(4, 0.3, dtype=np.float32)}
    for at, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        arrays[f"weights{at}"] = rng.normal(size=(3, inputs, outputs)).astype(np.float32)
        arrays[f"bias{at}"] = rng.normal(size=(3, 1, outputs)).astype(np.float32)
    how = {"params": {"members": 3, "hidden_layer_sizes": [8, 8]}, "classes": [0, 1]}
    model = PackedMLPClassifier.from_state(arrays, how)
    X, _ = events(missing=False)
    np.testing.assert_allclose(evaluated(graph_of(model, 4), X)[0], model.decision_function(X), atol=2e-5)


def test_categories_and_other_models_are_refused() -> None:
    X, y = events(missing=False)
    kinds = np.abs(np.floor(X)).astype(np.float32)
    forests = [
        XGBClassifier(**FEW, feature_types=["c"] * 4, enable_categorical=True, max_cat_to_onehot=1).fit(kinds, y),
        LoadedLightGBM(LGBMClassifier(**LGB).fit(kinds, y, categorical_feature=[0, 1, 2, 3]).booster_, 1),
        CatBoostClassifier(**CAT).fit(kinds.astype(np.int64), y, cat_features=[0, 1, 2, 3]),
    ]
    for model in forests:
        with pytest.raises(ModelError, match="splits on categories cannot be exported"):
            log_odds(Graph(), model, "features")
    with pytest.raises(ModelError, match="DecisionTreeClassifier cannot be written as ONNX; supported are"):
        log_odds(Graph(), DecisionTreeClassifier(), "features")
