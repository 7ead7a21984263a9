"""Remembered identities of files: true as long as nothing touches the file, and never needed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from higgsbench.events import cache as identity
from higgsbench.events.cache import remembered_identity
from higgsbench.files import content_identity


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files whose content was read."""
    seen: list[Path] = []

    def counting(file: Path) -> str:
        seen.append(file)
        return content_identity(file)

    monkeypatch.setattr(identity, "content_identity", counting)
    monkeypatch.setattr(identity, "SETTLED", -(10**18))
    return seen


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_text("1,2,3\n")
    return path


def test_a_file_left_alone_is_read_once(hashed: list[Path], file: Path, tmp_path: Path) -> None:
    found = [remembered_identity(file, tmp_path / "known") for _ in range(3)]
    assert set(found) == {content_identity(file)}
    assert hashed == [file]


def test_any_change_is_noticed_even_where_size_and_time_are_put_back(
    hashed: list[Path], file: Path, tmp_path: Path
) -> None:
    first = remembered_identity(file, tmp_path / "known")
    before = file.stat()
    time.sleep(0.02)  # more than a tick of the file system's clock
    file.write_text("1,2,4\n")
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
    monkeypatch.setattr(identity, "SETTLED", 10**12)
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


def test_a_folder_that_cannot_be_written_costs_time_only(hashed: list[Path], file: Path, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("a file")
    for _ in range(2):
        assert remembered_identity(file, tmp_path / "known") == content_identity(file)
    assert hashed == [file, file]
