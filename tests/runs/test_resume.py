"""A run that is killed goes on where it stopped and ends with the same scores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import higgsbench


def start(config: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "higgsbench", "run", str(config), "--output", str(output), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=dict(os.environ)
    )


def wait_for_units(process: subprocess.Popen[str], output: Path, count: int) -> int:
    """Wait until that many units are stored or the run is over; return how many there are."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        done = len(list(output.glob("*/units/[!.]*.json")))
        if done >= count or process.poll() is not None:
            return done
        time.sleep(0.005)
    raise TimeoutError(f"no {count} units after two minutes")


def unit_times(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("units/[!.]*.json")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(("units", "jobs"), [(1, 1), (4, 2), (9, 1), (11, 2)])
def test_killed_at_several_moments(
    config: Callable[..., Path],
    tmp_path: Path,
    undisturbed: dict[str, pl.DataFrame],
    units: int,
    jobs: int,
) -> None:
    path = config()
    if not undisturbed:
        whole = higgsbench.run(path, output=tmp_path / "whole", jobs=1)
        undisturbed["scores"] = pl.read_parquet(whole.folder / "scores.parquet")
    output = tmp_path / "killed"
    process = start(path, output, "--jobs", str(jobs))
    stored = wait_for_units(process, output, units)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert stored >= units
    (folder,) = output.iterdir()
    before = unit_times(folder)
    again = higgsbench.run(path, output=output, jobs=1)
    assert again.folder == folder
    assert again.reused == len(before)
    assert again.trained == 12 - len(before)
    assert {k: v for k, v in unit_times(folder).items() if k in before} == before
    assert pl.read_parquet(folder / "scores.parquet").equals(undisturbed["scores"])
    assert not list(folder.rglob(".tmp-*"))
    assert list(output.iterdir()) == [folder]


def test_a_unit_without_its_marker_does_not_count(config: Callable[..., Path], tmp_path: Path) -> None:
    first = higgsbench.run(config(), output=tmp_path, jobs=1)
    next(iter(sorted((first.folder / "units").glob("*.json")))).unlink()
    (first.folder / "rows.json").unlink()
    again = higgsbench.run(config(), output=tmp_path, jobs=1)
    assert (again.trained, again.reused) == (1, 11)
