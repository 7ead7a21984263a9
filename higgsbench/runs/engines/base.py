"""What every engine shares: its settings, the batch systems that bring workers, and what a unit returns."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from higgsbench.config.document import format_duration, format_size, parse_size, read_yaml
from higgsbench.config.load import validated
from higgsbench.config.section import Duration, MemorySize, Strict, problem
from higgsbench.errors import ConfigError, HiggsbenchError, MissingExtraError
from higgsbench.runs.environment import available_cores
from higgsbench.runs.unit import UnitResult

ENGINES = ("local", "serial", "dask")

_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"),
)
_LAST_WORDS = 0.5  # seconds that a worker past its time limit has to record where it is
_Message = TypeVar("_Message")


class EngineError(HiggsbenchError):
    """An engine cannot be started, or was lost as a whole."""


@dataclass(frozen=True)
class EngineSettings:
    """How the units of a run are executed; nothing here changes a score or the identity of a unit."""

    jobs: int | None = 1  # units at a time; None takes every worker of a given Dask cluster
    threads: int = 1  # of each unit
    engine: str | None = None  # of `ENGINES`; None is `local`, or `serial` with one job and no limits
    scheduler: str | None = None  # address of a Dask scheduler, or its scheduler file; None starts workers here
    cluster: ClusterConfig | None = None  # batch system that brings Dask workers
    unit_time_limit: float | None = None  # seconds after which a unit is ended
    unit_memory_limit: int | None = None  # bytes of private memory at which a unit is ended

    @property
    def elsewhere(self) -> bool:
        """Whether a scheduler or a batch system provides the workers."""
        return self.scheduler is not None or self.cluster is not None

    @property
    def limited(self) -> bool:
        """Whether a unit may be ended."""
        return self.unit_time_limit is not None or self.unit_memory_limit is not None

    @property
    def kind(self) -> str:
        """The name of the engine."""
        default = "dask" if self.elsewhere else "serial" if self.jobs == 1 and not self.limited else "local"
        return self.engine or default

    @property
    def jobs_here(self) -> int:
        """How many units run on this machine at a time."""
        return 0 if self.elsewhere else self.jobs or available_cores()

    def check(self) -> None:
        """Check that the choices go together and that the engine's libraries are installed.

        Raises:
            ConfigError: for choices that do not go together.
            MissingExtraError: if a library is not installed.
        """
        if self.kind not in ENGINES:
            raise ConfigError(f"engine {self.engine!r}: choose from {', '.join(ENGINES)}")
        if self.scheduler is not None and self.cluster is not None:
            raise ConfigError("--scheduler names a running cluster and --cluster starts one; give one of them")
        if self.elsewhere and self.kind != "dask":
            raise ConfigError(f"--engine {self.engine} does not take a scheduler or cluster; use --engine dask")
        if self.limited and self.kind == "serial":
            raise ConfigError(
                "limits on a unit need a process that can be ended: use --engine local (with --jobs 1 for one at a "
                "time) instead of serial"
            )
        needed = ["distributed"] * (self.kind == "dask") + ["dask_jobqueue"] * (self.cluster is not None)
        if not all(map(importlib.util.find_spec, needed)):
            raise MissingExtraError("the engine dask", "dask")

    def worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a Python process whose libraries are limited to `threads` threads.

        Raises:
            OSError: if the system cannot start it.
        """
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(self.threads))},
            process_group=0,  # its own, which Ctrl-C in a terminal does not reach
        )

    def exceeded(self, seconds: float, memory: float) -> str:
        """Say which limit a unit exceeds after so many seconds, with so many bytes; empty if none."""
        if self.unit_memory_limit is not None and memory > self.unit_memory_limit:
            return f"exceeded the unit memory limit of {format_size(self.unit_memory_limit)}"
        if self.unit_time_limit is not None and seconds > self.unit_time_limit + _LAST_WORDS:
            return f"exceeded the unit time limit of {format_duration(self.unit_time_limit)}"
        return ""


@dataclass(frozen=True)
class Lost:
    """A unit whose worker went away before the unit was finished."""

    key: str
    reason: str  # what is known about it, in one sentence
    details: str = ""  # more lines, such as where the worker was


Outcome = UnitResult | Lost


def failed_unit(key: str, reason: str, details: str = "") -> UnitResult:
    """Return the result of a unit that failed; the reason is the first line of its text and the last."""
    text = f"{reason}\n\n{details.rstrip()}\n\n{reason}" if details.strip() else reason
    return UnitResult.failed(key, text)


def next_message(source: queue.SimpleQueue[_Message]) -> _Message:
    """Wait for a message in short steps, because on some systems Ctrl-C cannot interrupt an endless wait."""
    while True:
        with contextlib.suppress(queue.Empty):
            return source.get(timeout=0.5)


_PLAIN, _VARIABLE = r"[\w./~%+:@,=\-]", r"\$(?:[A-Za-z_]\w*|{[A-Za-z_]\w*})"


def _copied(pattern: str, more: str = "") -> AfterValidator:
    """Accept what a job script can contain as it is, in directives and in shell commands."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise problem(f"{value!r}: a job script takes only letters, digits and ./~%+:@,=_-{more}")
        return value

    return AfterValidator(check)


Line = Annotated[str, Field(min_length=1, pattern=r"^[^\r\n\x00]*$")]
Word = Annotated[Line, _copied(f"{_PLAIN}+")]
Command = Annotated[Line, _copied(f"{_PLAIN}+( {_PLAIN}+)*", ", with one space between words")]
NodeFolder = Annotated[Line, _copied(f"({_PLAIN}|{_VARIABLE})+", " and variables such as $TMPDIR")]


class ClusterConfig(Strict):
    """Jobs of a batch system that start workers; each worker runs one fit at a time."""

    system: Literal["slurm", "htcondor"]
    workers: Annotated[int, Field(ge=1, le=10_000)]  # of all jobs together
    workers_per_job: Annotated[int, Field(ge=1, le=1024)] = 1
    memory: MemorySize  # of each job, e.g. `4GB`
    cores: Annotated[int, Field(ge=1, le=1024)] = 1  # of each job; at least the run's `threads` for each worker
    walltime: Duration | None = None
    """Time of each job, e.g. `2h` (Slurm); the fit of a job that ends is repeated elsewhere."""
    queue: Word | None = None  # partition (Slurm)
    account: Word | None = None  # (Slurm)
    disk: MemorySize | None = None  # of each job (HTCondor)
    directives: list[Line] | dict[Line, Line] | None = None
    """Further lines, e.g. `--constraint=avx2` (Slurm), or keys and values (HTCondor)."""
    prologue: list[Line] = Field(default_factory=list)
    """Shell commands before a worker starts, e.g. `module load python` (Slurm)."""
    python: Command | None = None
    """Interpreter on the nodes, e.g. `apptainer exec image.sif python`; by default the path of this one."""
    logs: Word | None = None  # folder for the jobs' output
    scratch: NodeFolder | None = None
    """Folder on the nodes for events and temporary files, e.g. `$SLURM_TMPDIR`, whose value is that on the node."""
    interface: Word | None = None  # network interface on which the nodes reach this machine, e.g. `ib0`

    @model_validator(mode="after")
    def _of_its_system(self) -> ClusterConfig:
        foreign = {"slurm": ("disk",), "htcondor": ("walltime", "queue", "account", "prologue")}[self.system]
        for key in foreign:
            if getattr(self, key):
                raise problem(f"{self.system} has no key {key!r}; its own options go into `directives`", key)
        if self.workers % self.workers_per_job:
            raise problem(f"{self.workers} is not a multiple of `workers_per_job`, {self.workers_per_job}", "workers")
        if self.cores < self.workers_per_job:
            raise problem(f"{self.workers_per_job} workers need as many `cores`, not {self.cores}", "workers_per_job")
        if parse_size(self.memory) < 10**8 * self.workers_per_job:
            raise problem(f"{self.memory!r}: a worker needs at least 100MB", "memory")
        if self.system == "htcondor" and self.disk is None:
            raise problem("htcondor needs the disk of a job, e.g. `disk: 2GB`")
        kind, words = (list, "a list of lines") if self.system == "slurm" else (dict, "keys and values")
        if self.directives is not None and not isinstance(self.directives, kind):
            raise problem(f"directives: {self.system} takes {words}", "directives")
        return self

    @property
    def jobs(self) -> int:
        """Number of jobs."""
        return self.workers // self.workers_per_job


def load_cluster(source: str | Path) -> ClusterConfig:
    """Read a cluster file.

    Raises:
        ConfigError: naming the file, line and key.
    """
    document = read_yaml(Path(source).expanduser())
    if not isinstance(document.value, dict):
        raise ConfigError(f"{document.source}: expected keys and values (system, workers, memory, ...)")
    return validated(document, ClusterConfig)
