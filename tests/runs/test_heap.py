"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import pytest

from higgsbench.runs import heap


@pytest.mark.parametrize(
    ("events", "platform", "calls"), [(10**6, "linux", 1), (1000, "linux", 0), (10**6, "win32", 0)]
)
def test_only_where_much_was_freed_and_the_library_can(
    events: int, platform: str, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=seen.append))
    heap.give_back(events)
    assert len(seen) == calls


def test_a_library_without_it_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    heap.give_back(10**6)
