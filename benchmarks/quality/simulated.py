"""The ladder and the learning curve on 250,000 simulated events, with the time and memory of each fit."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import ROOT, band_ams
from benchmarks.quality.ladder import write_section
from higgsbench.events.simulate import SimulationSettings, simulated_events
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.metrics import evaluation_weights, paired_difference, roc_auc
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator, log_odds_reader
from higgsbench.schema import N_B, N_S
from higgsbench.validation.physical import PhysicalClassifier

SIZES = (3_000, 10_000, 30_000, 100_000, 250_000)
TEST = 100_000
JOBS = 2
CORE = ("xgboost best", "lightgbm best", "catboost best", "mlp best")
STEPS: dict[str, tuple[str, str, str, str]] = {
    "xgboost raw": ("xgboost", "good", "raw", "balanced"),
    "xgboost canonical": ("xgboost", "good", "canonical", "balanced"),
    "xgboost physics": ("xgboost", "good", "physics", "balanced"),
    "xgboost physics sqrt": ("xgboost", "good", "physics", "sqrt_balanced"),
    **{f"{name} best": (name, "best", "", "") for name in ("xgboost", "lightgbm", "catboost", "mlp", "torch_mlp")},
}
"""Row: model, preset, features and training weights; empty if the preset decides."""

CURVE = ("xgboost raw", *CORE)
"""Rows of the learning curve."""


def main(output: Path, torch: bool) -> None:
    """Fit every step in a separate process, two at a time, to measure its peak memory; write the section.

    Stored fits are not repeated; incomplete sizes are left out of the table.
    """
    output.mkdir(parents=True, exist_ok=True)
    names = [name for name in STEPS if torch or not name.startswith("torch")]
    _save_matrices(output, names)
    wanted = [(name, size) for size in SIZES for name in names if size == SIZES[-1] or name in CURVE]
    missing = [(name, size) for name, size in wanted if not _file(output, name, size).with_suffix(".json").is_file()]
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda step: _in_process(output, *step), missing))
    write_section("simulated", _tables(output, names))


def _in_process(output: Path, name: str, size: int) -> None:
    command = [sys.executable, "-m", "benchmarks.quality.simulated", str(output), name, str(size)]
    subprocess.run(command, check=True, cwd=ROOT)


def _features(name: str) -> str:
    model, preset, features, _ = STEPS[name]
    return features or get_model(model).preset(preset).features or "raw"


def _save_matrices(output: Path, names: list[str]) -> None:
    """Evaluate each set of features once; the fits map the matrices into memory."""
    for kind in ("train", "test"):
        events = _events(kind)
        for features in {_features(name) for name in names}:
            target = output / f"X-{kind}-{features}.npy"
            if not target.is_file():
                np.save(target, feature_matrix(events.frame, resolve_features(events.schema, name=features)))
        np.save(output / f"y-{kind}.npy", events.y)
        np.save(output / f"w-{kind}.npy", events.weight)


def _file(output: Path, name: str, size: int) -> Path:
    return output / f"{name.replace(' ', '-')}-{size}.npy"


def _events(kind: str) -> Any:
    seed, events = (1, SIZES[-1]) if kind == "train" else (2, TEST)
    return simulated_events(SimulationSettings(events=events, seed=seed, set_proportions={"t": 1.0}), jobs=2)


def fit_one(output: Path, name: str, size: int) -> None:
    """Fit one step on the first events of the training file and store its scores for the test events."""
    import psutil

    model, preset, _, weights = STEPS[name]
    spec, settings = get_model(model), get_model(model).preset(preset)
    X, y, w = _matrix(output, "train", _features(name), size)
    held_out, _, _ = _matrix(output, "test", _features(name), TEST)
    before = psutil.Process().memory_info().rss
    context = BuildContext(seed=42, threads=1)
    estimator = PhysicalClassifier(
        build_estimator(spec, settings.params, context),
        training_weights=weights or settings.training_weights or "balanced",
        log_odds=log_odds_reader(spec, settings.params),
    )
    begin = time.perf_counter()
    estimator.fit(X, y.astype(int), sample_weight=w)
    fitted = time.perf_counter()
    scores = estimator.decision_function(held_out)
    spent = {"fit": fitted - begin, "predict": time.perf_counter() - fitted}
    peak = _peak_mb() - before / 1e6
    np.save(_file(output, name, size), scores)
    _file(output, name, size).with_suffix(".json").write_text(json.dumps({**spent, "peak_mb": peak}))


def _peak_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def _matrix(
    output: Path, kind: str, features: str, size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    X = np.array(np.load(output / f"X-{kind}-{features}.npy", mmap_mode="r")[:size])
    y, w = (np.load(output / f"{name}-{kind}.npy")[:size] for name in "yw")
    return X, y, evaluation_weights(y, w, N_S, N_B)


def _tables(output: Path, names: list[str]) -> list[str]:
    _, y, w = _matrix(output, "test", "raw", TEST)
    sizes = [n for n in SIZES if all(_file(output, name, n).with_suffix(".json").is_file() for name in CURVE)]
    whole = [n for n in names if _file(output, n, SIZES[-1]).with_suffix(".json").is_file()]
    ladder = sizes[-1]
    names = whole if ladder == SIZES[-1] else [name for name in names if name in CURVE]
    lines = [
        f"Toy simulation; trained on the first n events, scored on {TEST:,} others; one thread per fit, {JOBS} fits"
    ]
    lines += ["at a time.", "", f"The ladder at {ladder:,} events:", ""]
    lines += ["| row | wAUC | Δ | AMS at 10-20% | fit s | score s | peak MB |", "|---|---|---|---|---|---|---|"]
    pools = {**{n: (n,) for n in names}, "core recipe": CORE}
    if "torch_mlp best" in names:
        pools["core recipe with torch"] = (*CORE, "torch_mlp best")
    start = roc_auc(y, np.load(_file(output, "xgboost raw", ladder)), w)
    for name, members in pools.items():
        score, cost = _pooled(output, members, ladder)
        auc = roc_auc(y, score, w)
        gain, error = paired_difference(auc, start)
        lines.append(
            f"| {name} | {auc.value:.4f} | {gain:+.4f} ± {error:.4f} | {band_ams(y, score, w):.3f} | "
            f"{cost['fit']:.0f} | {cost['predict']:.1f} | {cost['peak_mb']:.0f} |"
        )
    lines += ["", "Learning curve: weighted AUC (fit time in seconds):", ""]
    curve = {n: m for n, m in pools.items() if n in CURVE or n == "core recipe"}
    lines += ["| row | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|---|" + "---|" * len(sizes)]
    for name, members in curve.items():
        cells = []
        for size in sizes:
            score, cost = _pooled(output, members, size)
            cells.append(f"{roc_auc(y, score, w).value:.4f} ({cost['fit']:.0f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _pooled(output: Path, members: tuple[str, ...], size: int) -> tuple[NDArray[np.float64], dict[str, float]]:
    files = [_file(output, name, size) for name in members]
    costs = [json.loads(f.with_suffix(".json").read_text()) for f in files]
    total = {key: sum(c[key] for c in costs) for key in ("fit", "predict")}
    mean: NDArray[np.float64] = np.mean([np.load(f) for f in files], axis=0)
    return mean, {**total, "peak_mb": max(c["peak_mb"] for c in costs)}


if __name__ == "__main__":
    fit_one(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
