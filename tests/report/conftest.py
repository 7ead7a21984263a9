from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import ModelError, StoreError
from higgsbench.events import load_events
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.inference.events import reload_events
from higgsbench.metrics import evaluation_weights, log_loss, measure_processes, processes_of, roc_auc
from higgsbench.metrics.ams import ams_scan
from higgsbench.pages.drawing import Pictures
from higgsbench.report import render_report
from higgsbench.report.context import Context
from higgsbench.runs import find_run
from higgsbench.runs.predictor import FittedRun
from higgsbench.schema import N_B, N_S

ROWS = (
    ("alpha", "alpha", "global", 2.2),
    ("alpha [jets]", "alpha", "jets", 1.6),
    ("stack", "stack", "nonnegative", 2.4),
)
REPEATS = 2
ENVIRONMENT = {"python": "3.11", "cores": 2, "packages": {"numpy": "2.0"}}

Make = Callable[..., Path]


class Sum:
    """Scores that depend on some columns only."""

    def __init__(self, name: str = "sum", **factors: float) -> None:
        self.name = name
        self.factors = factors

    def scores(self, frame: pl.DataFrame) -> np.ndarray[Any, Any]:
        columns: list[Any] = [factor * frame[name].fill_null(0.0).to_numpy() for name, factor in self.factors.items()]
        return np.asarray(np.sum(columns, axis=0), dtype=np.float64)


class ToyModels(FittedRun):
    """Models of the rows without any: what they score depends on one mass, and trees are `trees` only.

    `refit` says that they have seen all training events; `absent` names rows without a model.
    """

    def __init__(self, *, refit: bool = False, absent: tuple[str, ...] = (), trees: str = "alpha [jets]") -> None:
        self.refit, self.absent, self.trees = refit, absent, trees
        self.asked: list[str] = []

    def _check(self, name: str) -> None:
        self.asked.append(name)
        if name in self.absent:
            raise StoreError(f"no model of <{name}>")

    def in_sample(self, name: str, frame: pl.DataFrame, event_id: Any) -> Any:
        self._check(name)
        assert frame["EventId"].to_list() == event_id.tolist()
        return Sum(DER_mass_MMC=0.01).scores(frame) - 8.0

    def blended(self, scores: Any) -> Any:
        return None if set(scores) < {"alpha", "alpha [jets]"} else np.mean(list(scores.values()), axis=0)

    def unseen(self, name: str, event_id: Any) -> Any:
        self._check(name)
        if self.refit:
            raise StoreError("have seen all training events")
        return Sum(name, DER_mass_MMC=0.01).scores

    def held_out(self, name: str | None = None, *, all_members: bool = False) -> Any:
        self._check(str(name))
        return Sum(str(name), DER_mass_vis=0.01)

    def contributions(self, name: str, frame: pl.DataFrame, event_id: Any) -> tuple[tuple[str, ...], Any, Any]:
        self._check(name)
        if name != self.trees:
            raise ModelError(f"{name} is not boosted trees")
        columns = ("DER_mass_MMC", "DER_mass_vis")
        values = frame.select(columns).cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return columns, values, (np.nan_to_num(values) - 100.0) * [-0.001, 0.02]


def log_odds(y: np.ndarray[Any, Any], strength: float, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Scores that are calibrated log-odds: two Gaussians a distance apart."""
    x = rng.normal(size=y.size) + strength * y
    return np.asarray(strength * x - 0.5 * strength**2 + np.log(N_S / N_B))


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated events of all sets."""
    settings = SimulationSettings(events=4000, seed=5, set_proportions={"t": 2, "v": 1})
    return write_simulated(settings, tmp_path_factory.mktemp("toys") / "toys.csv")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build figures but do not draw them: that takes ten times as long as all the rest."""
    monkeypatch.setattr("higgsbench.pages.drawing.svg_text", lambda figure: "<svg/>")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def record(name: str, label: str, variant: str, y: Any, w: Any, score: Any) -> dict[str, Any]:
    curve = ams_scan(y, score, w)
    at = int(np.searchsorted(curve.fraction, 0.15))
    auc, loss = roc_auc(y, score, w), log_loss(y, score, w)
    return {
        "name": name, "label": label, "variant": variant, "model": label, "status": "ok", "digest": f"{name}-fits",
        "ams_cv": float(curve.ams[at]), "ams_cv_se": 0.1, "ams_oof_max": float(np.nanmax(curve.ams)),
        "ams_oof_max_se": 0.2, "auc": auc.value, "auc_se": auc.se, "log_loss": loss.value, "log_loss_se": loss.se,
        "fraction": float(curve.fraction[at]), "cut_fraction": 0.15, "cut_rule": "smooth", "seed": 42,
        "threshold": float(curve.threshold[at]), "s": float(curve.s[at]), "b": float(curve.b[at]), "features": "raw",
        "fit_seconds": 10.0 + len(name), "predict_us": 3.0, "peak_mb": 100.0,
        "ams_private": float(curve.ams[at]) - 0.1, "ams_private_se": 0.2,
    }  # fmt: skip


@pytest.fixture
def make(tmp_path: Path, toys: Path) -> Make:
    return partial(write_run, tmp_path, toys)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory, toys: Path) -> str:
    """The page of a run, drawn once for all tests that read or look at it."""
    pytest.importorskip("mplhep", reason="needs the extra 'report'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
        folder = write_run(tmp_path_factory.mktemp("drawn"), toys)
        return draw(folder, models=ToyModels())


def draw(
    folder: Path, pictures: Pictures | None = None, data: Path | None = None, test: Path | None = None, **how: Any
) -> str:
    """Return the page of the run in a folder."""
    run = find_run(folder)
    return render_report(Context(run, reload_events(run, data, test), pictures or Pictures(), **how))


def write_run(
    place: Path,
    toys: Path,
    folder: str = "toy-run",
    *,
    data: Path | None = None,
    test: bool = True,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Write a run by hand, as `higgsbench run` leaves it.

    `test` says whether there are held-out scores, `change` edits rows.json.
    """
    target = place / "results" / folder
    (target / "units").mkdir(parents=True)
    events = load_events(toys)
    parts = {name: events.take(np.flatnonzero(events.in_subsets([name]))) for name in ("t", "v")}
    train, held_out = parts["t"], parts["v"]
    y, w = train.y, evaluation_weights(train.y, train.weight, N_S, N_B)
    rng = np.random.default_rng(3)
    scores = {n: np.stack([log_odds(y, k, rng) for _ in range(REPEATS)]) for n, _, _, k in ROWS}
    tested = {n: log_odds(held_out.y, k, rng) for n, _, _, k in ROWS}
    rows = [record(n, label, variant, y, w, scores[n][0]) for n, label, variant, _ in ROWS]
    processes = processes_of(train.process, y, w)
    assert processes is not None
    for row in rows:
        own = scores[row["name"]]
        for process, found in measure_processes(processes, own, own >= row["threshold"], w).items():
            row.update(found.record(process))
    rows.append({"name": "broken", "label": "broken", "variant": "global", "status": "failed", "digest": "x",
                 "error": "out of <memory>"})  # fmt: skip
    frame = {"EventId": np.tile(train.event_id, REPEATS), "signal": np.tile(y, REPEATS),
             "weight": np.tile(w, REPEATS), "repeat": np.repeat(np.arange(REPEATS, dtype=np.int32), y.size),
             "fold": np.tile((np.arange(y.size) % 3).astype(np.int32), REPEATS),
             "process": np.tile(processes.by_event, REPEATS)}  # fmt: skip
    pl.DataFrame(frame | {f"score:{n}": s.ravel() for n, s in scores.items()}).write_parquet(target / "scores.parquet")
    if test:
        columns = {"EventId": held_out.event_id} | {f"score:{n}": s for n, s in tested.items()}
        pl.DataFrame(columns).write_parquet(target / "test_scores.parquet")
    noise = {f"{m}:{r['name']}": r[m] + 0.1 * rng.normal(size=50) for r in rows[:-1] for m in ("ams_cv", "auc")}
    pl.DataFrame(noise).write_parquet(target / "replicas.parquet")
    members = [{"name": n, "weight": 0.5, "weight_mean_over_folds": 0.4, "weight_sd_over_folds": 0.1}
               for n, label, _, _ in ROWS if label != "stack"]  # fmt: skip
    stack = {"method": "nonnegative", "intercept": 0.0, "prior": 0.0, "members": members}
    (target / "stack.json").write_text(json.dumps(stack))
    (target / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (target / "config.yaml").write_text(
        f"name: toy\ndata: {{source: file, path: {data or toys}, train_sets: [t], test_sets: [v]}}\n"
        "models: [{model: alpha}]  # <script>alert(1)</script>\n"
    )
    content = {"run": folder, "source": str(toys), "rows": rows, "comparability": {
        "data": train.digest, "test": held_out.digest if test else None, "layout": "atlas-higgs-2014",
        "simulated": True, "events": len(train), "test_events": len(held_out) if test else 0, "folds": 3,
        "repeats": REPEATS, "fold_digest": "f" * 64, "n_s": N_S, "n_b": N_B, "b_reg": 10.0, "metrics_version": 3,
    }}  # fmt: skip
    if change is not None:
        change(content)
    (target / "rows.json").write_text(json.dumps(content))
    return target
