"""Cluster files and the batch jobs that come of them; no batch system is needed, where commands stand in for one."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from higgsbench.cli.main import main
from higgsbench.errors import ConfigError
from higgsbench.runs.engines import batch
from higgsbench.runs.engines.base import EngineError, load_cluster
from higgsbench.runs.engines.batch import Batch, array_script, job_script

dask = pytest.importorskip("dask", reason="the extra dask is not installed")
pytest.importorskip("dask_jobqueue", reason="the extra dask is not installed")

SHIPPED = Path(__file__).parents[3] / "configs" / "clusters"


def test_every_key_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "slurm.yaml"
    file.write_text("""
system: slurm
workers: 3
memory: 16GB
cores: 4
walltime: 1d
queue: long
account: atlas
directives: [--constraint=avx2]
prologue: [module load python/3.11]
python: /shared/bin/python
logs: logs
scratch: /scratch/me
""")
    found = job_script(load_cluster(file)).splitlines()
    memory = "#SBATCH --mem=15G"  # 16 * 10^9 bytes in Slurm's 2^30, rounded by dask-jobqueue
    assert {"#SBATCH -p long", "#SBATCH -A atlas", "#SBATCH --cpus-per-task=4", memory} <= set(found)
    assert "#SBATCH -t 24:00:00" in found
    assert "#SBATCH --constraint=avx2" in found
    assert found.index("module load python/3.11") < len(found) - 1
    assert "#SBATCH -o logs/dask-worker-%J.out" in found
    assert found[-1].startswith("/shared/bin/python -m distributed.cli.dask_worker")
    assert found[-2].startswith("TMPDIR=/scratch/me; ")
    assert found[-1].endswith(' --local-directory "$TMPDIR"')
    assert [path.name for path in tmp_path.iterdir()] == ["slurm.yaml"]  # no folder for the logs of a job that is shown


@pytest.mark.parametrize("system", ["slurm", "htcondor"])
def test_several_workers_a_container_and_a_folder_of_the_node(tmp_path: Path, system: str) -> None:
    (tmp_path / "cluster.yaml").write_text(
        f"system: {system}\n{'disk: 1GB' * (system != 'slurm')}\nmemory: 6GB\n"
        "workers: 6\nworkers_per_job: 3\ncores: 6\n"
        "python: apptainer exec image.sif python\nscratch: ${TMPDIR}/a/$USER\n"
    )
    config = load_cluster(tmp_path / "cluster.yaml")
    text, array = job_script(config), array_script(config, "quick", 2)
    assert "apptainer exec image.sif python -m distributed.cli.dask_worker" in text
    assert re.search("--nthreads 2 --memory-limit 1.86GiB --nworkers 3 --nanny", text)
    for script in (text, array):
        assert "TMPDIR=${TMPDIR:?}/a/${USER:?}; export TMPDIR; mkdir -p " in script
    assert "apptainer exec image.sif python -m higgsbench run quick --jobs 3 --part $" in array
    assert "/2" in array


def test_a_prologue_of_dask_jobqueue_stays(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(SLURM + "scratch: /scratch\n")
    config = load_cluster(tmp_path / "cluster.yaml")
    with dask.config.set({"jobqueue.slurm.job-script-prologue": ["module load site"]}):
        for script in (job_script(config), array_script(config, "quick", 1)):
            assert "\nmodule load site\nTMPDIR=/scratch; " in script


def test_an_htcondor_job() -> None:
    text = job_script(load_cluster(SHIPPED / "htcondor.yaml"))
    assert "MY.DaskWorkerMemory = 4000000000" in text
    assert "MY.DaskWorkerDisk = 2000000000" in text
    assert "+MaxRuntime = 7200" in text
    assert "distributed.cli.dask_worker tcp://SCHEDULER:8786" in text
    assert text.rstrip().endswith("Queue")


SLURM, CONDOR = (f"system: {system}\nworkers: 1\nmemory: 4GB\n" for system in ("slurm", "htcondor"))
REFUSED = {
    "system: lsf\nworkers: 1\nmemory: 4GB\n": "cluster.yaml:1: system: .*'slurm' or 'htcondor'",
    "system: slurm\nworkers: 0\nmemory: 4GB\n": "cluster.yaml:2: workers: ",
    "system: slurm\nworkers: 1\n": "the key 'memory' is missing",
    "system: slurm\nworkers: 1\nmemory: lots\n": "cluster.yaml:3: memory: 'lots' is not an amount of memory",
    "system: slurm\nworkers: 1\nmemory: 1KB\n": "cluster.yaml:3: memory: '1KB': a worker needs at least 100MB",
    SLURM + "walltime: soon\n": "cluster.yaml:4: walltime: 'soon' is not a duration",
    SLURM + "walltimes: 1h\n": "did you mean 'walltime'",
    SLURM + "disk: 2GB\n": "slurm has no key 'disk'",
    SLURM + "directives: {a: b}\n": "slurm takes a list of lines",
    SLURM + 'queue: "a\\nb"\n': "cluster.yaml:4: queue: ",
    SLURM + 'scratch: "/s $(id)"\n': "cluster.yaml:4: scratch: .*a job script takes only",
    SLURM + "scratch: ${TMPDIR\n": "cluster.yaml:4: scratch: .*and variables such as .TMPDIR",
    SLURM + "logs: a b\n": "cluster.yaml:4: logs: 'a b': a job script takes only",
    SLURM + "logs: $TMPDIR\n": "cluster.yaml:4: logs: '.TMPDIR': a job script takes only",
    SLURM + "python: env  python\n": "cluster.yaml:4: python: .*, with one space between words",
    SLURM + "python: python; id\n": "cluster.yaml:4: python: .*a job script takes only",
    SLURM + "workers_per_job: 2\n": "cluster.yaml:2: workers: 1 is not a multiple of `workers_per_job`, 2",
    SLURM.replace("1", "2")
    + "workers_per_job: 2\n": "cluster.yaml:4: workers_per_job: 2 workers need as many `cores`, not 1",
    SLURM.replace("1", "2").replace("4G", "0.1G")
    + "workers_per_job: 2\ncores: 2\n": "memory: .0.1GB.: a worker needs at least 100MB",
    CONDOR: "htcondor needs the disk of a job",
    CONDOR + "disk: 2GB\nqueue: x\n": "htcondor has no key 'queue'",
    CONDOR + "disk: 2GB\ndirectives: [a]\n": "htcondor takes keys and values",
    "- slurm\n": "expected keys and values",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_a_cluster_file_may_not_say(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(ConfigError, match=REFUSED[text]):
        load_cluster(tmp_path / "cluster.yaml")


def test_a_machine_that_cannot_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    config = load_cluster(SHIPPED / "slurm.yaml")
    with pytest.raises(EngineError, match="no command 'sbatch' here"):
        Batch(config, 1, print)
    with pytest.raises(ConfigError, match=r"4 threads per fit, but the cluster file has cores: 1$"):
        Batch(config, 4, print)
    more = config.model_copy(update={"cores": 6, "workers_per_job": 2})
    with pytest.raises(ConfigError, match="4 threads per fit, but the cluster file has cores: 6 for 2 workers"):
        Batch(more, 4, print)


def test_the_command_shows_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["cluster", str(SHIPPED / "slurm.yaml")])
    out, err = capsys.readouterr()
    found = out.splitlines()
    assert found[0].startswith("#!")
    wanted = {"#SBATCH -n 1", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=4G", "#SBATCH -t 02:00:00"}
    assert wanted <= set(found)
    assert "distributed.cli.dask_worker tcp://SCHEDULER:8786" in found[-1]
    assert "--nthreads 1" in found[-1]
    assert err == "20 jobs like this; SCHEDULER is filled in when a run begins.\n"


def test_ctrl_c_stays_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    for name in [name for name in sys.modules if name.startswith("dask_jobqueue")]:
        monkeypatch.delitem(sys.modules, name)
    job_script(load_cluster(SHIPPED / "slurm.yaml"))
    assert signal.getsignal(signal.SIGINT) is before


SUBMIT = """if [ -s refusal ]; then cat refusal >&2; exit 1; fi
n=1; while ! mkdir jobs/$n 2>/dev/null; do n=$((n+1)); done
echo {state} >jobs/$n/state; echo "{answer} $n"
"""
QUEUE = 'for job in jobs/*; do echo "$(basename $job){suffix} $(cat $job/state)"; done\n'
COMMANDS = {
    "sbatch": SUBMIT.format(state="PENDING Resources", answer="Submitted batch job"),
    "squeue": QUEUE.format(suffix=""),
    "condor_submit": SUBMIT.format(state="1 undefined", answer="1 job(s) submitted to cluster"),
    "condor_q": QUEUE.format(suffix=".0"),
}
Started = Callable[..., Batch]


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A batch system whose jobs are folders that hold their state; none of them ever runs."""
    (tmp_path / "jobs").mkdir()
    for name, text in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{text}")
    for name in ("scancel", "condor_rm"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/cancelled\n')
    for name in (*COMMANDS, "scancel", "condor_rm"):
        (tmp_path / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(batch, "_SOON", 0.0)
    monkeypatch.setattr(batch, "_SELDOM", 0.0)
    monkeypatch.setattr(batch, "_SETTLED", 0.1)
    return tmp_path / "jobs"


@pytest.fixture
def started(queue: Path, tmp_path: Path) -> Iterator[Started]:
    """Start a cluster of two jobs; its notes go to a list."""
    found: list[Batch] = []

    def start(notes: list[str], more: str = "system: slurm\n") -> Batch:
        text = f"workers: 2\nmemory: 1GB\nlogs: {tmp_path / 'logs'}\n"
        (tmp_path / "cluster.yaml").write_text(more + text)
        found.append(Batch(load_cluster(tmp_path / "cluster.yaml"), 1, notes.append))
        return found[-1]

    yield start
    for cluster in found:
        cluster.close()


CONDOR_FILE = "system: htcondor\ndisk: 1GB\n"


def set_state(queue: Path, number: int, state: str) -> None:
    (queue / str(number) / "state").write_text(state)


def fail(queue: Path) -> None:
    for job in queue.iterdir():
        set_state(queue, int(job.name), "FAILED None")


def come(cluster: Batch, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Say which workers the scheduler has."""
    info: dict[str, Any] = {f"tcp://{name}": {"name": name} for name in names}
    monkeypatch.setattr(cluster.cluster, "scheduler_info", {"workers": info})
    cluster.look()


@pytest.mark.parametrize(
    ("system", "state", "end"),
    [
        ("system: slurm\n", "TIMEOUT TimeLimit", r"its slurm job 1 ended: TIMEOUT \(TimeLimit\), set `walltime`"),
        (
            "system: slurm\n",
            "FAILED NonZeroExitCode",
            r"FAILED \(NonZeroExitCode\); .*logs/worker-1.err ends with 'died'",
        ),
        (
            CONDOR_FILE,
            "5 memory usage exceeded request",
            r"htcondor job 1.0 ended: HELD \(memory usage exceeded request\)",
        ),
    ],
)
def test_lost_jobs_are_replaced(
    started: Started, queue: Path, monkeypatch: pytest.MonkeyPatch, system: str, state: str, end: str
) -> None:
    cluster = started([], system)
    number = {job.number.removesuffix(".0"): name for name, job in cluster.jobs.items()}
    come(cluster, monkeypatch, number["1"], number["2"])
    set_state(queue, 1, state)
    (queue.parent / "logs" / "worker-1.err").write_text("begins\ndied\n\n")
    come(cluster, monkeypatch, number["2"])
    assert len(list(queue.iterdir())) == 3
    come(cluster, monkeypatch, number["2"])
    assert len(list(queue.iterdir())) == 3  # its replacement is in the queue
    assert re.search(end, cluster.why(f"tcp://{number['1']}"))
    assert cluster.why(f"tcp://{number['2']}") == ""  # its job goes on
    cluster.close()
    assert len((queue.parent / "cancelled").read_text().split()) == 3


def test_a_job_of_several_workers_is_there_while_one_is(
    started: Started, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = started([], "system: slurm\nworkers_per_job: 2\ncores: 2\n")
    (name,) = cluster.jobs
    come(cluster, monkeypatch, f"{name}-0", f"{name}-1")
    set_state(queue, 1, "FAILED None")
    come(cluster, monkeypatch, f"{name}-1")
    assert len(list(queue.iterdir())) == 1
    come(cluster, monkeypatch)
    assert len(list(queue.iterdir())) == 2
    assert cluster.why(f"tcp://{name}-0").startswith("its slurm job 1 ended: FAILED")


def test_jobs_that_end_before_their_workers_come(started: Started, queue: Path) -> None:
    notes: list[str] = []
    cluster = started(notes)
    for _ in range(2):
        fail(queue)
        cluster.look()
    fail(queue)
    with pytest.raises(EngineError, match=r"^slurm job \d+ ended: FAILED before its worker .*, 3 times in a row"):
        cluster.look()
    assert [note.split(" before ")[1] for note in notes] == ["its worker connected to the run; submitting another"] * 2
    assert len(list(queue.iterdir())) == 6


def test_refused_jobs(started: Started, queue: Path) -> None:
    notes: list[str] = []
    cluster = started(notes)
    (queue.parent / "refusal").write_text("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: failed\n")
    set_state(queue, 1, "CANCELLED None")
    cluster.look()
    cluster.look()
    asked = "slurm job 1 ended: CANCELLED before its worker connected to the run; submitting another"
    assert notes == [
        asked,
        "slurm refuses a job: QOSMaxSubmitJobPerUserLimit; failed; the run continues with fewer workers",
    ]
    with pytest.raises(EngineError, match=r"^slurm refuses the job: QOSMaxSubmitJobPerUserLimit; failed$"):
        started(notes)


def test_what_the_queue_says_while_a_run_waits(started: Started, queue: Path) -> None:
    assert started([]).waiting() == "jobs 1, 2: PENDING (Resources)"
    for job in queue.iterdir():
        (job / "state").unlink()
        job.rmdir()
    condor = started([], CONDOR_FILE)
    set_state(queue, 2, "5 no file x.sub")
    assert condor.waiting() == "job 1.0: IDLE; job 2.0: HELD (no file x.sub)"


def test_an_interface_that_is_not_there(started: Started) -> None:
    with pytest.raises(EngineError, match=r"cannot start: .*'ib99' is not a valid network interface"):
        started([], "system: slurm\ninterface: ib99\n")


def test_a_folder_of_logs_that_cannot_be_made(started: Started, tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(ConfigError, match=r"logs for `logs` cannot be made"):
        started([])


@pytest.mark.parametrize(
    ("name", "begins", "part", "last"),
    [
        ("slurm", "#!/usr/bin/env bash", "$SLURM_ARRAY_TASK_ID", "/bin/python -m higgsbench run quick --jobs 1 --part"),
        ("htcondor", "#!/usr/bin/env condor_submit", "$(part)", "Queue part in (1, 2, 3, "),
    ],
)
def test_an_array_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    begins: str,
    part: str,
    last: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        main(["cluster", str(SHIPPED / f"{name}.yaml"), "--array", "quick"])
    out, err = capsys.readouterr()
    found = out.splitlines()
    assert found[0] == begins
    assert f"-m higgsbench run quick --jobs 1 --part {part}/20" in out
    assert ("#SBATCH --array=1-20" in found) == (name == "slurm")
    assert last in found[-1]
    assert err.endswith("when all tasks are done: higgsbench run quick\n")


def test_no_more_jobs_than_fits(queue: Path, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("system: slurm\nworkers: 9\nmemory: 1GB\n")
    Batch(load_cluster(tmp_path / "cluster.yaml"), 1, print, jobs=2).close()
    assert len(list(queue.iterdir())) == 2
    assert sorted((tmp_path / "cancelled").read_text().split()) == ["1", "2"]
