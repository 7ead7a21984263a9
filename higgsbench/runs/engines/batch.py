"""Submit, watch, replace and cancel the jobs of a batch system that start Dask workers for a run.

dask-jobqueue writes the jobs. Its clusters neither report a refused job nor notice one that ended in the queue, so the
commands of the batch system are called here.
"""

from __future__ import annotations

import contextlib
import math
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from higgsbench.config.document import parse_duration, parse_size
from higgsbench.errors import ConfigError, MissingExtraError
from higgsbench.runs.engines.base import ClusterConfig, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class _System(NamedTuple):
    cluster: str  # class of dask-jobqueue
    submit: str  # command, whose presence is checked
    number: str  # pattern of the job's number in what the command prints
    queue: str  # command that prints number, state and reason of jobs, one job a line
    separator: str  # between the numbers of jobs


_SYSTEMS = {
    "slurm": _System(
        "SLURMCluster", "sbatch", r"(\d+)", "squeue --noheader --states=all --format='%i %T %r' --jobs", ","
    ),
    "htcondor": _System(
        "HTCondorCluster",
        "condor_submit",
        r"submitted to cluster (\d+)",
        "condor_q -af JobId JobStatus HoldReason",
        " ",
    ),
}
_CONDOR_STATES = dict(enumerate(("IDLE", "RUNNING", "REMOVED", "COMPLETED", "HELD", "RUNNING", "SUSPENDED"), 1))
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REMOVED", "REVOKED", "TIMEOUT"),
}
_SOON, _SELDOM = 2.0, 30.0  # seconds between two looks at the queue: after a change, and when nothing happens
_ANSWER = 60.0  # seconds in which the batch system must answer
_SETTLED = 3.0  # seconds to wait for the end of a job whose worker has left
_BARREN = 3  # times that jobs may end before their workers connect
_TOGETHER = 8  # jobs that are submitted at a time


def _arguments(config: ClusterConfig) -> dict[str, Any]:
    """Return the arguments of dask-jobqueue; its own configuration files supply the others."""
    minutes = 0 if config.walltime is None else max(1, round(parse_duration(config.walltime) / 60))
    values = {
        "cores": config.cores,
        "processes": config.workers_per_job,
        "memory": f"{parse_size(config.memory)}B",
        "python": config.python,
        "log_directory": config.logs,
        "local_directory": '"$TMPDIR"' if config.scratch else None,
        "job_extra_directives": config.directives,
        # Without --no-nanny: a worker that dies is started again inside the job.
        "nanny": True,
        "disk": None if config.disk is None else f"{parse_size(config.disk)}B",
        "queue": config.queue,
        "account": config.account,
        "walltime": f"{minutes // 60:02d}:{minutes % 60:02d}:00" if minutes else None,
        "job_script_prologue": _prologue(config) or None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _prologue(config: ClusterConfig) -> list[str]:
    """Return the commands before the worker; a variable in `scratch` that the node does not set ends the job."""
    import dask

    lines = config.prologue or dask.config.get(f"jobqueue.{config.system}.job-script-prologue") or []
    if config.scratch is None:
        return list(lines)
    scratch = re.sub(r"\$\{?(\w+)\}?", r"${\1:?}", config.scratch)
    return [*lines, f'TMPDIR={scratch}; export TMPDIR; mkdir -p "$TMPDIR"']


def _job_class(system: str) -> Any:
    """Return a class of dask-jobqueue, whose import sets a handler of Ctrl-C that ends the process with exit code 0."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue
    except ImportError as error:
        raise MissingExtraError("a batch system", "dask") from error
    if signal.getsignal(signal.SIGINT) is not handler:
        signal.signal(signal.SIGINT, handler)
    return getattr(dask_jobqueue, _SYSTEMS[system].cluster).job_cls


def job_script(config: ClusterConfig) -> str:
    """Return the job that would be submitted, with SCHEDULER in place of the address.

    Raises:
        MissingExtraError: if dask-jobqueue is not installed.
    """
    there = config.logs is None or Path(config.logs).exists()
    job = _job_class(config.system)(scheduler="tcp://SCHEDULER:8786", name="higgsbench", **_arguments(config))
    script = str(job.job_script())
    if not there:  # dask-jobqueue has made it
        with contextlib.suppress(OSError):
            Path(str(config.logs)).rmdir()
    return script


def array_script(config: ClusterConfig, run: str, threads: int) -> str:
    """Return an array job whose tasks train the parts of a run without a Dask scheduler.

    Args:
        config: the jobs and their number; each task runs as many fits at a time as a job has workers.
        run: configuration of the run, as on the command line.
        threads: threads of each fit.

    Raises:
        ConfigError: if a fit would have fewer cores than threads.
        MissingExtraError: if dask-jobqueue is not installed.
    """
    _check_cores(config, threads)
    job = _job_class(config.system)(scheduler="", name="higgsbench", job_name="higgsbench", **_arguments(config))
    task = "$SLURM_ARRAY_TASK_ID" if config.system == "slurm" else "$(part)"
    command = f"{config.python or sys.executable} -m higgsbench run {shlex.quote(run)} --jobs {config.workers_per_job}"
    commands = [*_prologue(config), f"{command} --part {task}/{config.jobs}"]
    if config.system == "slurm":
        lines = [job.shebang, "", job.job_header, f"#SBATCH --array=1-{config.jobs}", *commands]
    else:
        from dask_jobqueue.htcondor import quote_arguments

        parts = ", ".join(map(str, range(1, config.jobs + 1)))
        lines = [job.shebang, "", *(f"{key} = {value}" for key, value in job.job_header_dict.items())]
        lines += [
            f'Arguments = "{quote_arguments(["-c", "; ".join(commands)])}"',
            "Executable = /bin/sh",
            f"Queue part in ({parts})",
        ]
    return "\n".join(lines)


def _check_cores(config: ClusterConfig, threads: int) -> None:
    if config.cores < threads * config.workers_per_job:
        for_all = f" for {config.workers_per_job} workers" * (config.workers_per_job > 1)
        raise ConfigError(
            f"the run asks for {threads} threads per fit, but the cluster file has cores: {config.cores}{for_all}"
        )


@dataclass
class _Job:
    number: str
    addresses: set[str] = field(default_factory=set)  # of the workers that have connected
    here: bool = False  # whether one of them is there
    state: str = "PENDING"
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will not start workers any more; HTCondor may hold a job because of what its fit did."""
        return not self.here and (self.state in _ENDED or (self.state == "HELD" and bool(self.addresses)))

    @property
    def status(self) -> str:
        """State and reason in the words of the batch system."""
        return self.state + f" ({self.reason})" * (self.reason not in ("", "None"))


class Batch:
    """A scheduler in this process, and the jobs that start its workers.

    Args:
        config: the jobs.
        threads: threads of each fit.
        say: receives notes for the user.
        jobs: fits at a time, if fewer than `config.workers`.

    Raises:
        ConfigError: if a fit would have fewer cores than threads.
        EngineError: if this machine cannot submit jobs, or the batch system refuses them.
    """

    def __init__(
        self, config: ClusterConfig, threads: int, say: Callable[[str], None], jobs: int | None = None
    ) -> None:
        self.config, self.say, self.system = config, say, _SYSTEMS[config.system]
        _check_cores(config, threads)
        if shutil.which(self.system.submit) is None:
            raise EngineError(
                f"no command {self.system.submit!r} here: start the run on a machine that submits {config.system} jobs"
            )
        self.job_class = _job_class(config.system)
        if config.logs is not None:
            try:
                Path(config.logs).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"the folder {config.logs} for `logs` cannot be made: {error.strerror}") from error
        self.wanted = min(config.jobs, math.ceil((jobs or config.workers) / config.workers_per_job))
        self.name = f"higgsbench-{secrets.token_hex(3)}"
        self.cluster = _scheduler(config)
        self.jobs: dict[str, _Job] = {}  # by the name that its workers' names begin with
        self.submitted = self.barren = 0
        self.refusal = ""
        self.pause = self.next = 0.0
        self.pool = ThreadPoolExecutor(_TOGETHER)
        try:
            self._fill()
        except BaseException:
            self.close()
            raise

    def look(self) -> None:
        """See which workers are there, and ask for jobs in place of those that ended.

        Raises:
            EngineError: if jobs end again and again before their workers connect, or the batch system refuses new ones.
        """
        present = defaultdict[str, set[str]](set)
        for address, worker in dict(self.cluster.scheduler_info["workers"]).items():
            present["-".join(worker["name"].split("-")[:3])].add(address)
        for name, job in self.jobs.items():
            if name in present and not job.addresses:
                self.barren = 0
            if job.here and name not in present:
                self.pause = self.next = 0.0
            job.here = name in present
            job.addresses |= present.get(name, set())
        if len(present) < self.wanted and time.monotonic() >= self.next:
            self.pause = min(max(2 * self.pause, _SOON), _SELDOM)
            self.next = time.monotonic() + self.pause
            self._replace()

    def _replace(self) -> None:
        absent = [job for job in self.jobs.values() if not job.here and not job.ended]
        self._ask(absent)
        barren = [job for job in absent if job.ended and not job.addresses]
        if barren:
            self.barren += 1
            end = f"{self._end(barren[-1])} before its worker connected to the run"
            if self.barren < _BARREN:
                self.say(f"{end}; submitting another")
            elif any(job.here for job in self.jobs.values()):
                self.say(f"{end}; no more jobs are submitted")
            else:
                raise EngineError(f"{end}, {_BARREN} times in a row; check the job with `higgsbench cluster FILE`")
        if self.barren < _BARREN or all(job.ended for job in self.jobs.values()):
            self._fill()

    def _fill(self) -> None:
        """Submit the jobs that are missing; an error if the batch system refuses them and no other is there."""
        alive = sum(not job.ended for job in self.jobs.values())
        before, self.refusal = self.refusal, ""
        numbers = range(self.submitted, self.submitted + max(self.wanted - alive, 0))
        self.submitted = numbers.stop
        list(self.pool.map(self._submit, numbers))
        if self.refusal and all(job.ended for job in self.jobs.values()):
            raise EngineError(f"{self.config.system} refuses the job: {self.refusal}")
        if self.refusal and self.refusal != before:
            self.say(f"{self.config.system} refuses a job: {self.refusal}; the run continues with fewer workers")

    def _submit(self, index: int) -> None:
        if self.refusal:
            return
        name = f"{self.name}-{index}"
        scheduler = self.cluster.scheduler.contact_address or self.cluster.scheduler_address
        job = self.job_class(scheduler=scheduler, name=name, **_arguments(self.config))
        with job.job_file() as file:
            done = _called([*shlex.split(job.submit_command), file])
        found = re.search(self.system.number, done.stdout)
        if done.returncode == 0 and found:
            self.jobs[name] = _Job(found[1] + ".0" * (self.config.system == "htcondor"))
        else:
            lines = [re.sub(r"^\w+: error: ", "", line.strip()) for line in (done.stderr or done.stdout).splitlines()]
            self.refusal = "; ".join(filter(None, lines)) or f"{self.system.submit} ends with code {done.returncode}"

    def _ask(self, jobs: Iterable[_Job]) -> None:
        """Ask the batch system for the state of jobs; one that it does not list has ended."""
        asked = {job.number: job for job in jobs}
        if not asked:
            return
        try:
            done = _called([*shlex.split(self.system.queue), self.system.separator.join(asked)])
        except subprocess.TimeoutExpired:
            return
        if done.returncode and "Invalid job id" not in done.stderr:
            return  # it does not answer now
        listed = {words[0]: words[1:] for line in done.stdout.splitlines() if len(words := line.split(None, 2)) > 1}
        for number, job in asked.items():
            state, *reason = listed.get(number, ["COMPLETED"])
            job.state = _CONDOR_STATES.get(int(state), state) if state.isdigit() else state
            job.reason = reason[0] if reason and reason[0] != "undefined" else ""

    def _end(self, job: _Job) -> str:
        """Say how a job ended, with the last words of its log."""
        text = f"{self.config.system} job {job.number} ended: {job.status}"
        if job.state == "TIMEOUT" or job.reason == "TimeLimit":
            text += f", walltime {self.config.walltime}" if self.config.walltime else ", set `walltime`"
        folder = Path(self.config.logs or ".")
        for file in (*folder.glob(f"*-{job.number}.err"), *folder.glob(f"slurm-{job.number}.out")):
            lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
            last = [line for line in lines if line.startswith("slurmstepd")] or lines
            if last:
                text += f"; {file} ends with {last[-1].strip()!r:.300}"
        return text

    def why(self, address: str) -> str:
        """Say how the job of a worker ended; empty if it still runs."""
        job = next((job for job in self.jobs.values() if address in job.addresses), None)
        deadline = time.monotonic() + _SETTLED
        while job is not None and time.monotonic() < deadline:
            self._ask([job])
            if job.state in _ENDED or job.state == "HELD":
                return f"its {self._end(job)}"
            time.sleep(0.5)
        return ""

    def waiting(self) -> str:
        """Say which jobs are in the queue, and why they wait."""
        alive = sorted((job for job in self.jobs.values() if not job.ended), key=lambda job: float(job.number))
        self._ask(alive)
        groups: dict[str, list[str]] = {}
        for job in alive:
            groups.setdefault(job.status, []).append(job.number)
        return "; ".join(
            f"job{'s' * (len(numbers) > 1)} {', '.join(numbers[:3])}"
            + f" and {len(numbers) - 3} more" * (len(numbers) > 3)
            + f": {status}"
            for status, numbers in groups.items()
        )

    def close(self) -> None:
        """Cancel the jobs and end the scheduler."""
        self.pool.shutdown(cancel_futures=True)  # a job being submitted gets its number first
        numbers = [job.number for job in self.jobs.values()]  # also of ended jobs: they may be held or queued again
        if numbers:
            command = "scancel" if self.config.system == "slurm" else "condor_rm"
            with contextlib.suppress(subprocess.TimeoutExpired):
                _called([command, *numbers])
        self.cluster.close(timeout=10)


def _scheduler(config: ClusterConfig) -> Any:
    """Start a scheduler that the nodes can reach."""
    import dask
    from distributed import Scheduler, SpecCluster

    own = dask.config.get(f"jobqueue.{config.system}", {})
    options = {"dashboard": False, "dashboard_address": "127.0.0.1:0", "interface": own.get("interface")}
    options |= own.get("scheduler-options") or {}
    if config.interface is not None:
        options["interface"] = config.interface
    try:
        return SpecCluster(scheduler={"cls": Scheduler, "options": options}, name="higgsbench")
    except (RuntimeError, OSError) as error:
        raise EngineError(f"the Dask scheduler of {config.system} jobs cannot start: {error}") from error


def _called(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Call a command of the batch system, out of reach of Ctrl-C in a terminal."""
    return subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_ANSWER, process_group=0
    )
