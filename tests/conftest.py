from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

from higgsbench.cli.main import main
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.metrics import evaluation_weights
from higgsbench.schema import N_B, N_S
from higgsbench.validation import fold_assignments

# Tests of benchmarks import them; last in the path, so that the installed package comes first.
sys.path.append(str(Path(__file__).parents[1]))

Call: TypeAlias = Callable[..., tuple[int, str, str]]
MakeRun = Callable[..., Path]

# A busy machine may take seconds over one example.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def no_given_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables have the width of a pipe, whatever the terminal that runs the tests."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of simulated events."""
    return write_simulated(SimulationSettings(events=1600, seed=2), tmp_path_factory.mktemp("toys") / "toys.csv")


@pytest.fixture
def call(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Call:  # fmt: skip
    """Call the command line in an empty folder; returns exit code, output, errors."""
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main([str(a) for a in args])
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a finished run by hand: models see the same events through noise of the given size."""

    def make(
        name: str, noises: dict[str, float], *, n: int = 3000, first: int = 100, repeats: int = 1, **shared: Any
    ) -> Path:
        folder = tmp_path / "results" / name
        (folder / "units").mkdir(parents=True)
        ids = np.arange(first, first + n)
        events = [np.random.default_rng(int(i)) for i in ids]  # an event is the same in every run
        draws = np.array([[g.random(), g.normal(), g.gamma(2.0)] for g in events])
        y = draws[:, 0] < 0.35
        latent = draws[:, 1] + 2.0 * y
        weight = evaluation_weights(y, draws[:, 2], N_S, N_B)
        fold = fold_assignments(y, None, 3, repeats, 1)
        order = np.random.default_rng(1).permutation(n)
        columns: dict[str, Any] = {
            "EventId": np.tile(ids[order], repeats),
            "signal": np.tile(y[order], repeats),
            "weight": np.tile(weight[order], repeats),
            "repeat": np.repeat(np.arange(repeats, dtype=np.int32), n),
            "fold": fold[:, order].ravel().astype(np.int32),
        }
        rows = []
        for model, noise in noises.items():
            rng = np.random.default_rng(sum(map(ord, model)))
            score = np.log(N_S / N_B) + 2.0 * (latent + noise * rng.normal(size=n)) - 2.0
            columns[f"score:{model}"] = np.tile(score[order], repeats)
            rows.append(
                {
                    "name": model, "label": model.split(" ")[0], "variant": "global", "status": "ok", "digest": model,
                    "ams_cv": 3.0, "ams_cv_se": 0.1, "auc": 0.9, "auc_se": 0.01, "log_loss": 0.01, "fraction": 0.1,
                    "s": 1.0, "b": 1.0, "cut_rule": "smooth", "threshold": -3.0, "cut_fraction": 0.1,
                }
            )  # fmt: skip
        pl.DataFrame(columns).write_parquet(folder / "scores.parquet")
        comparability = {
            "data": f"{first}-{n}", "layout": "atlas-higgs-2014", "simulated": False, "events": n, "test_events": 0,
            "repeats": repeats, "n_s": N_S, "n_b": N_B, "b_reg": 10.0,
        }  # fmt: skip
        content = {"run": name, "comparability": {**comparability, **shared}, "source": "toys", "rows": rows}
        (folder / "rows.json").write_text(json.dumps(content))
        return folder

    return make
