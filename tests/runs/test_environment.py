"""What this process may use: cores and memory of the machine and of its control groups."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from higgsbench.runs import environment


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up machine with eight cores and no control groups."""
    monkeypatch.setattr(environment, "_GROUPS", tmp_path)
    monkeypatch.setattr(environment, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


V1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        # Version 2: a container sees its own group as the root; outside, the group has a path.
        ({"own": "0::/\n", "cpu.max": "200000 100000\n"}, 2),
        ({"own": "0::/\n", "cpu.max": "max 100000\n"}, 8),
        ({"own": "0::/\n", "cpu.max": "150000 100000\n"}, 2),
        ({"own": "0::/\n", "cpu.max": "5000 100000\n"}, 1),
        ({"own": "0::/\n", "cpu.max": "9900000 100000\n"}, 8),
        ({"own": "0::/user/job\n", "user/job/cpu.max": "300000 100000\n"}, 3),
        # The quota of a group above holds as well.
        ({"own": "0::/user/job\n", "user/cpu.max": "200000 100000\n", "user/job/cpu.max": "max 100000\n"}, 2),
        ({"own": "0::/../../other\n", "cpu.max": "200000 100000\n"}, 2),
        # Version 1: the path holds outside a container and is missing inside.
        ({"own": V1, "cpu/docker/abc/cpu.cfs_quota_us": "400000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, 4),
        ({"own": V1, "cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 1),
        ({"own": V1, "cpu,cpuacct/cpu.cfs_quota_us": "7\n", "cpu,cpuacct/cpu.cfs_period_us": "2\n"}, 4),
        ({"own": V1, "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"own": V1, "cpu/cpu.cfs_quota_us": "200000\n"}, 8),
        ({"own": V1, "cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "0\n"}, 8),
        ({"own": "0::/\n", "cpu.max": "nonsense"}, 8),
    ],
)
def test_cores_within_the_quota_of_control_groups(groups: Path, files: dict[str, str], cores: int) -> None:
    put(groups, files)
    assert environment.available_cores() == cores
    assert environment.environment()["cores"] == cores


def test_jobs_keep_to_the_quota(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from higgsbench.api import running
    from higgsbench.runs.run import Listener

    jobs: list[int] = []
    monkeypatch.setattr(running, "run_config", lambda loaded, output, settings, *_, **__: jobs.append(settings.jobs))
    put(groups, {"own": "0::/\n", "cpu.max": "200000 100000\n"})
    for chosen in (None, 5):
        running.run({"models": ["logistic"]}, jobs=chosen, listener=Listener())
    assert jobs == [2, 5]


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"own": "0::/job\n", "job/memory.max": "3000\n", "job/memory.current": "1000\n"}, 2000),
        ({"own": "0::/job\n", "memory.max": "3000\n", "memory.current": "2500\n", "job/memory.max": "max\n"}, 500),
        ({"own": "0::/\n", "memory.max": "1000\n", "memory.current": "3000\n"}, 0),
        ({"own": "0::/\n", "memory.max": "max\n", "memory.current": "3000\n"}, None),
        ({"own": V1, "memory/memory.limit_in_bytes": "3000\n", "memory/memory.usage_in_bytes": "1000\n"}, 2000),
        ({"own": V1, "memory/memory.limit_in_bytes": "3000\n"}, None),
    ],
)
def test_memory_within_the_limit_of_control_groups(
    groups: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], free: int | None
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    put(groups, files)
    assert environment.available_memory() == (10_000 if free is None else free)


@pytest.mark.parametrize(
    ("events", "platform", "calls"), [(10**6, "linux", 1), (1000, "linux", 0), (10**6, "win32", 0)]
)
def test_freed_memory_goes_back(events: int, platform: str, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=seen.append))
    environment.give_back(events)
    assert len(seen) == calls
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    environment.give_back(events)
