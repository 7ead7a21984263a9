"""Models of users: classifiers in a record, files that `--import` runs, and what a run refuses before it trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import higgsbench
from higgsbench import BuildContext, ModelSpec, models
from higgsbench.errors import ConfigError, ModelError
from higgsbench.models import get_model, import_models
from higgsbench.models.building import build_estimator, unstorable
from tests.conftest import Call
from tests.runs.conftest import Notes

FILE = """
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.naive_bayes import GaussianNB

import higgsbench

class Distance(BaseEstimator):
    # Signal is nearer to the mean of the signal than background is.
    def __init__(self, power=1.0):
        self.power = power

    def fit(self, X, y, sample_weight):
        self.centres_ = [np.average(X[y == k], axis=0, weights=sample_weight[y == k]) for k in (0, 1)]
        self.scale_ = X.std(axis=0) + 1e-9
        return self

    def decision_function(self, X):
        background, signal = (distance(X, c, self.scale_) ** self.power for c in self.centres_)
        return background - signal

def distance(X, centre, scale):
    return np.sqrt((((X - centre) / scale) ** 2).mean(axis=1))

def build(params, context):
    return Distance(**params)

bayes = higgsbench.ModelSpec("any", GaussianNB(), presets={"quick": {"var_smoothing": 1e-3}})
no_scores = lambda params, context: object()
higgsbench.register_model(higgsbench.ModelSpec("registered", GaussianNB))
"""


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers or imports is gone afterwards."""
    models.registered_models()
    monkeypatch.setattr(models._MODELS, "_records", dict(models._MODELS._records))
    monkeypatch.setattr(models, "IMPORTED", {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    target = tmp_path / "my.py"
    target.write_text(FILE)
    return target


Config = Callable[..., dict[str, Any]]


@pytest.fixture
def config(toys: Path) -> Config:
    def make(*entries: Any, **more: Any) -> dict[str, Any]:
        return {"data": {"path": str(toys)}, "models": list(entries), "folds": 2, "preset": "quick", **more}

    return make


def features() -> tuple[str, ...]:
    return tuple("abcd")


class TestRecords:
    @pytest.mark.parametrize("build", [DecisionTreeClassifier(max_depth=2), DecisionTreeClassifier])
    def test_a_classifier_is_copied_with_seed_and_parameters(self, build: Any) -> None:
        spec = ModelSpec("tree", build, missing=True)
        built = build_estimator(spec, {"min_samples_leaf": 7}, BuildContext(5))
        assert built is not build
        assert (built.random_state, built.min_samples_leaf) == (5, 7)
        with pytest.raises(ModelError, match=r"cannot be built from .*: Invalid parameter .depth."):
            build_estimator(spec, {"depth": 2}, BuildContext(5))

    def test_steps_of_a_pipeline_get_the_seed(self) -> None:
        inner = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, n_jobs=7))
        built = build_estimator(ModelSpec("p", inner, missing=True), {}, BuildContext(5, threads=2))
        assert built.get_params()["logisticregression__random_state"] == 5
        assert built.get_params()["logisticregression__n_jobs"] in (2, None)
        assert (built.steps[1][1].C, inner.steps[1][1].random_state) == (0.5, None)

    def test_another_classifier_is_another_identity(self) -> None:
        codes = {ModelSpec("a", DecisionTreeClassifier(max_depth=depth)).code for depth in (1, 2, 2)}
        assert len(codes) == 2
        assert ModelSpec("a", GaussianNB()).code == ModelSpec("b", GaussianNB).code

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"build": 3}, "build must be a function of parameters and a BuildContext, or a classifier"),
            ({"build": GaussianNB, "trusted": "my.Net"}, "trusted must be a list of classes or their names"),
            ({"build": type("Needs", (GaussianNB,), {"__init__": lambda self, a: None})}, "Needs needs arguments"),
        ],
    )
    def test_bad_records(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            ModelSpec("a", **arguments)

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (LinearRegression(), "LinearRegression has neither predict_proba nor decision_function"),
            (make_pipeline(StandardScaler(), LinearRegression()), "LinearRegression has neither"),
            (lambda params, context: None, "its builder returned nothing, expected an unfitted classifier"),
            (lambda params, context: GaussianNB, "its builder returned the class GaussianNB"),
            (lambda params, context: 3, "its builder returned a int"),
            (KNeighborsClassifier(), r"fit takes no sample_weight; give ModelSpec\(sample_weight=False\)"),
            (
                lambda params, context: params["depth"],
                r"its builder raised KeyError: 'depth' \(test_own\.py, line \d+\)",
            ),
        ],
    )
    def test_refused_before_training(self, config: Config, tmp_path: Path, build: Any, message: str) -> None:
        higgsbench.register_model(ModelSpec("mine", build))
        with pytest.raises(ConfigError, match=rf"models\[0\]: model 'mine': .*{message}"):
            higgsbench.run(config("mine"), output=tmp_path / "out", jobs=1)
        assert not (tmp_path / "out").exists()

    def test_models_without_probabilities_or_weights_train(self) -> None:
        for spec in (
            ModelSpec("ridge", RidgeClassifier()),
            ModelSpec("near", KNeighborsClassifier(), sample_weight=False),
            ModelSpec("own", LinearRegression(), log_odds=lambda model, X: model.predict(X)),
        ):
            build_estimator(spec, {}, BuildContext(1))


class Unknown(KNeighborsClassifier):  # type: ignore[misc]  # scikit-learn has no types
    """A class that higgsbench does not know."""


class TestStorage:
    @pytest.mark.parametrize(
        ("spec", "problem"),
        [
            (ModelSpec("a", SVC()), ""),
            (ModelSpec("a", make_pipeline(FunctionTransformer(np.arcsinh), GaussianNB())), ""),
            (ModelSpec("a", KNeighborsClassifier(), sample_weight=False), "sklearn.neighbors._kd_tree.KDTree"),
            (ModelSpec("a", Unknown(), sample_weight=False), f"ModelSpec(trusted=['{Unknown.__module__}.Unknown'])"),
            (ModelSpec("a", Unknown(), sample_weight=False, trusted=[Unknown]), ""),
            (ModelSpec("a", make_pipeline(FunctionTransformer(np.mean), GaussianNB())), "trusted=['numpy.mean']"),
        ],
    )
    def test_said_before_training(self, spec: ModelSpec, problem: str) -> None:
        found = unstorable(spec, {}, features())
        assert problem in found
        assert bool(found) == bool(problem)

    def test_a_run_says_so_once_and_keeps_scores(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        higgsbench.register_model(ModelSpec("near", Unknown(), sample_weight=False))
        heard, order = Notes(), list[str]()
        monkeypatch.setattr(heard, "warn", order.append)
        monkeypatch.setattr(heard, "started", lambda *unit: order.append("started"))
        higgsbench.run(config("near"), output=tmp_path, jobs=1, listener=heard)
        assert order[0].startswith("near: its scores are stored, its fitted models are not, so `predict`")
        assert "store_models: false" in order[0]
        assert order[1:] == ["started", "started"]
        heard.lines.clear()
        assert higgsbench.run(config("near", store_models=False), output=tmp_path / "b", jobs=1).rows

    @pytest.mark.parametrize("kernel", ["rbf", "poly"])
    def test_support_vectors_predict_the_same_from_a_file(
        self, config: Config, toys: Path, tmp_path: Path, kernel: str
    ) -> None:
        higgsbench.register_model(ModelSpec("svm", make_pipeline(StandardScaler(), SVC(kernel=kernel))))
        result = higgsbench.run(config("svm", stack=False), output=tmp_path, jobs=1)
        found = higgsbench.predict(result, toys, jobs=1)
        stored = pl.read_parquet(result.folder / "scores.parquet")
        both = stored.join(found, on="EventId")
        assert both.height == stored.height
        assert (both["score:svm"] == both["score"]).all()


class TestFiles:
    def test_names_in_a_file(self, file: Path) -> None:
        import_models(file)
        spec = get_model("my.py:bayes")
        assert (spec.name, spec.preset("quick").params) == ("my.py:bayes", {"var_smoothing": 1e-3})
        assert get_model("folder/my.py:build").name == "my.py:build"
        assert {get_model(name).code[-64:] for name in ("registered", "my.py:bayes", "my.py:build")} == {
            spec.code[-64:]
        }

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, "no such file"),
            ("", "defines no 'build'"),
            ("builds = 1", r"my.py defines no 'build' \(did you mean 'builds'\?\)"),
            ("build = 1", "model my.py:build: build must be a function"),
            ("def f(:\n", r"--import my.py: SyntaxError: .*my.py, line 1"),
            ("\n1 / 0", r"--import my.py: ZeroDivisionError: division by zero \(my.py, line 2\)"),
            ("import sys; sys.exit(3)", "--import my.py: SystemExit: 3"),
            (
                "import higgsbench as h; h.register_model(h.ModelSpec('xgboost', print))",
                "'xgboost' is already registered",
            ),
        ],
    )
    def test_bad_files(self, call: Call, toys: Path, tmp_path: Path, text: str | None, message: str) -> None:
        if text is not None:
            (tmp_path / "my.py").write_text(text)
        (tmp_path / "c.yaml").write_text("models: [{model: 'my.py:build'}]\n")
        code, out, err = call("run", "c.yaml", "--import", "my.py", "--data", toys)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(err)
        assert not (tmp_path / "results").exists()

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("folder", "a folder; name a Python file"),
            ("my.txt", "expected a Python file"),
            ("other/my.py", "same name"),
        ],
    )
    def test_what_is_no_python_file(self, file: Path, tmp_path: Path, name: str, message: str) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "other").mkdir()
        (tmp_path / "my.txt").write_text("")
        (tmp_path / "other" / "my.py").write_text("")
        import_models(file)
        with pytest.raises(ModelError, match=message):
            import_models(tmp_path / name)

    def test_a_configuration_alone_runs_nothing(self, call: Call, file: Path, tmp_path: Path) -> None:
        file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        (tmp_path / "c.yaml").write_text("data: {source: simulated}\nmodels:\n  - model: my.py:build\n")
        code, _, err = call("run", "c.yaml")
        assert (code, err.count("\n")) == (2, 1)
        assert "c.yaml:3: models[0].model: 'my.py:build' is code in a file" in err
        assert "add --import my.py to the command" in err
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("engine", ["serial", "local", "dask"])
    def test_every_engine(self, config: Config, file: Path, tmp_path: Path, engine: str) -> None:
        if engine == "dask":
            pytest.importorskip("distributed")
        import_models(file)
        (tmp_path / "elsewhere").mkdir()
        file.rename(tmp_path / "elsewhere" / "my.py")  # workers do not read it
        given = config({"model": "my.py:build", "params": {"power": 2.0}}, {"model": "my.py:bayes"}, "registered")
        result = higgsbench.run(given, output=tmp_path / "out", jobs=1 if engine == "serial" else 2, engine=engine)
        assert [row["name"] for row in result.rows] == ["build", "bayes", "registered", "stack"]
        assert all(row["status"] == "ok" for row in result.rows)
        assert result.rows[0]["auc"] > 0.6
        assert len(list(result.folder.glob("units/*.model.zip"))) == 6

    def test_commands_and_changed_code(
        self, call: Call, config: Config, toys: Path, file: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "c.json").write_text(json.dumps(config({"model": "my.py:build"}, stack=False)))
        run = ("run", "c.json", "--import", "my.py", "-j", "1", "--quiet", "--set", "models.build.params.power=1.5")
        assert call(*run)[0] == 0
        (folder,) = Path("results").iterdir()
        first = {marker.name for marker in folder.glob("units/*.json")}
        code, _, err = call("predict", "latest", toys, "-o", "s.csv", "--import", file, "-j", "1")
        assert (code, "Warning" in err) == (0, False), err
        models.IMPORTED.clear()
        code, _, err = call("predict", "latest", toys, "-o", "s.csv")
        assert (code, err.count("\n")) == (2, 1)
        assert "add --import my.py" in err
        models._MODELS.remove("registered")
        file.write_text(FILE + "# changed\n")
        assert "the code of 'my.py:build' has changed since the run" in call(
            "predict", "latest", toys, "-o", "s.csv", "--import", "my.py", "-j", "1"
        )[2]  # fmt: skip
        assert call(*run)[0] == 0
        assert len({marker.name for marker in folder.glob("units/*.json")} - first) == 2
