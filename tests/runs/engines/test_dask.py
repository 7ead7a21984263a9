"""Dask workers: the same scores, data that is brought once, workers and schedulers that are lost."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import higgsbench
from benchmarks.reliability.kills import Cluster
from higgsbench.runs.engines.base import EngineError, EngineSettings
from higgsbench.runs.unit import Workspace
from tests.runs.conftest import Config, Notes, scores
from tests.runs.engines.conftest import same_scores, wait_for

dask = pytest.importorskip("higgsbench.runs.engines.dask", reason="the extra dask is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path / "cluster", workers=0)
    yield found
    found.close()


def fits(process: int) -> list[psutil.Process]:
    """Processes that fit for a Dask worker."""
    return [p for p in psutil.Process(process).children(recursive=True) if p.is_running()]


def test_serial_local_and_dask_give_the_same_bits(config: Config, tmp_path: Path) -> None:
    before = psutil.Process().children(recursive=True)  # those of other tests, such as a pool that is kept
    with socket.socket() as taken:  # somebody else's cluster has the port that Dask listens on unless told otherwise
        with contextlib.suppress(OSError):  # it may be taken indeed
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        found = [
            higgsbench.run(config(), output=tmp_path / engine, engine=engine, jobs=None if engine == "serial" else 2)
            for engine in ("serial", "local", "dask")
        ]
    first, *others = [scores(result) for result in found]
    assert all(other.equals(first) for other in others)
    keys = [sorted(p.name for p in (r.folder / "units").iterdir()) for r in found]
    assert keys[0] == keys[1] == keys[2]
    assert len([name for name in keys[2] if name.endswith(".model.zip")]) == 12
    assert set(psutil.Process().children(recursive=True)) <= set(before)
    assert not list(found[2].folder.rglob(".tmp-*"))


def test_a_worker_is_killed_and_one_joins(config: Config, tmp_path: Path, cluster: Cluster, notes: Notes) -> None:
    victim = cluster.worker()

    def replace() -> None:
        wait_for(lambda: fits(victim.pid))
        victim.send_signal(signal.SIGKILL)
        cluster.worker()

    thread = threading.Thread(target=replace)
    thread.start()
    result = higgsbench.run(config(), output=tmp_path / "dask", scheduler=cluster.file, listener=notes)
    thread.join()
    assert result.failures == []
    assert any("died or left the cluster; it is tried again" in line for line in notes.lines)
    assert same_scores(result, config(), tmp_path / "serial")


def test_a_worker_is_killed_while_the_run_begins(
    config: Config, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = cluster.worker()
    cluster.worker()
    register, calls = dask.Client.register_plugin, []

    def kill_first(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            wait_for(lambda: len(self.nthreads()) == 2)
            victim.send_signal(signal.SIGKILL)
        return register(self, *args, **kwargs)

    monkeypatch.setattr(dask.Client, "register_plugin", kill_first)
    result = higgsbench.run(config(), output=tmp_path / "dask", scheduler=cluster.file)
    assert result.failures == []
    assert len(calls) > 1


def test_a_worker_without_files(
    config: Config, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = cluster.worker()
    # Orders that name folders which are not there, as on a machine without the run's file system.
    plain = dask.Order.of

    def elsewhere(unit: Any, workspace: Workspace) -> Any:
        order = plain(unit, workspace)
        model_file = order.model_file and "/nowhere/model"
        return dataclasses.replace(order, workspace=Workspace("/nowhere"), model_file=model_file)

    sent: list[str] = []
    send = dask.DaskEngine._send

    def noted(self: Any, files: tuple[str, ...], address: str) -> None:
        sent.extend(files)
        send(self, files, address)

    monkeypatch.setattr(dask.Order, "of", elsewhere)
    monkeypatch.setattr(dask.DaskEngine, "_send", noted)
    monkeypatch.setattr(dask, "_PIECE", 10_000)
    result = higgsbench.run(config(), output=tmp_path / "dask", scheduler=cluster.file)
    assert result.failures == []
    assert len(sent) == len(set(sent)) > 3  # every file once
    assert len(list(result.folder.glob("units/*.model.zip"))) == 12
    assert same_scores(result, config(), tmp_path / "serial")
    wait_for(lambda: not fits(worker.pid))
    assert not list(cluster.folder.rglob("*.npy"))


def test_a_lost_scheduler_is_one_line_and_a_call_goes_on(config: Config, tmp_path: Path, cluster: Cluster) -> None:
    cluster.worker()
    output = tmp_path / "out"

    def end() -> None:
        wait_for(lambda: list(output.glob("*/units/[!.]*.json")))
        cluster.scheduler.kill()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(EngineError, match=r"was lost; finished units are kept: call the same command again$"):
        higgsbench.run(config(), output=output, scheduler=str(cluster.file))
    thread.join()
    again = higgsbench.run(config(), output=output, engine="serial")
    assert again.reused > 0
    assert again.trained == 12 - again.reused
    assert same_scores(again, config(), tmp_path / "serial")


def test_no_log_of_dask_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.StreamHandler()  # Dask shares one among its loggers and those of Tornado
    monkeypatch.setattr(logging.getLogger("distributed"), "handlers", [handler])
    levels = []

    def connect(*_: object) -> None:
        levels.append(handler.level)
        raise EngineError("no scheduler")

    monkeypatch.setattr(dask, "_connected", connect)
    with pytest.raises(EngineError, match="no scheduler"):
        dask.count_workers(EngineSettings(scheduler="tcp://127.0.0.1:1"), print)
    assert (levels, handler.level) == ([logging.CRITICAL + 1], logging.NOTSET)


def test_other_versions_are_refused(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, run = dask.versions, iter([{"Python": "3.11", "numpy": "1.0"}])
    monkeypatch.setattr(dask, "versions", lambda packages: next(run, None) or plain(packages))
    with pytest.raises(EngineError, match=r"has .*numpy \S+ instead of 1\.0: its scores would differ"):
        higgsbench.run(config(), output=tmp_path, engine="dask", jobs=1)


NEITHER = "neither an address .* nor a scheduler file"
NO_SCHEDULER = {
    "nowhere.json": NEITHER,
    "http://127.0.0.1:9": NEITHER,
    "tcp://127.0.0.1:1": "no Dask scheduler answers there",
    "models: [mlp]": "not a scheduler file of Dask",
    "[]": "not a scheduler file of Dask",
    '{"address": 5}': f"names 5, which is {NEITHER}",
    '{"address": "http://127.0.0.1:9"}': f"names 'http://127.0.0.1:9', which is {NEITHER}",
}
"""Addresses, names of files, and contents of scheduler files."""


@pytest.mark.parametrize("given", NO_SCHEDULER)
def test_an_absent_scheduler(config: Config, tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(given)
    monkeypatch.setattr(dask, "_CONNECT", 0.5)
    scheduler = given if given.endswith((".json", ":9", ":1")) else str(file)
    with pytest.raises(EngineError, match=NO_SCHEDULER[given]):
        higgsbench.run(config(), output=tmp_path, scheduler=scheduler)
