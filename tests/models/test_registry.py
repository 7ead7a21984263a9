"""Models of users: registered by call, or brought by an installed package's entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from higgsbench import BuildContext, ModelSpec, PhysicalClassifier, models, register_model
from higgsbench.errors import MissingExtraError, ModelError
from higgsbench.models import Preset, builtin, get_model, model_names, registered_models
from higgsbench.models.building import build_estimator

ROOT = Path(__file__).parents[2]


def build_stump(params: Any, context: BuildContext) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=context.seed, **params)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone afterwards."""
    registered_models()
    monkeypatch.setattr(models._MODELS, "_records", dict(models._MODELS._records))


def test_a_registered_model_trains_like_any_other() -> None:
    spec = register_model(ModelSpec("stump", build_stump, presets={"quick": {"max_depth": 1}}))
    assert get_model("stump") is spec
    assert model_names()[-1] == "stump"
    rng = np.random.default_rng(0)
    y = rng.random(200) < 0.5
    X = (rng.normal(size=(200, 2)) + y[:, None]).astype(np.float32)
    X[::7, 1] = np.nan
    inner = build_estimator(spec, spec.preset("best").params, BuildContext(1))
    score = PhysicalClassifier(inner).fit(X, y).decision_function(X)
    assert np.unique(score).size == 2


def test_records_are_registered_once_unless_replaced() -> None:
    """Regression: anything but a record failed as a missing attribute."""
    spec, wrong = ModelSpec("xgboost", build_stump), cast("ModelSpec", build_stump)
    with pytest.raises(ModelError, match="'xgboost' is already registered; pass replace=True"):
        register_model(spec)
    assert register_model(spec, replace=True) is get_model("xgboost")
    with pytest.raises(ModelError, match=r"must be a higgsbench\.ModelSpec, got a function"):
        register_model(wrong)


@pytest.mark.parametrize("name", ["", "1st", "two words", "a/b", "-x", "x\n"])
def test_names_are_plain_and_presets_known(name: str) -> None:
    with pytest.raises(ModelError, match="letters, digits"):
        ModelSpec(name, build_stump)
    with pytest.raises(ModelError, match="unknown preset 'fast'; presets are quick, good, best"):
        ModelSpec("a", build_stump, presets={"fast": {}})


@pytest.mark.parametrize(
    ("have", "asked", "got"),
    [("quick good", "best", "good"), ("quick", "best", "quick"), ("good best", "quick", "good"),
     ("best", "quick", "best"), ("quick best", "good", "quick")],
)  # fmt: skip
def test_a_preset_falls_back_to_the_next(have: str, asked: str, got: str) -> None:
    spec = ModelSpec("a", build_stump, presets={name: {"p": name} for name in have.split()})
    assert spec.preset(asked) == Preset({"p": got})
    assert ModelSpec("a", build_stump).preset(asked) == Preset()


def test_what_is_not_registered_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"no model named 'xgbost' \(did you mean 'xgboost'\?\)"):
        get_model("xgbost")
    with pytest.raises(ModelError, match="choose from catboost, lightgbm"):
        get_model("qqq")


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part", "numpy.no_such_part"])
def test_missing_modules_are_named(module: str) -> None:
    """Regression: of a submodule, the missing package escaped as ModuleNotFoundError."""
    with pytest.raises(ModelError, match=f"model 'a' needs the module {module}, which is not installed"):
        ModelSpec("a", build_stump, imports=(module,)).check_available()
    with pytest.raises(MissingExtraError, match=r"pip install 'higgsbench\[deep\]'"):
        ModelSpec("a", build_stump, imports=(module,), extra="deep").check_available()


MODEL = """
from higgsbench import ModelSpec

def build(params, context):
    from sklearn.naive_bayes import GaussianNB
    return GaussianNB(**params)

SPEC = ModelSpec({name!r}, build, description="Naive Bayes of a guest")
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Lay out a package with an entry point as an installer does."""

    def make(code: str) -> Path:
        files = {
            "guest_models/__init__.py": code,
            "guest_models-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: guest-models\nVersion: 1.0\n",
            "guest_models-1.0.dist-info/entry_points.txt": "[higgsbench.models]\nguest = guest_models:SPEC\n",
        }
        for name, text in files.items():
            (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "site" / name).write_text(text)
        return tmp_path / "site"

    return make


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=site)


def test_a_package_brings_its_model(install: Install) -> None:
    done = python(install(MODEL.format(name="guest_bayes")), "-m", "higgsbench", "models")
    assert done.returncode == 0, done.stderr
    assert "guest_bayes" in done.stdout
    assert "Naive Bayes of a guest" in done.stdout
    assert done.stdout.index("mlp") < done.stdout.index("guest_bayes")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("import no_such_thing", "cannot be loaded: ModuleNotFoundError"),
        ("x = 1", "cannot be loaded: AttributeError"),
        ("SPEC = 'a model'", "is a str, expected a higgsbench.ModelSpec"),
        (MODEL.format(name="xgboost"), "two models are named 'xgboost'"),
        (MODEL.format(name="bad name"), "cannot be loaded: ModelError: model name 'bad name'"),
    ],
)
def test_a_broken_package_is_one_clear_line(install: Install, code: str, message: str) -> None:
    done = python(install(code), "-m", "higgsbench", "models")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert message in line
    assert "two models" in message or "entry point 'guest' of guest-models" in line


def test_after_a_failure_the_registry_is_not_half_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[ModelSpec]:
        raise ModelError("broken")

    monkeypatch.setattr(models._MODELS, "_records", {})
    monkeypatch.setattr(models._MODELS, "_loaded", False)
    with monkeypatch.context() as patch:
        patch.setattr(models._MODELS, "_offered", broken)
        for _ in range(2):
            with pytest.raises(ModelError, match="broken"):
                registered_models()
    assert model_names()[:1] == ("catboost",)


FROM_THREADS = """
import sys, threading
sys.setswitchinterval(1e-6)
from higgsbench.features import feature_set
from higgsbench.models import get_model

start, failed = threading.Barrier(8), []

def ask():
    start.wait()
    for get, name in ((get_model, "xgboost"), (feature_set, "physics")):
        try:
            get(name)
        except Exception as error:
            failed.append(error)

threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit(str(failed[0]) if failed else 0)
"""


def test_several_threads_may_ask_first() -> None:
    """Regression: all threads but the first found an empty registry."""
    done = python(ROOT, "-c", FROM_THREADS)
    assert done.returncode == 0, done.stderr


def test_a_new_built_in_model_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from higgsbench import ModelSpec\nMODELS = (ModelSpec('bayes', print),)"
    (tmp_path / "bayes.py").write_text(code)
    monkeypatch.setattr(builtin, "__path__", [*builtin.__path__, str(tmp_path)])
    assert "bayes" in [spec.name for spec in models._builtin()]
    del sys.modules["higgsbench.models.builtin.bayes"]


LISTS = """
import sys
from higgsbench.models import model_names
heavy = ("sklearn", "scipy", "optuna", "xgboost", "lightgbm", "catboost")
print(*sorted(model_names()[:6]), len(model_names()), [m for m in heavy if m in sys.modules])
"""


def test_listing_the_models_loads_none_of_their_libraries() -> None:
    done = python(ROOT, "-c", LISTS)
    assert done.stdout.strip() == "catboost lightgbm logistic mlp random_forest xgboost 11 []", done.stderr
