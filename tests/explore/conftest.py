from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from higgsbench.explore import explore
from higgsbench.explore.result import Exploration
from higgsbench.schema import TableSchema

SAMPLE = Path(__file__).parents[2] / ".." / "shared" / "data" / "atlas-higgs-challenge-2014-v2-sample.csv.gz"

TOY = TableSchema(
    name="toy",
    features=("x", "y", "k"),
    label="truth",
    signal="1",
    background="0",
    weight="w",
    group="k",
    integers=frozenset({"k"}),
    missing=-999.0,
    subset="part",
    subset_values=("t", "v"),
)


def toy_frame(n: int = 3000, seed: int = 3) -> pl.DataFrame:
    """Events of the toy layout with missing y where k is 0, as a file holds them."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    k = rng.integers(0, 3, n)
    x = np.round(rng.normal(np.where(truth, 1.0, 0.0), 1.0), 3)
    y = np.where(k == 0, -999.0, np.round(0.6 * x + rng.normal(size=n), 3))
    w = rng.uniform(0.1, 2.0, n) * np.where(truth, 0.01, 1.0)
    part = np.where(rng.random(n) < 0.7, "t", "v")
    return pl.DataFrame({"x": x, "y": y, "k": k, "w": w, "truth": truth.astype(int).astype(str), "part": part})


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame]:
    """A file and what it holds."""
    frame = toy_frame()
    path = tmp_path_factory.mktemp("toy") / "toy.csv"
    frame.write_csv(path)
    return path, frame


@pytest.fixture(scope="session")
def toy_found(toy: tuple[Path, pl.DataFrame]) -> Exploration:
    return explore(toy[0], schema=TOY)


@pytest.fixture(scope="session")
def sample_file() -> Path:
    if not SAMPLE.exists():
        pytest.skip("needs the sample of real events beside the checkout (shared/data)")
    return SAMPLE


@pytest.fixture(scope="session")
def sample_found(sample_file: Path) -> Exploration:
    return explore(sample_file)
