"""The cache of parsed files: used only where sound, rebuilt where not, and never needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import higgsbench.events
from higgsbench.errors import DataError
from higgsbench.events import Events, EventStream, cache, load_events, open_events
from higgsbench.events import table as events_table
from higgsbench.events.cache import StoredEvents, cache_dir, remembered_identity
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.events.write import write_events
from higgsbench.files import content_identity
from higgsbench.schema import ATLAS_HIGGS, FEATURES


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "events"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were truly parsed."""
    seen: list[Path] = []
    original = EventStream.table

    def counting(stream: EventStream) -> pl.DataFrame:
        seen.append(Path(stream.source))
        return original(stream)

    monkeypatch.setattr(EventStream, "table", counting)
    return seen


def events(value: float = 1.0) -> pl.DataFrame:
    columns = {name: [value, -999.0] for name in FEATURES} | {"PRI_jet_num": [0, 2]}
    return pl.DataFrame({"EventId": [1, 2], **columns, "Weight": [1.0, 2.0], "Label": ["s", "b"]})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    events().write_csv(path)
    return path


def test_the_second_reading_comes_from_the_cache(folder: Path, parsed: list[Path], file: Path) -> None:
    first, second = load_events(file), load_events(file)
    assert parsed == [file]
    assert second.digest == first.digest
    assert second.frame.equals(first.frame)
    assert second.frame.schema == first.frame.schema
    assert {p.suffix for p in folder.iterdir()} == {".parquet", ".json"}


def test_content_and_layout_decide_and_the_path_does_not(parsed: list[Path], file: Path) -> None:
    first = load_events(file)
    copy = file.with_name("b.csv")
    copy.write_bytes(file.read_bytes())
    assert load_events(copy).source == str(copy)
    assert parsed == [file]
    assert load_events(file, replace(ATLAS_HIGGS, missing=None)).frame["PRI_met"][1] == -999.0
    events(2.0).write_csv(file)
    second = load_events(file)
    assert len(parsed) == 3
    assert second.digest != first.digest
    assert second.frame["PRI_met"][0] == 2.0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGE: list[tuple[str, str, Callable[[Path], object]]] = [
    ("table cut", ".parquet", cut),
    ("table flipped", ".parquet", flip),
    ("table gone", ".parquet", Path.unlink),
    ("table of others", ".parquet", lambda p: events(7.0).write_parquet(p)),
    ("sidecar cut", ".json", cut),
    ("sidecar gone", ".json", Path.unlink),
    ("sidecar without checksum", ".json", lambda p: p.write_text("{}")),
    ("sidecar no text", ".json", lambda p: p.write_bytes(b"\xff\xfe\x00")),
]


@pytest.mark.parametrize(("ending", "damage"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_a_damaged_entry_is_noticed_and_rebuilt(
    folder: Path, parsed: list[Path], file: Path, ending: str, damage: Callable[[Path], object]
) -> None:
    first = load_events(file)
    (entry,) = folder.glob(f"*{ending}")
    damage(entry)
    second = load_events(file)
    assert len(parsed) == 2
    assert second.frame.equals(first.frame)
    assert second.digest == first.digest
    load_events(file)
    assert len(parsed) == 2, "rebuilt"


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path, parsed: list[Path]
) -> None:
    (tmp_path / "plain file").write_text("")
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "plain file" / "cache"))
    assert load_events(file).digest == load_events(file).digest
    assert len(parsed) == 2


def test_a_full_disk_leaves_no_half_entry(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file: Path, parsed: list[Path]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "write_sealed", full)
        assert len(load_events(file)) == 2
    assert not list(folder.glob("*.json"))
    load_events(file)
    load_events(file)
    assert len(parsed) == 2
    assert not [p for p in folder.iterdir() if p.name.startswith(".tmp")]


def test_nothing_is_written_without_cache_or_for_a_refused_file(folder: Path, file: Path) -> None:
    load_events(file, cache=False)
    file.write_text(file.read_text().replace("s\n", "x\n"))
    for _ in range(2):
        with pytest.raises(DataError, match="column Label"):
            load_events(file)
    assert not folder.exists()


def test_the_user_s_cache_folder_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIGGSBENCH_CACHE_DIR", raising=False)
    assert cache_dir().name == "higgsbench"


# Remembered identities of files: true as long as nothing touches the file, and never needed


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files whose content was read."""
    seen: list[Path] = []

    def counting(file: Path) -> str:
        seen.append(file)
        return content_identity(file)

    monkeypatch.setattr(cache, "content_identity", counting)
    monkeypatch.setattr(cache, "SETTLED", -(10**18))
    return seen


def test_a_file_left_alone_is_read_once(hashed: list[Path], file: Path, tmp_path: Path) -> None:
    found = [remembered_identity(file, tmp_path / "known") for _ in range(3)]
    assert set(found) == {content_identity(file)}
    assert hashed == [file]


def test_any_change_is_noticed_even_with_size_and_time_put_back(hashed: list[Path], file: Path, tmp_path: Path) -> None:
    first = remembered_identity(file, tmp_path / "known")
    before = file.stat()
    time.sleep(0.02)  # more than a tick of the file system's clock
    file.write_bytes(file.read_bytes()[:-2] + b"?\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert remembered_identity(file, tmp_path / "known") == content_identity(file) != first
    other = tmp_path / "other.csv"
    other.write_text("1,2,5\n")
    other.replace(file)
    assert remembered_identity(file, tmp_path / "known") == content_identity(file)
    assert len(hashed) == 3


def test_a_file_that_has_just_changed_is_not_remembered(
    hashed: list[Path], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SETTLED", 10**12)
    for _ in range(2):
        assert remembered_identity(file, tmp_path / "known") == content_identity(file)
    assert hashed == [file, file]
    assert not (tmp_path / "known").exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"state": 1, "identity": "x", "seal": "y"}', b"\xff"])
def test_a_damaged_note_is_written_anew(hashed: list[Path], file: Path, tmp_path: Path, content: bytes) -> None:
    remembered_identity(file, tmp_path / "known")
    (note,) = (tmp_path / "known").iterdir()
    whole = note.read_bytes()
    note.write_bytes(content)
    assert remembered_identity(file, tmp_path / "known") == content_identity(file)
    assert note.read_bytes() == whole


# Events on disk are the same events


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a thousand events many parts."""
    monkeypatch.setattr(cache, "BATCH", 300)
    monkeypatch.setattr(events_table, "BATCH", 300)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_simulated(SimulationSettings(events=1000, seed=4), tmp_path_factory.mktemp("toys") / "toys.csv")


def same(a: Events, b: Events) -> None:
    assert a.digest == b.digest
    assert len(a) == len(b)
    assert pl.concat(list(b.batches())).equals(a.frame)
    for name in ("y", "weight", "event_id", "group", "subset"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert b.lazy().collect().equals(a.frame)
    assert (a.totals(), a.labelled, a.simulated) == (b.totals(), b.labelled, b.simulated)


def test_same_parts_of_the_content(toys: Path) -> None:
    memory, disk = load_events(toys, cache=False), open_events(toys, large=0)
    assert isinstance(disk, StoredEvents)
    assert disk.frame.columns == ["EventId", "PRI_jet_num", "Weight", "Label", "KaggleSet", "KaggleWeight"]
    chosen = memory.in_subsets(["t"])
    same(memory.take(chosen), disk.take(chosen))
    again = np.arange(0, int(chosen.sum()), 7)
    same(memory.take(chosen).take(again), disk.take(chosen).take(again))
    rows = np.random.default_rng(1).permutation(int(chosen.sum()))[:50]
    assert disk.take(chosen).part(rows).equals(memory.take(chosen).part(rows))


@pytest.mark.parametrize("first", [load_events, lambda file: open_events(file, large=0)], ids=["loaded", "opened"])
def test_second_time_from_the_cache(toys: Path, monkeypatch: pytest.MonkeyPatch, first: Any) -> None:
    before = first(toys)
    monkeypatch.setattr(higgsbench.events, "_convert", lambda *_: pytest.fail("parsed again"))
    same(load_events(toys), open_events(toys, large=0))
    assert open_events(toys, large=0).digest == before.digest


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
    with pytest.raises(DataError, match=r"row 1001, column EventId: .* already occurs in row 4;"):
        open_events(twice, large=0)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() or p.name.startswith(".tmp")]


def test_damage_while_in_use(toys: Path) -> None:
    events = open_events(toys, large=0)
    assert isinstance(events, StoredEvents)
    events.table.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="damaged while it was in use"):
        list(events.batches())


def test_the_order_of_rows_does_not_count(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events come out in the order of their numbers, in memory and sorted in parts on disk."""
    monkeypatch.setattr("higgsbench.events._SORTED_ROWS", 50)
    small = {**(EventStream.__init__.__kwdefaults__ or {}), "block_bytes": 9_000}
    monkeypatch.setattr(EventStream.__init__, "__kwdefaults__", small)
    shuffled = toys.with_name("shuffled.csv")
    table = pl.read_csv(toys, infer_schema=False)
    table.sample(fraction=1.0, shuffle=True, seed=3).write_csv(shuffled)
    wanted = load_events(toys)
    for events in (load_events(shuffled), open_events(shuffled, large=0)):
        assert events.digest == wanted.digest
        assert events.lazy().collect().equals(wanted.frame)
