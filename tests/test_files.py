"""Files are whole or absent; digests name content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from higgsbench.files import atomic_path, canonical_digest, file_digest, no_panic, write_bytes, write_json, write_text


def test_written_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"\x00\xff")
    write_text(tmp_path / "b", "Größe\n")
    write_json(tmp_path / "c", {"b": 0.1 + 0.2, "a": None})
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_bytes() == "Größe\n".encode()
    assert json.loads((tmp_path / "c").read_text()) == {"a": None, "b": 0.30000000000000004}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_the_old_file_stands(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a"
    write_text(target, "old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            assert target.read_text() == "old"
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "no folder" / "a", "x")
    assert list(tmp_path.iterdir()) == []


def test_digests(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"content")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()
    assert canonical_digest({"a": 1, "b": [2.0, None]}) == canonical_digest({"b": [2.0, None], "a": 1})


@pytest.mark.parametrize(("a", "b"), [(1, 1.0), ("1", 1), ([1, 2], [2, 1]), ({"a": None}, {}), (True, 1)])
def test_digest_knows_types_and_order(a: Any, b: Any) -> None:
    assert canonical_digest(a) != canonical_digest(b)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_json_cannot_say_has_no_digest(bad: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_digest([bad])
    with pytest.raises(TypeError):
        canonical_digest({1, 2})
    with pytest.raises(pl.exceptions.ComputeError, match="the parser failed on it"), no_panic():
        raise pl.exceptions.PanicException("assertion failed")


def test_other_errors_and_results_pass() -> None:
    with pytest.raises(ValueError, match="other"), no_panic():
        raise ValueError("other")
    with no_panic():
        assert pl.DataFrame({"a": [1]}).height == 1
