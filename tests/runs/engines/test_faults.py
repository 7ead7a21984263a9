"""Models that misbehave cost their row and nothing else, on engines that run in this process or in others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

import higgsbench
from higgsbench.runs import Failure, RunResult
from higgsbench.runs.engines import local
from tests.runs.conftest import Config, Notes
from tests.runs.engines.conftest import Misbehave, TwoModels, wait_for

Ran = Callable[..., RunResult]


@pytest.fixture
def ran(two_models: TwoModels, tmp_path: Path, notes: Notes) -> Ran:
    """Run a good model beside others."""

    def run(others: str, engine: str = "local", jobs: int | None = 1, **how: Any) -> RunResult:
        file, output = two_models(others), tmp_path / engine
        return higgsbench.run(file, output=output, engine=engine, jobs=jobs, listener=notes, **how)

    return run


def workers_of(process: int | None = None) -> list[psutil.Process]:
    """Worker processes; a run also asks other programs, which may have ended meanwhile."""
    found = []
    for child in psutil.Process(process).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "higgsbench.runs.engines.local" in " ".join(child.cmdline()):
                found.append(child)
    return found


def text_of(failure: Failure) -> str:
    return failure.path.read_text() if failure.path else ""


WRONG = {
    "raise": "RuntimeError: the model broke",
    "nan": "Misbehaving returned NaN for ",
    "infinite": "Misbehaving returned infinite scores for ",
    "shape": "Misbehaving returned scores of shape (",
}


@pytest.mark.parametrize(("engine", "jobs"), [("serial", None), ("local", 2)])
def test_a_failed_row_names_its_fault(
    misbehave: Misbehave, ran: Ran, notes: Notes, engine: str, jobs: int | None
) -> None:
    for mode in (*WRONG, "constant"):
        misbehave(mode, mode)
    result = ran(", ".join((*WRONG, "constant")), engine, jobs)
    rows = {row["name"]: row for row in result.rows}
    assert rows["logistic"]["status"] == "ok"
    assert {name: row["status"] for name, row in rows.items() if name in WRONG} == dict.fromkeys(WRONG, "failed")
    for mode, message in WRONG.items():
        assert message in rows[mode]["error"]
        failures = [f for f in result.failures if f.row == mode]
        assert [message in f.message and message in text_of(f) for f in failures] == [True, True]
    assert higgsbench.Leaderboard.read(result.folder).tables[0].rows[-1]["rank"] is None
    # Constant scores are valid and noted.
    assert rows["constant"]["status"] == "ok"
    remark = "constant: the same score for all held-out events in 2 of 2 fits"
    assert f"constant: {rows['constant']['remark']}" == remark
    assert remark in notes.lines
    assert f"Note: {remark}" in higgsbench.Leaderboard.read(result.folder).render()
    assert all("remark" not in row for row in result.rows if row["name"] != "constant")


def test_models_that_kill_their_process_again_and_again(misbehave: Misbehave, ran: Ran, notes: Notes) -> None:
    misbehave("killed", "kill")
    misbehave("aborted", "abort")
    result = ran("killed, aborted", jobs=2)
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


def test_a_model_that_kills_once_costs_nothing(misbehave: Misbehave, ran: Ran, notes: Notes, begun: Path) -> None:
    misbehave("moody", "kill", times=1, folder=str(begun))
    result = ran("moody")
    assert (result.failures, result.trained) == ([], 4)
    unstorable, *told = notes.lines
    assert unstorable.startswith("moody: its scores are stored, its fitted models are not")
    assert "moody, fold" in told[0]
    assert told[0].endswith("it is tried again")
    assert not list(result.folder.rglob(".tmp-*"))


@pytest.mark.parametrize(
    ("mode", "limit", "message"),
    [
        ("hang", {"unit_time_limit": "2s"}, "exceeded the unit time limit of 2.0 s"),
        ("memory", {"unit_memory_limit": "1GB"}, "exceeded the unit memory limit of 1.00 GB"),
    ],
)
def test_limits_of_a_unit(misbehave: Misbehave, ran: Ran, mode: str, limit: dict[str, str], message: str) -> None:
    misbehave("greedy", mode)
    ran("greedy", only=["logistic"])  # before, so that the test depends on no machine's speed
    result = ran("greedy", **limit)
    assert [failure.message for failure in result.failures] == [message] * 2
    assert {row["name"]: row["status"] for row in result.rows} == {"logistic": "ok", "greedy": "failed"}
    if mode == "hang":
        assert " in fit\n" in text_of(result.failures[0])  # where it hung


def test_workers_end_with_a_run_that_is_killed(config: Config, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "higgsbench", "run", str(config()), "--output", str(tmp_path / "out"), "-j", "2"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    wait_for(lambda: len(workers_of(run.pid)) == 2 or run.poll() is not None)
    workers = workers_of(run.pid)
    run.kill()
    run.wait()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert (len(gone), alive) == (2, [])


def begin_with(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes run code before anything else."""
    code = f"import atexit, time, higgsbench.runs.engines.local as worker; {code}; from higgsbench"
    monkeypatch.setattr(local, "_START", local._START.replace("from higgsbench", code, 1))


@pytest.mark.parametrize("long", [True, False])
def test_a_process_in_which_a_unit_left_much_memory_makes_room_for_another(
    misbehave: Misbehave, ran: Ran, notes: Notes, begun: Path, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    if long:
        begin_with("worker.LONG = 0.0", monkeypatch)
    misbehave("hoarder", "hoard", folder=str(begun))
    assert ran("hoarder").failures == []
    assert not any("tried again" in line for line in notes.lines)
    assert len({file.read_text() for file in begun.iterdir()}) == (2 if long else 1)
    assert psutil.wait_procs(workers_of(), timeout=60)[1] == []


def test_a_process_that_says_it_leaves_and_does_not_is_ended(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_with("worker.LONG, worker.HOARD = 0.0, -1e12; atexit.register(time.sleep, 600)", monkeypatch)
    assert ran("mlp").failures == []
    assert workers_of() == []  # those that linger when the run is over too


def test_a_memory_limit_is_for_the_unit_and_not_for_what_was_left(misbehave: Misbehave, ran: Ran, notes: Notes) -> None:
    misbehave("hoarder", "hoard")
    result = ran("hoarder", only=["hoarder"], settings=["folds=5"], unit_memory_limit="450MB")
    assert result.failures == []
    assert any("had run other units, exceeded the unit memory limit" in line for line in notes.lines)


def test_a_worker_killed_from_outside_costs_nothing(misbehave: Misbehave, ran: Ran, notes: Notes, begun: Path) -> None:
    misbehave("victim", "hang", times=1, folder=str(begun))
    over = threading.Event()

    def kill_all() -> None:
        while not over.wait(0.02):
            if list(begun.iterdir()):  # a fit is under way, and would hang
                for worker in workers_of():
                    worker.send_signal(signal.SIGKILL)
                return

    thread = threading.Thread(target=kill_all)
    thread.start()
    result = ran("victim", jobs=2)
    over.set()
    thread.join()
    assert result.failures == []
    assert any("killed by SIGKILL" in line and line.endswith("; it is tried again") for line in notes.lines)
    expected = ran("victim", "serial")
    name = "scores.parquet"
    assert pl.read_parquet(result.folder / name).equals(pl.read_parquet(expected.folder / name))
