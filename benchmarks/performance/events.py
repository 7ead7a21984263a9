"""Event files and configurations of the suite: simulated, so that everybody measures the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.events.simulate import SimulationSettings, write_simulated

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SIX", "six_models", "training_events"]

SIX = ("logistic", "random_forest", "catboost", "xgboost", "lightgbm", "mlp")


def training_events(events: int, folder: Path, ending: str = ".parquet") -> Path:
    """Write simulated events of the training set, unless they are there; return the file."""
    file = folder / f"training-{events}{ending}"
    if not file.is_file():
        write_simulated(SimulationSettings(events=events, seed=7, set_proportions={"t": 1.0}), file, jobs=2)
    return file


def six_models(data: Path, folds: int, *, preset: str = "good", jet_split: str = "none", seed: int = 42) -> str:
    """Return a configuration of the six models and their stack on a file."""
    lines = [f"data: {{source: file, path: {data}}}", f"models: [{', '.join(SIX)}]", f"preset: {preset}"]
    lines += [f"jet_split: {jet_split}", f"folds: {folds}", f"seed: {seed}", "training_weights: balanced"]
    return "\n".join([*lines, "features: raw", "stack: nonnegative", ""])
