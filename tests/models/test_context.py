"""Tabular foundation models: what goes into the context, on which scale the scores are, and where checkpoints are."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import higgsbench
from higgsbench import BuildContext, PhysicalClassifier
from higgsbench.errors import ConfigError, ModelError, StoreError
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.models import get_model, storage_codecs
from higgsbench.models.builtin.foundation import _DEFAULT
from higgsbench.models.context import InContextClassifier, drawn
from higgsbench.models.storage import read_model, write_model

LIBRARIES = {"tabicl": "TabICLClassifier", "tabpfn": "TabPFNClassifier"}
RNG = np.random.default_rng(7)
Y = np.tile([0, 0, 1], 1000)
X = (RNG.normal(size=(3000, 2)) + Y[:, None] * [1.0, 0.5]).astype(np.float32)
W = np.where(Y == 1, 0.002, 1.0) * np.exp(0.8 * X[:, 0])


class Stub:
    """A library whose network is a logistic regression; like theirs, it takes no weights."""

    made: list[Stub]

    def __init__(self, **given: Any) -> None:
        self.given, self.sizes = given, list[int]()
        self.made.append(self)

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Stub:
        self.X, self.model = X, LogisticRegression().fit(np.nan_to_num(X), y)
        return self

    def predict_proba(self, X: NDArray[Any]) -> NDArray[Any]:
        self.sizes.append(len(X))
        return np.asarray(self.model.predict_proba(np.nan_to_num(X)))


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(params=LIBRARIES)
def stub(request: pytest.FixtureRequest, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    setattr(module, LIBRARIES[name], Stub)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Stub, "made", [], raising=False)
    (checkpoints / _DEFAULT[name]).write_bytes(b"a network")
    return name


def fitted(name: str, seed: int = 1, **params: Any) -> PhysicalClassifier:
    built = get_model(name).build(params, BuildContext(seed, threads=1))
    return PhysicalClassifier(built).fit(X, Y, W)


def test_scores_are_log_odds_of_the_weighted_densities(stub: str) -> None:
    """The context is balanced and unweighted, yet the scores are those of a fit with weights at the physical ratio."""
    expected = PhysicalClassifier(LogisticRegression()).fit(X, Y, W).decision_function(X)
    found = fitted(stub, context=2400).decision_function(X)
    assert np.abs(found - expected).mean() < 0.1
    unweighted = PhysicalClassifier(LogisticRegression(), weighted=False).fit(X, Y, W).decision_function(X)
    assert np.abs(unweighted - expected).mean() > 0.4


def test_the_network_sees_the_context_in_batches_and_gets_what_is_configured(
    stub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True)))
    model = fitted(stub, seed=5, context=100, batch=1024, n_estimators=3, device="cuda")
    model.decision_function(X)
    (made,) = Stub.made
    assert (made.sizes, len(made.X)) == ([1024, 1024, 952], 100)
    given = {"n_estimators": 3, "random_state": 5, "device": "cuda"}
    assert given.items() <= made.given.items()
    assert Path(made.given["model_path"]).name == _DEFAULT[stub]


@pytest.mark.parametrize(("context", "expected"), [(1000, 500), (3000, 1000), (2, 1)])
def test_each_event_is_drawn_as_often_as_its_share(context: int, expected: int) -> None:
    """A class gets its share of the weights and at most as many events as it has."""
    weight = np.where(Y == 1, 2.0, 1.0) * RNG.gamma(2.0, size=Y.size)
    weight[Y == 1] *= weight[Y == 0].sum() / weight[Y == 1].sum()
    rows = drawn(weight, Y == 1, context, np.random.default_rng(1))
    assert rows.size == expected
    share = expected * weight / weight[Y == 1].sum()
    times = np.bincount(rows, minlength=Y.size)
    assert (np.abs(times - share)[Y == 1] < 1.0).all()
    assert not times[Y == 0].any()


def test_a_stored_model_needs_the_same_checkpoint(stub: str, checkpoints: Path, tmp_path: Path) -> None:
    model, file, codecs = fitted(stub, context=200).estimator_, tmp_path / "model", storage_codecs(get_model(stub))
    write_model(model, file, codecs)
    again = read_model(file, codecs, threads=2)
    assert again.n_jobs == 2
    np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    (checkpoints / _DEFAULT[stub]).write_bytes(b"another network")
    with pytest.raises(ModelError, match="not the checkpoint that the model was trained with"):
        read_model(file, codecs).decision_function(X)


@pytest.mark.parametrize(
    "wrong",
    [{"shift": np.inf}, {"classes": [1]}, {"params": {"library": "os", "checkpoint": "x"}}, {"params": {"batch": 0}}],
    ids=str,
)
def test_a_forged_model_is_refused(stub: str, tmp_path: Path, wrong: dict[str, Any]) -> None:
    model, file = fitted(stub).estimator_, tmp_path / "model"
    arrays, parameters = model.state()
    model.state = lambda: (arrays, {**parameters, **wrong})
    write_model(model, file, storage_codecs(get_model(stub)))
    with pytest.raises(StoreError, match="cannot be read as a stored model"):
        read_model(file, storage_codecs(get_model(stub)))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"context": 1}, "context must be a whole number of at least 2, got 1"),
        ({"batch": True}, "batch must be"),
        ({"n_estimators": 0}, "n_estimators must be"),
        ({"device": "mps"}, "device must be one of cpu, cuda, auto, got 'mps'"),
        ({"checkpoint": "../x.ckpt"}, "expected the name of a .* file, no folder"),
        ({"checkpoint": "x.pkl"}, "expected the name of a .* file"),
        ({"checkpoint": "absent.ckpt"}, "no checkpoint .*absent.ckpt; .*`hf download jingang/TabICL absent.ckpt"),
    ],
)
@pytest.mark.parametrize("stub", ["tabicl"], indirect=True)
def test_impossible_parameters_are_refused(stub: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises((ModelError, ValueError), match=message):
        fitted(stub, **params)


def config(name: str, **params: Any) -> dict[str, Any]:
    data = {"source": "simulated", "events": 600, "seed": 1}
    own = {"context": 100, "n_estimators": 1, **params}
    return {"data": data, "models": [{"model": name, "params": own}, "logistic"], "preset": "quick", "folds": 2}


def check_run(name: str, tmp_path: Path) -> None:
    result = higgsbench.run(config(name), output=tmp_path / "runs", jobs=1)
    assert {row["model"]: row["status"] for row in result.rows} == dict.fromkeys((name, "logistic", "stack"), "ok")
    events = write_simulated(SimulationSettings(events=100, seed=3), tmp_path / "events.csv")
    scores = higgsbench.predict(result, events, model=name)
    assert scores.height == 100
    assert scores["score"].is_finite().all()
    assert scores["score"].n_unique() > 10


def test_a_run_with_stubs(stub: str, checkpoints: Path, tmp_path: Path) -> None:
    check_run(stub, tmp_path)
    before = len(Stub.made)
    higgsbench.run(config(stub), output=tmp_path / "runs", jobs=1)
    assert len(Stub.made) == before, "finished fits are reused"
    (checkpoints / _DEFAULT[stub]).write_bytes(b"another network")
    higgsbench.run(config(stub), output=tmp_path / "runs", jobs=1)
    assert len(Stub.made) > before, "another checkpoint gives other scores"


def test_a_run_without_a_checkpoint_says_how_to_get_it(stub: str, checkpoints: Path, tmp_path: Path) -> None:
    (checkpoints / _DEFAULT[stub]).unlink()
    with pytest.raises(ConfigError, match=r"no checkpoint .*`hf download .* --local-dir .*checkpoints`$") as found:
        higgsbench.run(config(stub), output=tmp_path / "runs", jobs=1)
    assert re.fullmatch(r"configuration: models\[0\]: .*", str(found.value))


def small_tabicl(file: Path) -> None:
    torch, tabicl = pytest.importorskip("torch"), importlib.import_module("tabicl._model.tabicl")
    heads = {"col_nhead": 2, "row_nhead": 2, "icl_nhead": 2, "row_num_cls": 2, "col_num_inds": 8}
    blocks = {"col_num_blocks": 1, "row_num_blocks": 1, "icl_num_blocks": 1}
    how = {"max_classes": 2, "embed_dim": 16, "num_quantiles": 9, **heads, **blocks}
    model = randomised(tabicl.TabICL(**how))
    torch.save({"config": how, "state_dict": model.state_dict()}, file)


def small_tabpfn(file: Path) -> None:
    architecture = importlib.import_module("tabpfn.architectures.tabpfn_v3_5")
    settings = importlib.import_module("tabpfn.inference_config").InferenceConfig
    version = importlib.import_module("tabpfn.constants").ModelVersion.V2_5
    blocks = {"dist_embed_num_blocks": 1, "feat_agg_num_blocks": 1, "nlayers": 1, "dist_embed_num_inducing_points": 8}
    heads = {"dist_embed_num_heads": 2, "feat_agg_num_heads": 2, "icl_num_heads": 2, "decoder_num_heads": 2}
    sizes = {"max_num_classes": 2, "num_buckets": 10, "embed_dim": 16, "feat_agg_num_cls_tokens": 2}
    how, _ = architecture.parse_config({**blocks, **heads, **sizes, "decoder_head_dim": 8})
    content = {
        "config": dataclasses.asdict(how),
        "architecture_name": "tabpfn_v3_5",
        "inference_config": dataclasses.asdict(settings.get_default("multiclass", version)),
        "state_dict": randomised(architecture.get_architecture(how)).state_dict(),
    }
    importlib.import_module("tabpfn.checkpoint").save_as_safetensors(content, file)


def randomised(model: Any) -> Any:
    """Networks begin with an output of zero, which would give all events the same score."""
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "make"), [("tabicl", small_tabicl), ("tabpfn", small_tabpfn)])
def test_a_run_with_the_library_and_a_small_random_network(
    name: str, make: Any, checkpoints: Path, tmp_path: Path
) -> None:
    pytest.importorskip(name, reason=f"needs the extra {name!r}", exc_type=ImportError)
    make(checkpoints / _DEFAULT[name])
    check_run(name, tmp_path)
    model = fitted(name, context=100, n_estimators=2)
    whole = model.decision_function(X[:40])
    model.estimator_.batch = 7
    np.testing.assert_allclose(model.decision_function(X[:40]), whole, rtol=0.0, atol=1e-5)


def test_the_classifier_is_one_of_scikit_learns(stub: str) -> None:
    model = InContextClassifier(library=stub, checkpoint=_DEFAULT[stub], context=50)
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        model.fit(X[:9], np.arange(9) % 3)
    assert model.fit(X, np.where(Y == 1, "s", "b")).predict(X[:5]).dtype.kind == "U"
