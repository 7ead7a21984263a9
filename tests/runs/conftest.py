from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import higgsbench
from higgsbench import models
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.runs import RunResult
from higgsbench.runs.run import Listener

Config = Callable[..., Path]
Register = Callable[..., None]

SMALL = """
data: {{source: file, path: {data}}}
models:
  - {{model: logistic, preset: quick}}
  - {{model: lightgbm, params: {{n_estimators: 15, num_leaves: 7}}}}
jet_split: both
folds: 3
seed: 5
"""


class Notes(Listener):
    """Keeps the notes of a run, and counts its fits."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.fits = 0

    def note(self, text: str) -> None:
        self.lines.append(text)

    warn = note

    def started(self, row: str, repeat: int, fold: int) -> None:
        self.fits += 1


def scores(result: RunResult, name: str = "scores.parquet") -> pl.DataFrame:
    return pl.read_parquet(result.folder / name)


@pytest.fixture
def registered(own_models: None) -> Register:
    """Register models for one test."""

    def register(name: str, build: Callable[..., Any], **more: Any) -> None:
        higgsbench.register_model(models.ModelSpec(name, build, **more))

    return register


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache; one cache for the session keeps them fast."""
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated events of all three KaggleSets."""
    return write_simulated(SimulationSettings(events=2400, seed=3), tmp_path_factory.mktemp("toys") / "toys.csv")


@pytest.fixture(scope="session")
def training_only(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training events alone, in Kaggle's layout."""
    target = tmp_path_factory.mktemp("training") / "training.csv"
    pl.read_csv(toys).filter(pl.col("KaggleSet") == "t").drop("KaggleSet", "KaggleWeight").write_csv(target)
    return target


@pytest.fixture
def config(tmp_path: Path, training_only: Path) -> Callable[..., Path]:
    """Write a small configuration; keyword arguments are appended as further keys."""

    def write(text: str = SMALL, data: Path | None = None, **more: str) -> Path:
        target = tmp_path / "small.yaml"
        lines = text.format(data=data or training_only) + "".join(f"{k}: {v}\n" for k, v in more.items())
        target.write_text(lines)
        return target

    return write


@pytest.fixture(scope="session")
def whole(training_only: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run of the small configuration, which no test changes."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(SMALL.format(data=training_only))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
        return higgsbench.run(folder / "small.yaml", output=folder, jobs=1)


@pytest.fixture
def own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the models that a test registers when it is over."""
    models.model_names()  # loads those that the package and others offer
    monkeypatch.setattr(models._MODELS, "_records", dict(models._MODELS._records))
