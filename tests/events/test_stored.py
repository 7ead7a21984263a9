"""Events on disk are the same events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import DataError
from higgsbench.events import Events, load_events, read, table
from higgsbench.events import cache as stored
from higgsbench.events.cache import StoredEvents
from higgsbench.events.formats import write_events
from higgsbench.events.read import open_events
from higgsbench.events.simulate import SimulationSettings, write_simulated


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a thousand events many parts."""
    monkeypatch.setattr(stored, "BATCH", 300)
    monkeypatch.setattr(table, "BATCH", 300)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulated(SimulationSettings(events=1000, seed=4), tmp_path_factory.mktemp("toys") / "toys.csv")


def in_both_ways(file: Path) -> tuple[Events, StoredEvents]:
    streamed = open_events(file, large=0)
    assert isinstance(streamed, StoredEvents)
    return load_events(file, cache=False), streamed


def same(a: Events, b: Events) -> None:
    assert a.digest == b.digest
    assert len(a) == len(b)
    assert pl.concat(list(b.batches())).equals(a.frame)
    for name in ("y", "weight", "event_id", "group", "subset"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert b.lazy().collect().equals(a.frame)
    assert (a.totals(), a.labelled, a.simulated) == (b.totals(), b.labelled, b.simulated)


def test_same_parts_of_the_content(toys: Path) -> None:
    memory, disk = in_both_ways(toys)
    chosen = memory.in_subsets(["t"])
    same(memory.take(chosen), disk.take(chosen))
    again = np.arange(0, int(chosen.sum()), 7)
    same(memory.take(chosen).take(again), disk.take(chosen).take(again))
    rows = np.random.default_rng(1).permutation(int(chosen.sum()))[:50]
    assert disk.take(chosen).part(rows).equals(memory.take(chosen).part(rows))


def test_measured_columns_stay_on_disk(toys: Path) -> None:
    _, disk = in_both_ways(toys)
    assert disk.frame.columns == ["EventId", "PRI_jet_num", "Weight", "Label", "KaggleSet", "KaggleWeight"]


def test_second_time_from_the_cache(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_events(toys, large=0)
    monkeypatch.setattr(read, "_convert", lambda *_: pytest.fail("parsed again"))
    assert open_events(toys, large=0).digest == first.digest


def test_the_cache_of_load_events_serves_both(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_events(toys)
    monkeypatch.setattr(read, "_convert", lambda *_: pytest.fail("parsed again"))
    same(loaded, open_events(toys, large=0))


def test_a_cache_that_cannot_be_written(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "file"))
    events = open_events(toys, large=0)
    assert isinstance(events, StoredEvents)
    folder = events.table.parent
    same(load_events(toys, cache=False), events)
    del events
    assert not folder.exists()


def test_a_repeated_number_in_a_later_part(toys: Path, tmp_path: Path) -> None:
    frame = load_events(toys, cache=False).frame
    twice = write_events(pl.concat([frame, frame[3:4]]), tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"row 1001, column EventId: .* occurs already in row 4;"):
        open_events(twice, large=0)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() or p.name.startswith(".tmp")]


def test_damage_while_in_use(toys: Path) -> None:
    events = open_events(toys, large=0)
    assert isinstance(events, StoredEvents)
    events.table.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="damaged while it was in use"):
        list(events.batches())
