"""Models that misbehave cost their row and nothing else, on engines that run in this process or in others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psutil
import pytest

import higgsbench
from higgsbench.runs import Failure
from higgsbench.runs.engines import local
from tests.runs.engines.conftest import Notes

TwoModels = Callable[[str], Path]


@pytest.fixture
def count(tmp_path: Path) -> Path:
    """A folder in which fits are counted."""
    folder = tmp_path / "count"
    folder.mkdir()
    return folder


def workers_of(process: int | None = None) -> list[psutil.Process]:
    """Worker processes; a run also asks other programs, which may have ended meanwhile."""
    found = []
    for child in psutil.Process(process).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "higgsbench.runs.engines.local" in " ".join(child.cmdline()):
                found.append(child)
    return found


def text_of(failure: Failure) -> str:
    assert failure.path is not None
    return failure.path.read_text()


WRONG = {
    "raise": "RuntimeError: the model broke",
    "nan": "Misbehaving returned NaN for ",
    "infinite": "Misbehaving returned infinite scores for ",
    "shape": "Misbehaving returned scores of shape (",
}


@pytest.mark.parametrize(("engine", "jobs"), [("serial", None), ("local", 2)])
def test_what_is_wrong_with_a_model_or_odd_stands_in_its_row(
    two_models: TwoModels, misbehave: Callable[..., None], tmp_path: Path, notes: Notes, engine: str, jobs: int | None
) -> None:
    for mode in (*WRONG, "constant"):
        misbehave(mode, mode)
    file = two_models(", ".join((*WRONG, "constant")))
    result = higgsbench.run(file, output=tmp_path / "out", engine=engine, jobs=jobs, listener=notes)
    rows = {row["name"]: row for row in result.rows}
    assert rows["logistic"]["status"] == "ok"
    assert {name: row["status"] for name, row in rows.items() if name in WRONG} == dict.fromkeys(WRONG, "failed")
    for mode, message in WRONG.items():
        assert message in rows[mode]["error"]
        assert len([f for f in result.failures if f.row == mode and message in f.message]) == 2
    # Constant scores are valid and noted.
    assert rows["constant"]["status"] == "ok"
    remark = "constant: the same score for all held-out events in 2 of 2 fits"
    assert f"constant: {rows['constant']['remark']}" == remark
    assert remark in notes.lines
    assert f"Note: {remark}" in higgsbench.Leaderboard.read(result.folder).render()
    assert all("remark" not in row for row in result.rows if row["name"] != "constant")


def test_models_that_kill_their_process_again_and_again(
    two_models: TwoModels, misbehave: Callable[..., None], tmp_path: Path, notes: Notes
) -> None:
    misbehave("killed", "kill")
    misbehave("aborted", "abort")
    config = two_models("killed, aborted")
    result = higgsbench.run(config, output=tmp_path / "out", engine="local", jobs=2, listener=notes)
    rows = {row["name"]: row for row in result.rows}
    assert rows["logistic"]["status"] == "ok"
    for name, sign in (("killed", "SIGKILL"), ("aborted", "SIGABRT")):
        error = rows[name]["error"]
        assert error.startswith("failed three times, the last time alone: its worker process was killed by " + sign)
        text = next(text_of(failure) for failure in result.failures if failure.row == name)
        assert text.count("attempt ") == 3
        assert ("in fit" in text) == (name == "aborted")  # where it was, if the process could still say so
    assert len([line for line in notes.lines if line.endswith("; it is tried again")]) == 4
    assert not workers_of()


def test_a_model_that_kills_its_process_once_costs_nothing(
    two_models: TwoModels, misbehave: Callable[..., None], count: Path, tmp_path: Path, notes: Notes
) -> None:
    misbehave("moody", "kill", times=1, folder=str(count))
    result = higgsbench.run(two_models("moody"), output=tmp_path / "out", engine="local", jobs=1, listener=notes)
    assert result.failures == []
    assert result.trained == 4
    assert "moody, fold" in notes.lines[0]
    assert notes.lines[0].endswith("it is tried again")
    assert not list(result.folder.rglob(".tmp-*"))


@pytest.mark.parametrize(
    ("mode", "limit", "message"),
    [
        ("hang", {"unit_time_limit": "2s"}, "exceeded the unit time limit of 2.0 s"),
        ("memory", {"unit_memory_limit": "1GB"}, "exceeded the unit memory limit of 1.00 GB"),
    ],
)
def test_limits_of_a_unit(
    two_models: TwoModels,
    misbehave: Callable[..., None],
    tmp_path: Path,
    mode: str,
    limit: dict[str, str],
    message: str,
) -> None:
    misbehave("greedy", mode)
    # The good model is trained before, so that the test depends on no machine's speed.
    config = two_models("greedy")
    higgsbench.run(config, output=tmp_path / "out", only=["logistic"], jobs=1)
    result = higgsbench.run(config, output=tmp_path / "out", jobs=1, **limit)  # type: ignore[arg-type]
    assert [failure.message for failure in result.failures] == [message] * 2
    assert {row["name"]: row["status"] for row in result.rows} == {"logistic": "ok", "greedy": "failed"}
    if mode == "hang":
        assert " in fit\n" in text_of(result.failures[0])  # where it hung


def test_workers_end_with_a_run_that_is_killed(config: Callable[..., Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "higgsbench", "run", str(config()), "--output", str(tmp_path / "out"), "-j", "2"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    deadline = time.monotonic() + 120
    while len(workers := workers_of(run.pid)) < 2:
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (2, [])


@pytest.mark.parametrize("long", [True, False])
def test_a_process_in_which_a_unit_left_much_memory_makes_room_for_another(
    two_models: TwoModels,
    misbehave: Callable[..., None],
    count: Path,
    tmp_path: Path,
    notes: Notes,
    monkeypatch: pytest.MonkeyPatch,
    long: bool,
) -> None:
    if long:
        start = "import higgsbench.runs.engines.local as worker; worker.LONG = 0.0; "
        monkeypatch.setattr(local, "_START", local._START.replace("from higgsbench", start + "from higgsbench", 1))
    misbehave("hoarder", "hoard", folder=str(count))
    result = higgsbench.run(two_models("hoarder"), output=tmp_path / "out", engine="local", jobs=1, listener=notes)
    assert result.failures == []
    assert not any("tried again" in line for line in notes.lines)
    processes = {file.read_text() for file in count.iterdir()}
    assert len(processes) == (2 if long else 1)
    assert psutil.wait_procs(workers_of(), timeout=60)[1] == []


def test_a_process_that_says_it_leaves_and_does_not_is_ended(
    two_models: TwoModels, misbehave: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = (
        "import atexit, time, higgsbench.runs.engines.local as worker; worker.LONG, worker.HOARD = 0.0, -1e12; "
        "atexit.register(time.sleep, 600); "
    )
    monkeypatch.setattr(local, "_START", local._START.replace("from higgsbench", start + "from higgsbench", 1))
    result = higgsbench.run(two_models("mlp"), output=tmp_path / "out", engine="local", jobs=1)
    assert result.failures == []
    assert workers_of() == []  # those that linger when the run is over too


def test_a_limit_of_memory_is_for_the_unit_and_not_for_what_was_left_behind(
    misbehave: Callable[..., None], config: Callable[..., Path], tmp_path: Path, notes: Notes
) -> None:
    misbehave("hoarder", "hoard")
    file = config("data: {{path: {data}}}\nmodels: [hoarder]\nfolds: 5\n")
    result = higgsbench.run(
        file, output=tmp_path / "out", engine="local", jobs=1, unit_memory_limit="450MB", listener=notes
    )
    assert result.failures == []
    assert any("had run other units, exceeded the unit memory limit" in line for line in notes.lines)


def test_a_worker_killed_from_outside_costs_nothing(
    two_models: TwoModels, misbehave: Callable[..., None], count: Path, tmp_path: Path, notes: Notes
) -> None:
    misbehave("victim", "hang", times=1, folder=str(count))
    over = threading.Event()

    def kill_all() -> None:
        while not over.wait(0.02):
            if list(count.iterdir()):  # a fit is under way, and would hang
                for worker in workers_of():
                    worker.send_signal(signal.SIGKILL)
                return

    thread = threading.Thread(target=kill_all)
    thread.start()
    config = two_models("victim")
    result = higgsbench.run(config, output=tmp_path / "local", engine="local", jobs=2, listener=notes)
    over.set()
    thread.join()
    assert result.failures == []
    assert any("killed by SIGKILL" in line and line.endswith("; it is tried again") for line in notes.lines)
    expected = higgsbench.run(config, output=tmp_path / "serial", engine="serial")
    name = "scores.parquet"
    assert pl.read_parquet(result.folder / name).equals(pl.read_parquet(expected.folder / name))
