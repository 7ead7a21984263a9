from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from higgsbench.events.simulate import SimulationSettings, write_simulated


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache."""
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulated(SimulationSettings(events=2400, seed=3), tmp_path_factory.mktemp("toys") / "toys.csv")


@pytest.fixture
def config(tmp_path: Path, toys: Path) -> Callable[..., Path]:
    def write(**more: str) -> Path:
        target = tmp_path / "small.yaml"
        keys = "".join(f"{key}: {value}\n" for key, value in more.items())
        target.write_text(f"data: {{path: {toys}}}\nmodels: [{{model: logistic, preset: quick}}]\nfolds: 3\n{keys}")
        return target

    return write
