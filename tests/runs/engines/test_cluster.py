"""Cluster files and the batch jobs that come of them; no batch system is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from higgsbench.cli.main import main
from higgsbench.errors import ConfigError
from higgsbench.runs.engines.base import EngineError, job_script, load_cluster, start_cluster

pytest.importorskip("dask_jobqueue", reason="the extra dask is not installed")

SHIPPED = Path(__file__).parents[3] / "configs" / "clusters"


def lines(file: Path) -> list[str]:
    return job_script(load_cluster(file)).splitlines()


def test_a_slurm_job() -> None:
    found = lines(SHIPPED / "slurm.yaml")
    assert found[0].startswith("#!")
    wanted = {"#SBATCH -n 1", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=4G", "#SBATCH -t 02:00:00"}
    assert wanted <= set(found)
    assert "distributed.cli.dask_worker tcp://SCHEDULER:8786" in found[-1]
    assert "--nthreads 1" in found[-1]


def test_every_key_of_slurm(tmp_path: Path) -> None:
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
    found = lines(file)
    memory = "#SBATCH --mem=15G"  # 16 * 10^9 bytes in Slurm's 2^30, rounded by dask-jobqueue
    assert {"#SBATCH -p long", "#SBATCH -A atlas", "#SBATCH --cpus-per-task=4", memory} <= set(found)
    assert "#SBATCH -t 24:00:00" in found
    assert "#SBATCH --constraint=avx2" in found
    assert found.index("module load python/3.11") < len(found) - 1
    assert "#SBATCH -o logs/dask-worker-%J.out" in found
    assert found[-1].startswith("/shared/bin/python -m distributed.cli.dask_worker")
    assert "--local-directory /scratch/me" in found[-1]


def test_a_job_that_is_only_looked_at_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "slurm.yaml"
    file.write_text("system: slurm\nworkers: 3\nmemory: 16GB\nlogs: logs\n")
    assert "#SBATCH -o logs/dask-worker-%J.out" in lines(file)
    assert [path.name for path in tmp_path.iterdir()] == ["slurm.yaml"]


def test_an_htcondor_job() -> None:
    text = job_script(load_cluster(SHIPPED / "htcondor.yaml"))
    assert "MY.DaskWorkerMemory = 4000000000" in text
    assert "MY.DaskWorkerDisk = 2000000000" in text
    assert "+MaxRuntime = 7200" in text
    assert "distributed.cli.dask_worker tcp://SCHEDULER:8786" in text
    assert text.rstrip().endswith("Queue")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("system: lsf\nworkers: 1\nmemory: 4GB\n", "cluster.yaml:1: system: .*'slurm' or 'htcondor'"),
        ("system: slurm\nworkers: 0\nmemory: 4GB\n", "cluster.yaml:2: workers: "),
        ("system: slurm\nworkers: 1\n", "the key 'memory' is missing"),
        ("system: slurm\nworkers: 1\nmemory: lots\n", "cluster.yaml:3: memory: 'lots' is not an amount of memory"),
        (
            "system: slurm\nworkers: 1\nmemory: 4GB\nwalltime: soon\n",
            "cluster.yaml:4: walltime: 'soon' is not a duration",
        ),
        ("system: slurm\nworkers: 1\nmemory: 4GB\ndisk: 2GB\n", "slurm has no key 'disk'"),
        ("system: htcondor\nworkers: 1\nmemory: 4GB\n", "htcondor needs the disk of a job"),
        ("system: htcondor\nworkers: 1\nmemory: 4GB\ndisk: 2GB\nqueue: x\n", "htcondor has no key 'queue'"),
        ("system: htcondor\nworkers: 1\nmemory: 4GB\ndisk: 2GB\ndirectives: [a]\n", "htcondor takes keys and values"),
        ("system: slurm\nworkers: 1\nmemory: 4GB\ndirectives: {a: b}\n", "slurm takes a list of lines"),
        ('system: slurm\nworkers: 1\nmemory: 4GB\nqueue: "a\\nb"\n', "cluster.yaml:4: queue: "),
        (
            "system: slurm\nworkers: 1\nmemory: 1KB\n",
            "cluster.yaml:3: memory: '1KB': a worker needs at least 100MB",
        ),
        (
            'system: slurm\nworkers: 1\nmemory: 4GB\nscratch: "/s $(id)"\n',
            "cluster.yaml:4: scratch: .*a job script takes only",
        ),
        (
            "system: slurm\nworkers: 1\nmemory: 4GB\nlogs: a b\n",
            "cluster.yaml:4: logs: 'a b': a job script takes only",
        ),
        ("system: slurm\nworkers: 1\nmemory: 4GB\nwalltimes: 1h\n", "did you mean 'walltime'"),
        ("- slurm\n", "expected keys and values"),
    ],
)
def test_what_a_cluster_file_may_not_say(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_cluster(file)


def test_a_machine_that_cannot_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    config = load_cluster(SHIPPED / "slurm.yaml")
    with pytest.raises(EngineError, match="no command 'sbatch' here"):
        start_cluster(config, 1)
    with pytest.raises(ConfigError, match="4 threads per fit, the cluster file for cores: 1"):
        start_cluster(config, 4)


def test_the_command_shows_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["cluster", str(SHIPPED / "slurm.yaml")])
    out, err = capsys.readouterr()
    assert exit_.value.code == 0
    assert out.startswith("#!")
    assert err == "20 jobs like this; SCHEDULER is filled in when a run begins.\n"
