"""Python functions say what the commands say: notes and warnings by logging, progress if asked, and nothing else."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import higgsbench
from higgsbench import ModelSpec, models
from higgsbench.api.progress import Progress
from higgsbench.events.simulate import SimulationSettings, write_simulated

ROOT = Path(__file__).parents[1]
EVERYTHING = """
import logging
import numpy as np
import higgsbench
from higgsbench.api import running

logging.getLogger("higgsbench").setLevel(logging.WARNING)
higgsbench.load_events("toys.csv")
config = {"data": {"path": "toys.csv"}, "models": ["logistic", "lightgbm"], "preset": "quick", "folds": 2}
config["models"][1] = {"model": "lightgbm", "params": {"n_estimators": 10}}
running.resolve_config(config)
running.plan_run(config, jobs=1)
result = higgsbench.run(config, jobs=1, progress=True)
print(result, result._repr_html_()[:0])
board = higgsbench.Leaderboard.read(result.folder)
print(board.render("markdown"), board._repr_html_()[:0])
print(higgsbench.members(result), higgsbench.compare_models(result, replicas=50), higgsbench.stats(result))
higgsbench.predict(result, "toys.csv", jobs=1, progress=True)
submission = higgsbench.submission(result, "toys.csv", jobs=1, progress=True)
higgsbench.score(submission, "toys.csv")
higgsbench.export_native(result, "native", model="lightgbm")
"""

OPTIONAL = {
    "optuna": 'higgsbench.tune_model(config, "lightgbm", trials=2, outer=0, inner=2, progress=True)',
    "mplhep": 'higgsbench.write_report(result, "report.html")',
    "onnx": 'higgsbench.export_onnx(result, "model.onnx")',
}
"""Functions that need an extra, by its module."""

Config = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("says")
    write_simulated(SimulationSettings(events=4000, seed=4), folder / "toys.csv")
    return folder


@pytest.fixture
def config(place: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    models.registered_models()
    monkeypatch.setattr(models._MODELS, "_records", dict(models._MODELS._records))

    def make(*entries: Any, **more: Any) -> dict[str, Any]:
        return {
            "data": {"path": str(place / "toys.csv")},
            "models": list(entries),
            "folds": 2,
            "preset": "quick",
            **more,
        }

    return make


def test_a_good_run_warns_of_nothing(place: Path) -> None:
    """Under `python -W error`, which also makes warnings of libraries errors."""
    lines = [text for module, text in OPTIONAL.items() if importlib.util.find_spec(module)]
    code = "\n".join([EVERYTHING, *lines])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[4/4, " in done.stderr, "progress of the run"
    assert "toys.csv: 4,000 events scored in" in done.stderr
    assert "Warning" not in done.stderr


def test_failures_and_losses_are_logged(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from sklearn.naive_bayes import GaussianNB

    class Broken(GaussianNB):  # type: ignore[misc]  # scikit-learn has no types
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            raise RuntimeError("no luck")

    higgsbench.register_model(ModelSpec("broken", Broken()))
    with caplog.at_level(logging.INFO, "higgsbench"):
        result = higgsbench.run(config("logistic", "broken"), output=tmp_path, jobs=1)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said[0].startswith("broken: its scores are stored, its fitted models are not")
    assert said[1:] == [f"broken failed: RuntimeError: no luck (traceback in {f.path})" for f in result.failures]
    caplog.clear()
    with caplog.at_level(logging.INFO, "higgsbench"):
        higgsbench.run(config("logistic", "broken"), output=tmp_path, jobs=1)
    assert "2 units failed before and will not be trained again; use --retry-failed to do so" in caplog.messages


def test_few_events_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    few = {"data": {"source": "simulated", "events": 400, "seed": 1}, "models": ["logistic"], "preset": "quick"}
    higgsbench.run(few, output=tmp_path, jobs=1)
    assert any("a fold holds only" in r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_on_a_screen(config: Config, tmp_path: Path, terminal: bool) -> None:
    stream = io.StringIO()
    with Progress(Console(file=stream, force_terminal=terminal, width=100)) as progress:
        higgsbench.run(config("logistic"), output=tmp_path, jobs=1, listener=progress)
    text = stream.getvalue()
    assert ("[2/2," in text) != terminal
    assert "already stored" in text


@pytest.mark.parametrize("progress", [3, "yes"])
def test_progress_is_a_switch(config: Config, progress: Any) -> None:
    with pytest.raises(higgsbench.HiggsbenchError, match="run: progress: expected True or False"):
        higgsbench.run(config("logistic"), progress=progress)
