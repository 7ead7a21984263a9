"""Cluster files and the batch jobs that come of them; no batch system is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from higgsbench.cli.main import main
from higgsbench.errors import ConfigError
from higgsbench.runs.engines.base import EngineError, job_script, load_cluster, start_cluster

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
    assert "--local-directory /scratch/me" in found[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["slurm.yaml"]  # no folder for the logs of a job that is shown


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
    SLURM + "logs: a b\n": "cluster.yaml:4: logs: 'a b': a job script takes only",
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
        start_cluster(config, 1)
    with pytest.raises(ConfigError, match="4 threads per fit, but the cluster file has cores: 1"):
        start_cluster(config, 4)


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
