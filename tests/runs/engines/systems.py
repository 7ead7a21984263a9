"""Batch systems that tests start on this machine: Slurm as root, HTCondor as any other user."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.runs.engines.conftest import wait_for


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True)
class System:
    """A batch system; its name is that in a cluster file.

    Attributes:
        daemons: commands that start it.
        status: command that prints `ready` when it can start jobs.
        keys: keys that every cluster file needs.
        submit, queue, cancel: commands that submit a file, print the numbers of the jobs, and cancel a job.
        variable: environment variable that only jobs have.
    """

    name: str
    daemons: tuple[str, ...]
    status: str
    ready: str
    keys: dict[str, str]
    submit: str
    queue: str
    cancel: str
    variable: str

    def running(self) -> list[str]:
        return sorted(set(output(*self.queue.split()).split()), key=float)

    def none_left(self) -> bool:
        wait_for(lambda: not self.running(), 5)  # some may be completing
        return True

    @contextlib.contextmanager
    def started(self, home: Path) -> Iterator[System]:
        """Start its daemons with their state in a folder; skip the test where that is not possible."""
        missing = [command for command in self.daemons if not shutil.which(command.split()[0])]
        if missing or (os.geteuid() == 0) != (self.name == "slurm"):
            pytest.skip(f"needs {', '.join(missing)}" if missing else "Slurm starts as root, HTCondor as another user")
        for name in ("state", "spool", "log", "run", "lock", "execute"):
            (home / name).mkdir()
        text = Path(__file__).with_name(f"{self.name}.conf.in").read_text().replace("@HERE@", str(home))
        (home / "conf").write_text(text.replace("@HOST@", output("hostname", "-s")))
        if self.name == "slurm":
            _prepare_munge()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF" if self.name == "slurm" else "CONDOR_CONFIG", str(home / "conf"))
            daemons = []
            for command in self.daemons:
                daemons.append(subprocess.Popen(command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                time.sleep(0.5)
            status = self.status.split()
            wait_for(lambda: self.ready in subprocess.run(status, capture_output=True, text=True, check=False).stdout)
            yield self
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait()


def _prepare_munge() -> None:
    key = Path("/etc/munge/munge.key")
    if not key.exists():
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
    Path("/run/munge").mkdir(0o755, parents=True, exist_ok=True)
    for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge", "/etc/munge"):
        output("chown", "-R", "munge:munge", folder)


SLURM = System(
    name="slurm",
    daemons=("runuser -u munge -- munged --foreground --force", "slurmctld -D", "slurmd -D"),
    status="sinfo",
    ready="idle",
    keys={},
    submit="sbatch",
    queue="squeue --noheader --format=%A",
    cancel="scancel",
    variable="SLURM_JOB_ID",
)
CONDOR = System(
    name="htcondor",
    daemons=("condor_master -f",),
    status="condor_status -af State",
    ready="Unclaimed",
    keys={"disk": "100MB"},
    submit="condor_submit",
    queue="condor_q -af JobId",
    cancel="condor_rm",
    variable="_CONDOR_SLOT",
)
