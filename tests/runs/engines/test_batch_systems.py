"""Runs on a real Slurm or HTCondor of one node, which starts here: the same scores, lost and refused jobs, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import higgsbench
from higgsbench.errors import HiggsbenchError
from higgsbench.runs import RunResult
from higgsbench.runs.engines.base import load_cluster
from higgsbench.runs.engines.batch import Batch, array_script
from tests.runs.conftest import Config, Notes
from tests.runs.engines.conftest import Misbehave, TwoModels, same_scores, wait_for
from tests.runs.engines.systems import CONDOR, SLURM, System, output

pytest.importorskip("distributed", reason="the extra dask is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "HIGGSBENCH_CLUSTER" not in os.environ,
        reason="takes ten minutes and starts a batch system; `nox -s cluster` runs it",
    ),
]
Cluster = Callable[..., Path]
Ran = Callable[..., RunResult]


@pytest.fixture(scope="module", params=[SLURM, CONDOR], ids=lambda system: system.name)
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with request.param.started(tmp_path_factory.mktemp("system")) as started:
        yield started


only_slurm = pytest.mark.parametrize("system", [SLURM], indirect=True, ids=["slurm"])


@pytest.fixture
def cluster(system: System, tmp_path: Path) -> Cluster:
    """Write a cluster file."""

    def write(memory: str = "1GB", workers: int = 2, **more: Any) -> Path:
        keys = {"system": system.name, "memory": memory, "workers": workers, "logs": tmp_path / "logs"}
        keys |= system.keys | more
        (tmp_path / "cluster.yaml").write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
        return tmp_path / "cluster.yaml"

    return write


@pytest.fixture
def ran(two_models: TwoModels, cluster: Cluster, tmp_path: Path, notes: Notes) -> Ran:
    """Run a good model beside another, with keys of the cluster file."""

    def run(other: str, **keys: Any) -> RunResult:
        return higgsbench.run(two_models(other), output=tmp_path / "out", cluster=cluster(**keys), listener=notes)

    return run


def test_the_same_bits_as_on_one_machine(config: Config, cluster: Cluster, system: System, tmp_path: Path) -> None:
    result = higgsbench.run(config(), output=tmp_path / "out", cluster=cluster())
    assert same_scores(result, config(), tmp_path / "serial")
    assert system.none_left()


def test_several_workers_per_job_a_container_and_a_folder_of_the_node(
    config: Config, cluster: Cluster, system: System, tmp_path: Path
) -> None:
    container, used = tmp_path / "container.sh", tmp_path / "used"
    container.write_text(f'#!/bin/sh\necho "$1" >>{used}\nshift\nexec "$@"\n')
    container.chmod(0o700)
    keys = {"python": f"{container} image.sif {sys.executable}", "scratch": f"{tmp_path}/node-${system.variable}"}
    file = cluster(workers=4, workers_per_job=2, cores=2, **keys)
    result = higgsbench.run(config(), output=tmp_path / "out", cluster=file)
    assert same_scores(result, config(), tmp_path / "serial")
    assert set(used.read_text().split()) == {"image.sif"}
    assert 1 <= len(used.read_text().split()) <= 2  # commands, of two workers each; the run may end before the second
    assert list(tmp_path.glob("node-*[0-9]/dask-scratch-space"))
    assert system.none_left()


def test_an_array_job(
    config: Config, cluster: Cluster, system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(higgsbench.__file__).parents[1]))
    shared = "{should_transfer_files: 'NO', getenv: 'PYTHONPATH, HIGGSBENCH_CACHE_DIR'}"
    keys = {"directives": shared} if system.name == "htcondor" else {}
    scratch = f"{tmp_path}/node-${system.variable}"
    file = cluster(workers=6, workers_per_job=2, cores=2, scratch=scratch, **keys)
    (tmp_path / "array.sh").write_text(array_script(load_cluster(file), str(config()), 1))
    output(system.submit, "array.sh")
    wait_for(lambda: not system.running(), 300)
    result = higgsbench.run(config(), output="results")
    assert (result.trained, result.reused) == (0, 12), [file.read_text() for file in (tmp_path / "logs").iterdir()]
    assert same_scores(result, config(), tmp_path / "serial")
    assert list(tmp_path.glob("node-*[0-9]"))


@pytest.mark.parametrize("victims", [1, 2])
def test_cancelled_jobs_are_replaced(
    misbehave: Misbehave, ran: Ran, system: System, begun: Path, tmp_path: Path, notes: Notes, victims: int
) -> None:
    misbehave("long", "hang", times=2, folder=str(begun))

    def cancel() -> None:
        wait_for(lambda: len(list(begun.iterdir())) == 2)
        first = system.running()
        output(system.cancel, *first[:victims])
        if victims == 1:  # the replacement works while the fit of the other hangs
            stored = len(list(tmp_path.glob("out/*/units/*.json")))
            wait_for(lambda: len(list(tmp_path.glob("out/*/units/*.json"))) > stored)
            output(system.cancel, *(set(first) & set(system.running())))

    thread = threading.Thread(target=cancel)
    thread.start()
    result = ran("long")
    thread.join()
    assert result.failures == []
    ended = ("ended: C", "ended: REMOVED")  # cancelled, completing or completed
    said = [line for line in notes.lines if f"its {system.name} job" in line and any(end in line for end in ended)]
    assert len(said) == 2, notes.lines
    assert system.none_left()


def test_a_worker_that_dies_is_started_again_in_its_job(
    misbehave: Misbehave, ran: Ran, begun: Path, tmp_path: Path, notes: Notes
) -> None:
    misbehave("long", "hang", times=1, folder=str(begun))

    def kill() -> None:
        (fit,) = wait_for(lambda: [file.read_text() for file in begun.iterdir() if file.stat().st_size])
        psutil.Process(int(fit)).parents()[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    result = ran("long", workers_per_job=2, cores=2)
    thread.join()
    assert result.failures == []
    assert sum("died or left the cluster" in line for line in notes.lines) == 1, notes.lines
    assert len(list((tmp_path / "logs").glob("*.err"))) == 1  # of one job


def test_a_memory_kill_is_told(misbehave: Misbehave, ran: Ran, system: System, begun: Path, notes: Notes) -> None:
    misbehave("large", "memory", times=1, folder=str(begun))
    assert ran("large", workers=1).failures == []
    where = "/logs/dask-worker-" if system.name == "slurm" else "ended: HELD ("
    assert any(where in line and "emory" in line for line in notes.lines), notes.lines


@only_slurm
def test_a_fit_longer_than_the_walltime_fails(misbehave: Misbehave, ran: Ran, system: System, begun: Path) -> None:
    misbehave("long", "hang", times=5, folder=str(begun))  # two twice, then one alone
    (failure,) = ran("long", walltime="1min").failures
    assert "failed three times, the last time alone: its slurm job" in failure.message
    assert "walltime 1min" in failure.message
    assert system.none_left()


@pytest.mark.parametrize(
    ("system", "keys", "message"),
    [
        (SLURM, {"queue": "nope"}, "^slurm refuses the job: invalid partition specified: nope"),
        (SLURM, {"memory": "500GB"}, "^slurm refuses the job: Memory specification can not be satisfied"),
        (SLURM, {"interface": "ib0"}, "'ib0' is not a valid network interface"),
        (SLURM, {"python": "/nowhere/python"}, r"ended: FAILED .*/nowhere/python.* before its worker .*3 times in a"),
        (SLURM, {"scratch": "$NO_FOLDER"}, r"ended: FAILED .*NO_FOLDER.* not set.* before its worker"),
        (CONDOR, {"directives": "{universe: nope}"}, "^htcondor refuses the job: .*nope"),
        (CONDOR, {"python": "/nowhere/python"}, r"ended: COMPLETED; .*/nowhere/python.* before its worker .*3 times"),
        (CONDOR, {"scratch": "$NO_FOLDER"}, r"ended: COMPLETED; .*NO_FOLDER.* not set.* before its worker"),
    ],
    indirect=["system"],
    ids=lambda value: "" if isinstance(value, str) else getattr(value, "name", None) or "-".join(value),
)
def test_jobs_that_cannot_work(
    config: Config, cluster: Cluster, system: System, tmp_path: Path, keys: dict[str, str], message: str
) -> None:
    with pytest.raises(HiggsbenchError, match=message):
        higgsbench.run(config(), output=tmp_path / "out", cluster=cluster(**keys))
    assert system.none_left()


@only_slurm
def test_waiting_jobs_are_named_with_their_reason(cluster: Cluster, system: System) -> None:
    found = Batch(load_cluster(cluster(queue="stopped", workers=5)), 1, print)
    numbers = system.running()
    output("scontrol", "hold", numbers[4])
    time.sleep(1.0)
    text = found.waiting()
    assert f"jobs {', '.join(numbers[:3])} and 1 more: PENDING (PartitionDown)" in text
    assert f"job {numbers[4]}: PENDING (JobHeldAdmin)" in text
    found.close()
    assert system.none_left()


def test_ctrl_c(
    cluster: Cluster, system: System, two_models: TwoModels, misbehave: Misbehave, begun: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(
        "import time\nfrom pathlib import Path\nfrom sklearn.linear_model import LogisticRegression\n"
        "class Long(LogisticRegression):\n"
        "    def fit(self, X, y, sample_weight=None):\n"
        f"        Path({str(begun)!r}, 'fit').touch()\n        time.sleep(600)\n"
    )
    misbehave("own.py:Long", "hang")
    command = f"-m higgsbench run {two_models('own.py:Long')} --import {tmp_path / 'own.py'} --cluster {cluster()}"
    run = subprocess.Popen(
        [sys.executable, *command.split(), "--output", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(Path(higgsbench.__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: (begun / "fit").exists() or run.poll() is not None)
    begin = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    spent = time.monotonic() - begin
    assert run.returncode == 130, err
    assert err.rstrip().splitlines()[-1].startswith("Interrupted")
    assert spent < 2.0
    assert system.none_left()
