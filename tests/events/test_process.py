"""The process of each event: from a column, or recognised by the weights of the challenge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from higgsbench.errors import DataError
from higgsbench.events import Events, load_events
from higgsbench.schema import ATLAS_HIGGS, SCHEMAS, TableSchema

WEIGHTS = Path(__file__).parents[2] / "../shared/data/higgsml-training-labels-weights.parquet"
COUNTS = {"ggF": 32_352, "VBF": 38_552, "VH": 14_763, "Z": 49_750, "ttbar": 10_351, "W": 104_232}
YIELDS = {"ggF": 602.92, "VBF": 57.93, "VH": 31.14, "Z": 45_568.7, "ttbar": 7_701.7, "W": 357_729.4}


@pytest.fixture(scope="session")
def training() -> Events:
    """Labels and weights of all 250,000 training events."""
    if not WEIGHTS.is_file():
        pytest.skip("the labels and weights of the training events (../shared/data) are not there")
    return Events(pl.read_parquet(WEIGHTS).with_columns(pl.col("Label").cast(pl.String)), ATLAS_HIGGS, "training")


def process(events: Events) -> pl.Series:
    found = events.process
    assert found is not None
    return found


@pytest.mark.parametrize("without", ["Weight", "KaggleWeight"])
def test_all_training_events_have_the_known_processes(training: Events, without: str) -> None:
    events = replace(training, frame=training.frame.drop(without))
    table = training.frame.with_columns(process(events).alias("process")).group_by("process")
    found = table.agg(pl.len(), pl.col("KaggleWeight").sum()).rows_by_key("process", named=True, unique=True)
    assert {name: row["len"] for name, row in found.items()} == COUNTS
    assert {name: row["KaggleWeight"] for name, row in found.items()} == pytest.approx(YIELDS, rel=1e-4)


@pytest.mark.parametrize("n", [200, 2000, 15_000])
def test_parts_of_the_training_events_have_the_processes_of_the_whole(training: Events, n: int) -> None:
    frame = training.frame.with_columns(process(training).alias("true"))
    for seed in range(3):
        part = frame.sample(n, seed=seed)
        assert process(Events(part.drop("true"), ATLAS_HIGGS, "part")).equals(part["true"])


def test_the_sample_has_the_processes_of_its_event_numbers(training: Events, real_sample: Path) -> None:
    known = training.frame.select("EventId").with_columns(process(training).alias("true"))
    sample = load_events(real_sample, cache=False)
    joined = sample.frame.select("EventId").join(known, on="EventId", how="left", maintain_order="left")
    assert process(sample).equals(joined["true"])


def test_the_toy_knows_its_processes(simulated_events: pl.DataFrame) -> None:
    events = Events(simulated_events.drop("process"), ATLAS_HIGGS, "toy")
    assert process(events).equals(simulated_events["process"])  # four sets: KaggleWeight alone would mislead
    one = simulated_events.filter(pl.col("KaggleSet") == "t")
    assert process(Events(one.drop("process", "Weight"), ATLAS_HIGGS, "toy")).equals(one["process"])


def test_other_weights_and_layouts_have_no_processes(simulated_events: pl.DataFrame) -> None:
    frame = simulated_events.filter(pl.col("KaggleSet") == "t").drop("process", "KaggleWeight")
    rescaled = frame.with_columns(pl.col("Weight").sqrt())
    assert Events(rescaled, ATLAS_HIGGS, "toy").process is None
    assert Events(frame.drop("Weight"), ATLAS_HIGGS, "toy").process is None
    assert Events(frame.drop("Label"), ATLAS_HIGGS, "toy").process is None
    assert Events(frame, replace(ATLAS_HIGGS, name="other"), "toy").process is None


def test_a_column_names_the_process() -> None:
    schema = TableSchema("own", ("x",), "y", "1", "0", process="sample")
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0], "y": ["1", "0", "0"], "sample": ["H", "Z", None]})
    assert process(Events(frame, schema, "events.csv")).to_list() == ["H", "Z", "unknown"]
    many = pl.DataFrame({"sample": [str(number) for number in range(300)]})
    with pytest.raises(DataError, match=r"events.csv: column sample has 300 values; a column of process names"):
        _ = Events(many, schema, "events.csv").process
    with pytest.raises(DataError, match=r"events.csv: no column sample, which the layout names as the process"):
        _ = Events(frame.drop("sample"), schema, "events.csv").process
    assert Events(frame.drop("sample"), SCHEMAS["fair-universe"], "events.csv").process is None
