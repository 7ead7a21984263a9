from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from higgsbench.events import load_events, normalised
from higgsbench.events.simulate import SimulationSettings, simulate
from higgsbench.schema import ATLAS_HIGGS

REAL_SAMPLE = Path(__file__).parents[2] / "../shared/data/atlas-higgs-challenge-2014-v2-sample.csv.gz"


@pytest.fixture(scope="session")
def real_sample() -> Path:
    if not REAL_SAMPLE.is_file():
        pytest.skip("the sample of real events (../shared/data) is not there")
    return REAL_SAMPLE


@pytest.fixture(scope="session")
def real_events(real_sample: Path) -> pl.DataFrame:
    return pl.read_csv(real_sample, infer_schema_length=None)


@pytest.fixture(scope="session")
def simulated_events() -> pl.DataFrame:
    """20,000 events with the truth column `process`; read only."""
    return simulate(SimulationSettings(events=20_000, seed=7), truth=True)


@pytest.fixture(scope="session")
def toys() -> pl.DataFrame:
    """4,000 simulated events, missing values null; read only."""
    return normalised(simulate(SimulationSettings(events=4_000, seed=11)), ATLAS_HIGGS)


@pytest.fixture(scope="session")
def sample(real_sample: Path) -> pl.DataFrame:
    return load_events(real_sample, cache=False).frame
