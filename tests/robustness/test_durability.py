"""Runs that are killed, crowded, refused or damaged; benchmarks/reliability does the same more often."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import higgsbench
from benchmarks.reliability import concurrency, kills, small, storage
from higgsbench.errors import StoreError
from higgsbench.files import atomic_path, parse_sealed, read_vouched, temporary_prefix, write_sealed, writer_lives
from higgsbench.runs import unit
from higgsbench.runs.store import RunStore, run_lock


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("durability")


@pytest.fixture(scope="module", autouse=True)
def cache(place: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(place / "cache"))
        yield


@pytest.fixture(scope="module")
def config(place: Path) -> Path:
    return small.prepare(place, events=1500, trees=8)


@pytest.fixture(scope="module")
def whole(config: Path, place: Path) -> Path:
    return small.resume(config, place / "whole").folder


@pytest.mark.slow
def test_killed_at_random_moments(config: Path, whole: Path, tmp_path: Path) -> None:
    moments = random.Random(5)
    for number in range(3):
        found = kills.kill_once(config, tmp_path / str(number), whole, moments.uniform(0.0, 2.0))
        assert (found.damaged, found.lost, found.different, found.left) == (0, 0, (), 0)


@pytest.mark.slow
def test_two_runs_at_once_train_no_unit_twice(config: Path, whole: Path, tmp_path: Path) -> None:
    found = concurrency.two_at_once(config, tmp_path / "out", [whole], 0.1)
    assert (found.ended, found.trained, found.same) == (2, 12, True)


@pytest.mark.parametrize("kind", sorted(set(storage.FILES) - {"test_scores.parquet", "environment.json"}))
def test_one_flipped_bit_is_noticed_and_repaired(config: Path, whole: Path, tmp_path: Path, kind: str) -> None:
    run = tmp_path / whole.name
    shutil.copytree(whole, run)
    file = min(run.glob(storage.FILES[kind]))
    storage.spoil(file, small.flipped(file.read_bytes(), random.Random(kind)))
    found = storage.repair(config, run, whole)
    assert found.restored
    assert found.said
    assert found.trained == (1 if kind.startswith("unit") else 0)


def test_a_limit_of_the_system_ends_in_one_line(config: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000));"
        "from higgsbench.cli.main import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "run", str(config), "--output", str(tmp_path / "out"), "-j", "1", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_full_disk_is_an_os_error_whatever_polars_calls_it(tmp_path: Path) -> None:
    error = pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)")
    with pytest.raises(OSError, match="No space left") as caught, atomic_path(tmp_path / "a"):
        raise error
    assert caught.value.errno == 28
    with pytest.raises(pl.exceptions.ComputeError), atomic_path(tmp_path / "a"):
        raise pl.exceptions.ComputeError("another error")


class TestSeals:
    def test_every_change_of_a_value_is_noticed(self, tmp_path: Path) -> None:
        file = tmp_path / "a.json"
        content = {"a": 0.1, "b": [1, None, float("nan")], "c": "text"}
        write_sealed(file, content)
        assert repr(parse_sealed(file.read_bytes(), required=True)) == repr(content)
        text = file.read_text()
        for old, new in (("0.1", "0.2"), ("null", "0"), ("text", "texT"), ('"c"', '"d"')):
            with pytest.raises(ValueError, match="checksum"):
                parse_sealed(text.replace(old, new, 1).encode())

    def test_a_file_without_seal_is_that_of_an_older_version(self) -> None:
        assert parse_sealed(b'{"a": 1}') == {"a": 1}
        with pytest.raises(ValueError, match="checksum"):
            parse_sealed(b'{"a": 1}', required=True)

    def test_a_reader_waits_for_a_run_that_is_writing_its_results(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"content")

        def finish() -> None:
            time.sleep(0.2)
            digest = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
            write_sealed(tmp_path / "rows.json", {"checksums": {"a": digest}})

        thread = threading.Thread(target=finish)
        thread.start()
        assert read_vouched(tmp_path, "a") == b"content"
        thread.join()
        (tmp_path / "a").write_bytes(b"other")
        with pytest.raises(StoreError, match=r"its checksum differs from that in rows\.json"):
            read_vouched(tmp_path, "a")


class TestRunLock:
    def test_the_holder_is_named_and_the_second_refused_when_its_time_is_over(self, tmp_path: Path) -> None:
        notes: list[str] = []
        with run_lock(tmp_path, notes.append):
            refusal = pytest.raises(StoreError, match=f"process {os.getpid()} on .* is still writing to this run")
            with refusal, run_lock(tmp_path, notes.append, patience=0.3):
                pass
            assert f"waiting for process {os.getpid()} on " in notes[0]
        with run_lock(tmp_path, notes.append, patience=0.0):
            assert len(notes) == 1

    def test_a_killed_process_holds_nothing(self, tmp_path: Path) -> None:
        code = (
            "import sys, time; from pathlib import Path; from higgsbench.runs.store import run_lock\n"
            "with run_lock(Path(sys.argv[1]), print): print('held', flush=True); time.sleep(60)"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with pytest.raises(StoreError, match=f"process {process.pid} on "), run_lock(tmp_path, print, patience=0.2):
                pass
            process.kill()
        with run_lock(tmp_path, print, patience=0.2):
            pass

    def test_a_file_system_without_locks_is_no_obstacle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: object, **__: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("filelock.FileLock.acquire", refused)
        with run_lock(tmp_path, print), run_lock(tmp_path, print, patience=0.0):
            pass


def test_temporary_files_of_another_machine_are_left_alone(tmp_path: Path) -> None:
    own = f"{temporary_prefix()}1234-a"
    assert writer_lives(own)
    number, host = own.removeprefix(".tmp-").split("-")[:2]
    assert not writer_lives(own.replace(number, "4194305", 1))
    assert writer_lives(own.replace(number, "4194305", 1).replace(host, "0" * 6))


def test_a_damaged_unit_of_a_neighbour_replaces_nothing(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "bad")
    bad, own = RunStore(tmp_path / "bad"), RunStore(tmp_path / "own")
    own.prepare()
    key = min(bad.keys())
    storage.spoil(bad.units / f"{key}.parquet", b"x")
    assert own.adopt([key], [bad]) == 0
    assert not list(own.units.iterdir())
    assert own.adopt([key], [bad, RunStore(whole)]) == 1
    assert own.read(key) is not None


def test_a_leaderboard_of_one_unfinished_run_says_so(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "units").mkdir(parents=True)
    answer = small.cli("leaderboard", "--results", tmp_path / "run", "--format", "json")
    assert "unfinished" in json.loads(answer.out)["notes"][0]


def test_a_full_temporary_folder_is_named(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unit.Workspace, "save", full)
    with pytest.raises(
        StoreError, match=r"workers' copy of the events cannot be written: No space left .*; set TMPDIR"
    ):
        higgsbench.run(config, output=tmp_path / "out", jobs=1)
