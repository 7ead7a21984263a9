"""Runs on a real one-node Slurm, which starts here: the same scores, jobs that are lost or refused, Ctrl-C."""

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

import polars as pl
import pytest

import higgsbench
from higgsbench.errors import HiggsbenchError
from higgsbench.runs.engines.base import load_cluster
from higgsbench.runs.engines.batch import Batch, array_script
from tests.runs.conftest import Config, Notes
from tests.runs.engines.conftest import Misbehave, TwoModels

pytest.importorskip("distributed", reason="the extra dask is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(
        "HIGGSBENCH_SLURM" not in os.environ,
        reason="takes ten minutes and starts Slurm as root; `nox -s cluster` runs it",
    ),
]
Cluster = Callable[..., Path]


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def running() -> list[str]:
    return output("squeue", "--noheader", "--format=%i").split()


def none_left() -> bool:
    wait_for(lambda: not running(), 5)  # some may be completing
    return True


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A controller and a node on this machine, with partitions `main`, `stopped` (down) and `short` (2 minutes)."""
    home = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool", "log"):
        (home / name).mkdir()
    host, text = output("hostname", "-s"), Path(__file__).with_name("slurm.conf.in").read_text()
    (home / "slurm.conf").write_text(text.replace("@HERE@", str(home)).replace("@HOST@", host))
    key = Path("/etc/munge/munge.key")
    if not key.exists():
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
    Path("/run/munge").mkdir(0o755, parents=True, exist_ok=True)
    for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge", "/etc/munge"):
        output("chown", "-R", "munge:munge", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(home / "slurm.conf"))
        commands = ["runuser -u munge -- munged --foreground --force", "slurmctld -D", "slurmd -D"]
        servers = []
        for command in commands:
            servers.append(subprocess.Popen(command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(0.5)
        wait_for(lambda: "idle" in subprocess.run(["sinfo"], capture_output=True, text=True, check=False).stdout)
        yield
        for server in reversed(servers):
            server.terminate()
            server.wait()


@pytest.fixture
def cluster(slurm: None, tmp_path: Path) -> Cluster:
    """Write a cluster file."""

    def write(memory: str = "1GB", workers: int = 2, **more: str) -> Path:
        keys = {"system": "slurm", "memory": memory, "workers": workers, "logs": tmp_path / "logs"} | more
        (tmp_path / "cluster.yaml").write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
        return tmp_path / "cluster.yaml"

    return write


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder in which fits are counted."""
    folder = tmp_path / "begun"
    folder.mkdir()
    return folder


def test_the_same_bits_as_on_one_machine(config: Config, cluster: Cluster, tmp_path: Path) -> None:
    found = [
        higgsbench.run(config(), output=tmp_path / "slurm", cluster=cluster()),
        higgsbench.run(config(), output=tmp_path / "serial", engine="serial"),
    ]
    first, second = [pl.read_parquet(result.folder / "scores.parquet") for result in found]
    assert first.equals(second)
    assert none_left()


def test_an_array_job(config: Config, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(higgsbench.__file__).parents[1]))
    (tmp_path / "array.sh").write_text(array_script(load_cluster(cluster(workers=3)), str(config()), 1))
    output("sbatch", "--wait", "array.sh")
    result = higgsbench.run(config(), output="results")
    assert (result.trained, result.reused) == (0, 12)


@pytest.mark.parametrize("victims", [1, 2])
def test_cancelled_jobs_are_replaced(
    two_models: TwoModels,
    misbehave: Misbehave,
    cluster: Cluster,
    begun: Path,
    tmp_path: Path,
    notes: Notes,
    victims: int,
) -> None:
    misbehave("long", "hang", times=2, folder=str(begun))

    def cancel() -> None:
        wait_for(lambda: len(list(begun.iterdir())) == 2)
        first = running()
        output("scancel", *first[:victims])
        if victims == 1:  # the replacement works while the fit of the other hangs
            stored = len(list(tmp_path.glob("out/*/units/*.json")))
            wait_for(lambda: len(list(tmp_path.glob("out/*/units/*.json"))) > stored)
            output("scancel", *(set(first) & set(running())))

    thread = threading.Thread(target=cancel)
    thread.start()
    result = higgsbench.run(two_models("long"), output=tmp_path / "out", cluster=cluster(), listener=notes)
    thread.join()
    assert result.failures == []
    assert sum("its slurm job" in line and "ended: C" in line for line in notes.lines) == 2, notes.lines
    assert none_left()


def test_a_memory_kill_names_the_log(
    two_models: TwoModels, misbehave: Misbehave, cluster: Cluster, begun: Path, tmp_path: Path, notes: Notes
) -> None:
    misbehave("large", "memory", times=1, folder=str(begun))
    file = cluster("1GB", 1)
    result = higgsbench.run(two_models("large"), output=tmp_path / "out", cluster=file, listener=notes)
    assert result.failures == []
    assert any("/logs/dask-worker-" in line and "emory" in line for line in notes.lines), notes.lines


def test_a_fit_longer_than_the_walltime_fails(
    two_models: TwoModels, misbehave: Misbehave, cluster: Cluster, begun: Path, tmp_path: Path
) -> None:
    misbehave("long", "hang", times=5, folder=str(begun))  # two twice, then one alone
    found = higgsbench.run(two_models("long"), output=tmp_path / "out", cluster=cluster(walltime="1min"))
    (failure,) = found.failures
    assert "failed three times, the last time alone: its slurm job" in failure.message
    assert "walltime 1min" in failure.message
    assert none_left()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"queue": "nope"}, "^slurm refuses the job: invalid partition specified: nope"),
        ({"memory": "500GB"}, "^slurm refuses the job: Memory specification can not be satisfied"),
        ({"interface": "ib0"}, "'ib0' is not a valid network interface"),
        ({"python": "/nowhere/python"}, r"ended: FAILED .*/nowhere/python.* before its worker .*3 times in a row"),
    ],
)
def test_jobs_that_cannot_work(
    config: Config, cluster: Cluster, tmp_path: Path, keys: dict[str, str], message: str
) -> None:
    with pytest.raises(HiggsbenchError, match=message):
        higgsbench.run(config(), output=tmp_path / "out", cluster=cluster(**keys))
    assert none_left()


def test_waiting_jobs_are_named_with_their_reason(cluster: Cluster) -> None:
    found = Batch(load_cluster(cluster(queue="stopped", workers=5)), 1, print)
    numbers = sorted(running(), key=int)
    output("scontrol", "hold", numbers[4])
    time.sleep(1.0)
    text = found.waiting()
    assert f"jobs {', '.join(numbers[:3])} and 1 more: PENDING (PartitionDown)" in text
    assert f"job {numbers[4]}: PENDING (JobHeldAdmin)" in text
    found.close()
    assert none_left()


def test_ctrl_c(cluster: Cluster, two_models: TwoModels, misbehave: Misbehave, begun: Path, tmp_path: Path) -> None:
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
    assert none_left()
