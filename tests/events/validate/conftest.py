from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from higgsbench.events import load_events
from higgsbench.events.simulate import SimulationSettings, simulate
from higgsbench.schema import FEATURES


@pytest.fixture(scope="session")
def toys() -> pl.DataFrame:
    """4,000 simulated events, missing values null; read only."""
    frame = simulate(SimulationSettings(events=4_000, seed=11))
    measured = [name for name in FEATURES if name != "PRI_jet_num"]
    return frame.with_columns(pl.when(pl.col(measured) != -999.0).then(pl.col(measured)))


@pytest.fixture(scope="session")
def sample(real_sample: Path) -> pl.DataFrame:
    return load_events(real_sample, cache=False).frame
