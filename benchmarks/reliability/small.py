"""The small run that all parts use (four rows, a stack, stored models), and the report."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import higgsbench
from benchmarks.common import REFERENCE, SectionedReport
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.files import ROWS, file_digest, parse_sealed
from higgsbench.runs import RunResult
from higgsbench.runs.store import RunStore

_TITLES = {
    "kills": "Killed runs",
    "dask": "Killed Dask workers and schedulers",
    "storage": "Disks, permissions, clocks and damaged files",
    "concurrency": "Several runs at once",
    "input": "Bad input",
}
_HEAD = (
    "# Reliability\n\nMade by `nox -s bench-reliability`, part by part. "
    "[docs/durability.md](../../docs/durability.md) says what is promised.\n"
)

write_section = SectionedReport(REFERENCE / "reliability.md", _HEAD, _TITLES).write


UNITS = 12
LONGER = 4000
"""Number of trees with which a run spends most of its time in fits, so that random kills hit fits."""

RESULTS = ("scores.parquet", "test_scores.parquet", "replicas.parquet", "stack.json", "predictor.json")
TIMINGS = ("fit_seconds", "predict_us", "peak_mb")
_CONFIG = """
name: small
data: {{path: {data}}}
models:
  - {{model: logistic, preset: quick}}
  - {{model: lightgbm, params: {{n_estimators: {trees}, num_leaves: 7}}}}
jet_split: both
folds: 3
seed: 5
"""


def prepare(folder: Path, events: int = 3000, trees: int = 25) -> Path:
    """Write simulated events and the configuration; return the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    data = write_simulated(SimulationSettings(events=events, seed=3), folder / "events.csv")
    config = folder / "small.yaml"
    config.write_text(_CONFIG.format(data=data.resolve(), trees=trees))
    return config


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines of standard error other than progress."""
        return [line for line in self.err.splitlines() if line.startswith(("Error", "Traceback", "Usage"))]

    @property
    def clear(self) -> bool:
        """Whether the command ended with a one-line error, exit code 2 and no traceback."""
        return self.code == 2 and len(self.errors) == 1 and self.errors[0].startswith("Error: ")


def cli(*args: str | Path) -> Answer:
    """Run a command in this process, because starting another takes longer."""
    from higgsbench.cli.main import main

    out, err, code = io.StringIO(), io.StringIO(), 1
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
        except SystemExit as done:
            code = done.code if isinstance(done.code, int) else 1
        except Exception as error:
            err.write(f"Traceback: {error!r}\n")
    return Answer(code, out.getvalue(), err.getvalue())


def start(*args: str | Path, env: Mapping[str, str] | None = None, before: Sequence[str] = (),
          program: Sequence[str] = ("-m", "higgsbench")) -> subprocess.Popen[str]:  # fmt: skip
    """Start a command, or another program of Python, in its own process group."""
    command = [*before, sys.executable, *program, *map(str, args)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **(env or {})},
    )


def end(process: subprocess.Popen[str], kill: bool = False) -> Answer:
    """Wait for a command, or kill it with all its children, and return its output."""
    if kill:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=600)
    return Answer(process.returncode, out, err)


def only_run(output: Path) -> Path | None:
    """Return the one run in a folder, or None."""
    found = [p for p in output.iterdir() if (p / "units").is_dir()] if output.is_dir() else []
    return found[0] if found else None


def wait_for_folder(process: subprocess.Popen[str], output: Path) -> float:
    """Wait until a run has created its folder, or has ended; return the time."""
    while only_run(output) is None and process.poll() is None:
        time.sleep(0.005)
    return time.monotonic()


def stored(run: Path | None) -> dict[str, int]:
    """Return the markers of a run with their modification times."""
    if run is None:
        return {}
    return {p.name: p.stat().st_mtime_ns for p in (run / "units").glob("[!.]*.json")}


def damaged_units(run: Path | None) -> list[str]:
    """Return the units whose marker names files that do not exist."""
    if run is None:
        return []
    store = RunStore(run)
    return [key for key in sorted(store.keys()) if store.read(key) is None]


def resume(config: Path, output: Path, **more: Any) -> RunResult:
    """Resume a run in this process."""
    return higgsbench.run(config, output=output, jobs=1, **more)


def rows(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run without timings."""
    content = parse_sealed((run / ROWS).read_bytes(), required=True)
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in content["rows"]]


def differences(run: Path, undisturbed: Path) -> list[str]:
    """Name the results that differ in any byte from the undisturbed run; rows are compared without timings."""
    out = [name for name in RESULTS if file_digest(run / name) != file_digest(undisturbed / name)]
    return out if rows(run) == rows(undisturbed) else [*out, ROWS]


def flipped(content: bytes, random_: random.Random) -> bytes:
    """Return the content with one bit flipped."""
    changed = bytearray(content)
    changed[random_.randrange(len(changed))] ^= 1 << random_.randrange(8)
    return bytes(changed)
