"""Stored models: identical scores after reading, for every registered model; nothing foreign gets in."""

from __future__ import annotations

import functools
import inspect
import io
import json
import math
import operator
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, RobustScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators

from higgsbench import BuildContext, JetSplitClassifier, ModelSpec, PhysicalClassifier
from higgsbench.errors import MissingExtraError, StoreError
from higgsbench.models import get_model, registered_models, storage_codecs
from higgsbench.models.building import build_estimator, log_odds_reader
from higgsbench.models.storage import Codec, StateCodec, UnstorableError, read_model, write_model
from higgsbench.validation.physical import unit_codecs

SPECS = [spec for spec in registered_models() if spec.reproducible]
"""The searches of other AutoML tools, which stop by the clock, keep their scores only."""

CODECS = storage_codecs(get_model("logistic"))
Change = Callable[[dict[str, bytes]], None]

SMALL: dict[str, dict[str, Any]] = {
    "logistic": {"max_iter": 30},
    "random_forest": {"n_estimators": 6},
    "catboost": {"iterations": 8},
    "xgboost": {"n_estimators": 8, "min_child_weight": 1},
    "lightgbm": {"n_estimators": 8},
    "mlp": {"max_iter": 2, "hidden_layer_sizes": [8], "batch_size": 32},
}


def events(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Four features, the last of them a group number; some values missing."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(np.int64)
    X = rng.normal(size=(n, 4)) + y[:, None] * np.array([1.2, 0.8, 0.0, 0.0])
    X[rng.random((n, 4)) < 0.1] = np.nan
    X[:, 3] = rng.integers(0, 3, n)
    return X.astype(np.float32), y, rng.gamma(4.0, size=n)


TRAIN, FRESH = events(300, 0), events(200, 1)[0]


def fitted(spec: ModelSpec, *, split: bool, bag: int = 1) -> Any:
    try:
        spec.check_available()
    except MissingExtraError as error:
        pytest.skip(str(error))
    stopped = {"early_stopping_rounds": 2, "learning_rate": 0.9} if bag > 1 and spec.contributions else {}
    params = {**spec.preset("quick").params, **SMALL.get(spec.name, {}), "bag": bag, **stopped}
    inner = build_estimator(spec, params, BuildContext(3, 1, ("a", "b", "c")))
    reader = log_odds_reader(spec, params)
    groups: dict[str, Any] = {"group_feature": -1, "groups": ((0,), (1, 2)), "keep_group_feature": False}
    kind, more = (JetSplitClassifier, groups) if split else (PhysicalClassifier, {})
    return kind(inner, log_odds=reader, **more).fit(*TRAIN)


def only_skops(spec: ModelSpec) -> tuple[Codec, ...]:
    """Formats of versions that stored all estimators of scikit-learn with skops."""
    return tuple(codec for codec in unit_codecs(spec) if codec.kind != "plain")


@pytest.mark.parametrize("split", [False, True], ids=["global", "jets"])
@pytest.mark.parametrize("bag", [1, 2])
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_same_bits_after_reading(spec: ModelSpec, split: bool, bag: int, tmp_path: Path) -> None:
    model = fitted(spec, split=split, bag=bag)
    again = model
    for _ in range(2):
        write_model(again, tmp_path / "m.zip", unit_codecs(spec))
        again = read_model(tmp_path / "m.zip", unit_codecs(spec))
        np.testing.assert_array_equal(again.decision_function(FRESH), model.decision_function(FRESH))
        assert again.n_features_in_ == 4


@pytest.mark.parametrize("name", ["logistic", "random_forest", "mlp"])
def test_models_stored_by_earlier_versions(name: str, tmp_path: Path) -> None:
    spec = get_model(name)
    model = fitted(spec, split=False)
    write_model(model, tmp_path / "m.zip", only_skops(spec))
    again = read_model(tmp_path / "m.zip", unit_codecs(spec))
    np.testing.assert_array_equal(again.decision_function(FRESH), model.decision_function(FRESH))


def test_equal_models_make_equal_files(tmp_path: Path) -> None:
    spec = get_model("lightgbm")
    for name in "ab":
        write_model(fitted(spec, split=False), tmp_path / name, unit_codecs(spec))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


UNSAFE = {"KNeighborsClassifier", "RadiusNeighborsClassifier", "TunedThresholdClassifierCV"}
"""Classifiers whose compiled code follows stored positions unchecked, and one that holds a function."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "cls"), all_estimators("classifier"), ids=lambda v: v if isinstance(v, str) else "")
def test_classifiers_of_scikit_learn(name: str, cls: Any, tmp_path: Path) -> None:
    X, needed = np.abs(np.nan_to_num(TRAIN[0])), inspect.signature(cls).parameters
    inner = {"estimator": GaussianNB()} if "estimator" in needed else {}
    inner |= {"estimators": [("a", GaussianNB()), ("b", LogisticRegression())]} if "estimators" in needed else {}
    inner |= {name: few for name, few in (("max_iter", 20), ("n_estimators", 10)) if name in needed}
    try:
        estimator = cls(**inner).fit(X, TRAIN[1])
    except (TypeError, ValueError, IndexError) as error:
        pytest.skip(f"does not train on these events: {error}")
    if name in UNSAFE:
        with pytest.raises(UnstorableError, match=r"cannot be stored|not trusted"):
            write_model(estimator, tmp_path / "m.zip", CODECS)
        assert not (tmp_path / "m.zip").exists()
        return
    write_model(estimator, tmp_path / "m.zip", CODECS)
    again = read_model(tmp_path / "m.zip", CODECS)
    how = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
    np.testing.assert_array_equal(getattr(again, how)(X), getattr(estimator, how)(X))
    assert getattr(read_model(tmp_path / "m.zip", CODECS, threads=2), "n_jobs", 2) == 2


def test_pipelines_and_functions(tmp_path: Path) -> None:
    X = np.nan_to_num(TRAIN[0])
    model = make_pipeline(RobustScaler(), PolynomialFeatures(2), GaussianNB()).fit(X, TRAIN[1])
    write_model(model, tmp_path / "m.zip", CODECS)
    np.testing.assert_array_equal(read_model(tmp_path / "m.zip", CODECS).predict_proba(X), model.predict_proba(X))
    with pytest.raises(UnstorableError, match="not trusted"):
        write_model(make_pipeline(FunctionTransformer(math.fabs), GaussianNB()), tmp_path / "n.zip", CODECS)
    model.steps[2][1].classes_ = np.array([{"a": 1}, print], dtype=object)
    with pytest.raises(UnstorableError):
        write_model(model, tmp_path / "n.zip", CODECS)


class Stated(ClassifierMixin):  # type: ignore[misc]  # scikit-learn ships no types
    """A model that states itself, as a network would."""

    def __init__(self, slope: NDArray[np.float64], name: str) -> None:
        self.slope, self.name = slope, name

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {"slope": self.slope}, {"name": self.name}

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], parameters: dict[str, Any]) -> Stated:
        return cls(arrays["slope"], parameters["name"])


def test_a_model_that_states_itself(tmp_path: Path) -> None:
    codec = StateCodec("stated", f"{Stated.__module__}:Stated")
    sys.modules.setdefault(Stated.__module__, sys.modules[__name__])
    write_model(Stated(np.array([0.1, np.nan]), "é"), tmp_path / "m.zip", [codec])
    again = read_model(tmp_path / "m.zip", [codec])
    np.testing.assert_array_equal(again.slope, [0.1, np.nan])
    assert again.name == "é"
    assert pickle.loads(pickle.dumps(codec)) == codec  # noqa: S301
    with pytest.raises(StoreError, match="'stated'; known kinds are"):
        read_model(tmp_path / "m.zip", CODECS)
    with pytest.raises(UnstorableError, match="Python objects"):
        write_model(Stated(np.array([{}], dtype=object), "x"), tmp_path / "n.zip", [codec])


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Contents of a stored model of each library."""
    file, found = tmp_path_factory.mktemp("stored") / "m.zip", {}
    made = {spec.name: (fitted(spec, split=False), unit_codecs(spec)) for spec in SPECS if spec.extra is None}
    for name in ("logistic", "random_forest"):
        made[f"{name} in skops"] = made[name][0], only_skops(get_model(name))
    svm = PhysicalClassifier(SVC()).fit(np.nan_to_num(TRAIN[0]), TRAIN[1])
    made["machine"] = svm, unit_codecs(ModelSpec("machine", SVC()))
    for name, (model, codecs) in made.items():
        write_model(model, file, codecs)
        found[name] = file.read_bytes()
    return found


def changed(content: bytes, change: Change) -> bytes:
    """Unpack an archive, let the parts be changed, pack it again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in parts.items():
            archive.writestr(name, value)
    return stream.getvalue()


def inside(change: Change) -> Change:
    """Let the entries of the last skops part of a stored model be changed."""

    def apply(parts: dict[str, bytes]) -> None:
        part = [name for name in parts if name.endswith(".skops")][-1]
        parts[part] = changed(parts[part], change)

    return apply


def manifest(value: Any, *path: str) -> Change:
    """Replace a value in the tree of nodes."""

    def apply(parts: dict[str, bytes]) -> None:
        content = json.loads(parts["model.json"])
        functools.reduce(operator.getitem, path[:-1], content)[path[-1]] = value
        parts["model.json"] = json.dumps(content).encode()

    return apply


def skops(**root: str) -> Change:
    """Replace what a skops part says of its outermost object."""

    def apply(parts: dict[str, bytes]) -> None:
        parts["schema.json"] = json.dumps({**json.loads(parts["schema.json"]), **root}).encode()

    return inside(apply)


def resaved(content: bytes, change: Callable[[NDArray[Any]], NDArray[Any] | None]) -> bytes:
    """Change the array of a file in place, or replace it."""
    array, stream = np.load(io.BytesIO(content)), io.BytesIO()
    new = change(array)
    np.save(stream, array if new is None else new)
    return stream.getvalue()


def put(field: str) -> Callable[[NDArray[Any]], None]:
    """Let a node lead outside."""
    return lambda nodes: nodes[field].__setitem__(0, 30_000)


def forest(field: str) -> Change:
    """Let the second tree of a forest in skops lead outside."""

    def apply(parts: dict[str, bytes]) -> None:
        schema = json.loads(parts["schema.json"])
        content = schema["content"]["content"]
        tree = content["estimators_"]["content"][1]["content"]["content"]["tree_"]
        file = tree["content"]["content"]["nodes"]["file"]
        if field == "n_features_in_":
            content[field] |= {"content": "1", "__id__": 1 + content[field]["__id__"]}
        elif field == "unchecked columns":
            for estimator in (content, *(t["content"]["content"] for t in content["estimators_"]["content"])):
                del estimator["n_features_in_"]
        else:
            parts[file] = resaved(parts[file], put(field))
        parts["schema.json"] = json.dumps(schema).encode()

    return inside(apply)


def machine(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Change:
    """Let an array of a support vector machine have another size or content."""

    def apply(parts: dict[str, bytes]) -> None:
        file = json.loads(parts["schema.json"])["content"]["content"][name]["file"]
        parts[file] = resaved(parts[file], lambda array: change(array).astype(array.dtype))

    return inside(apply)


def plain_forest(part: str, change: Callable[[NDArray[Any]], NDArray[Any] | None]) -> Change:
    """Change the array of all trees' nodes, values, sizes, depths or seeds, in place or by another one."""

    def apply(parts: dict[str, bytes]) -> None:
        file = json.loads(parts["model.json"])["model"]["estimator"]["object"]["trees"]["arrays"][part]
        parts[file] = resaved(parts[file], change)

    return apply


def lightgbm(field: str, value: str) -> Change:
    """Replace the first value of a list of the first tree."""

    def apply(parts: dict[str, bytes]) -> None:
        lines = parts["0.txt"].decode().split("\n")
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{field}="))
        lines[at] = f"{field}={value} " + lines[at].split("=")[1].split(" ", 1)[1]
        parts["0.txt"] = "\n".join(lines).encode()

    return apply


PLAIN = ("model", "estimator", "object")  # where the manifest describes a plain estimator
NODE = ("left_child", "right_child", "feature")
OUTSIDE, UNREADABLE = "a tree that points outside itself", "cannot be read as a stored model"

FORGED: list[tuple[str, Change, str]] = [
    *(
        ("lightgbm", lambda parts, name=name: parts.update({name: b"x"}), "higgsbench never writes")
        for name in ("../../evil.txt", "/etc/passwd", "a\\b", "0.txt/../x", "model.py")
    ),
    *(
        ("lightgbm", manifest(name, "model", "estimator", "part"), "not a part of it")
        for name in ("../0.txt", "/etc/passwd", "7.txt", "model.json", 3, None)
    ),
    *(
        ("lightgbm", manifest(kind, "model", "estimator", "kind"), "known kinds are")
        for kind in ("os.system", "pickle", None, ["plain"], "higgsbench.files")
    ),
    ("lightgbm", manifest(99, "format"), "format 99"),
    *(
        (name, manifest("0.24.2", "model", "estimator", "sklearn"), "stored with scikit-learn 0.24.2")
        for name in ("random_forest", "random_forest in skops")
    ),
    ("logistic in skops", skops(__class__="system", __module__="os"), "os.system, which is not trusted"),
    ("logistic in skops", skops(__class__="SVR", __module__="sklearn.svm._classes"), "SVR, which is not trusted"),
    *(
        ("logistic in skops", skops(__loader__=f"{kind}Node"), f"a {kind}Node of")
        for kind in ("Bytes", "Method", "Cached")
    ),
    *(
        ("machine", machine(name, change), "support vectors that do not fit together")
        for name, change in (
            ("_n_support", lambda counts: counts * 1000),
            ("_n_support", lambda counts: counts * [-1, 1]),
            ("_n_support", lambda counts: counts[:1]),
            ("support_", lambda support: support[1:]),
            ("support_vectors_", lambda vectors: vectors[:, :2]),
            ("_dual_coef_", lambda coefficients: coefficients[:, 1:]),
            ("_intercept_", lambda intercept: intercept[:0]),
            ("_probA", lambda a: np.ones(1)),
        )
    ),
    *(("random_forest in skops", forest(field), OUTSIDE) for field in (*NODE, "n_features_in_", "unchecked columns")),
    *(("random_forest", plain_forest("nodes", put(field)), OUTSIDE) for field in NODE),
    *(
        ("random_forest", manifest(1, *PLAIN, *path, "state", "n_features_in_"), OUTSIDE)
        for path in ((), ("trees", "first"))
    ),
    ("random_forest", plain_forest("sizes", lambda sizes: sizes * 0), OUTSIDE),
    ("random_forest", plain_forest("sizes", lambda sizes: sizes[1:]), UNREADABLE),
    ("random_forest", plain_forest("nodes", lambda nodes: nodes["feature"]), UNREADABLE),
    ("random_forest", plain_forest("values", lambda values: values[:, :, :0]), UNREADABLE),
    ("random_forest", plain_forest("values", lambda values: values[:9]), UNREADABLE),
    ("random_forest", manifest([], *PLAIN, "trees", "first"), UNREADABLE),
    *(
        ("random_forest", manifest(name, *PLAIN, *path, "object"), "which is not trusted")
        for name in ("os.system", "sklearn.svm._classes.SVC", "sklearn.tree._tree.Tree", 3)
        for path in ((), ("trees", "first"))
    ),
    ("lightgbm", lightgbm("left_child", "99999"), "LightGBM tree 0 points to"),
    ("lightgbm", lightgbm("left_child", "0"), "LightGBM tree 0 points to"),
    ("lightgbm", lightgbm("split_feature", "77"), "LightGBM tree 0 points to"),
]


def refused(content: bytes, file: Path, name: str = "lightgbm", own: Any = None) -> str:
    """Write a file that cannot be read, and return the error."""
    file.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        read_model(file, own or unit_codecs(get_model("logistic" if name == "machine" else name)))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("name", "change", "message"), FORGED)
def test_forged_content(stored: dict[str, bytes], tmp_path: Path, name: str, change: Change, message: str) -> None:
    assert message in refused(changed(stored[name], change), tmp_path / "m.zip", name.split()[0])


def test_pickles_in_place_of_parts(stored: dict[str, bytes], tmp_path: Path) -> None:
    def plant(parts: dict[str, bytes]) -> None:
        parts |= {part: pickle.dumps({"a": 1}) for part in parts if part != "model.json"}

    for name, content in stored.items():
        assert "stored model" in refused(changed(content, plant), tmp_path / "m.zip", name.split()[0])


def test_a_pickle_inside_an_array_file(tmp_path: Path) -> None:
    codec, stream = StateCodec("stated", f"{Stated.__module__}:Stated"), io.BytesIO()
    write_model(Stated(np.ones(1), "x"), tmp_path / "s.zip", [codec])
    np.save(stream, np.array([{"a": 1}], dtype=object))
    planted = changed((tmp_path / "s.zip").read_bytes(), lambda parts: parts.update({"0.npy": stream.getvalue()}))
    assert "allow_pickle=False" in refused(planted, tmp_path / "m.zip", own=[codec])


def test_truncated_anywhere(stored: dict[str, bytes], tmp_path: Path) -> None:
    content = stored["xgboost"]
    for end in np.linspace(0, len(content) - 1, 12).astype(int):
        refused(content[:end], tmp_path / "m.zip", "xgboost")
