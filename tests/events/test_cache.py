"""The cache of parsed files: used only where sound, rebuilt where not, and never needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from higgsbench.events import EventStream, cache, load_events
from higgsbench.events.cache import cache_dir
from higgsbench.schema import ATLAS_HIGGS, FEATURES


@pytest.fixture
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


def test_another_path_of_the_same_content_hits(folder: Path, parsed: list[Path], file: Path) -> None:
    load_events(file)
    copy = file.with_name("b.csv")
    copy.write_bytes(file.read_bytes())
    assert load_events(copy).source == str(copy)
    assert parsed == [file]


def test_a_changed_file_is_parsed_anew(folder: Path, parsed: list[Path], file: Path) -> None:
    first = load_events(file)
    events(2.0).write_csv(file)
    second = load_events(file)
    assert len(parsed) == 2
    assert second.digest != first.digest
    assert second.frame["PRI_met"][0] == 2.0


def test_another_layout_is_another_entry(folder: Path, parsed: list[Path], file: Path) -> None:
    from dataclasses import replace

    load_events(file)
    kept = load_events(file, replace(ATLAS_HIGGS, missing=None))
    assert len(parsed) == 2
    assert kept.frame["PRI_met"][1] == -999.0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGE: list[tuple[str, str, Callable[[Path], object]]] = [
    ("table cut", ".parquet", cut),
    ("table flipped", ".parquet", flip),
    ("table empty", ".parquet", lambda p: p.write_bytes(b"")),
    ("table gone", ".parquet", Path.unlink),
    ("table of others", ".parquet", lambda p: events(7.0).write_parquet(p)),
    ("sidecar cut", ".json", cut),
    ("sidecar empty", ".json", lambda p: p.write_text("")),
    ("sidecar gone", ".json", Path.unlink),
    ("sidecar a list", ".json", lambda p: p.write_text("[]")),
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


def test_without_cache_nothing_is_written(folder: Path, file: Path) -> None:
    load_events(file, cache=False)
    assert not folder.exists()


def test_a_refused_file_is_not_cached(folder: Path, file: Path) -> None:
    from higgsbench.errors import DataError

    file.write_text(file.read_text().replace("s\n", "x\n"))
    for _ in range(2):
        with pytest.raises(DataError, match="column Label"):
            load_events(file)
    assert not folder.exists()


def test_the_user_s_cache_folder_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIGGSBENCH_CACHE_DIR", raising=False)
    assert cache_dir().name == "higgsbench"
