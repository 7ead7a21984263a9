"""The progress bar pooch drives."""

from __future__ import annotations

import http.server
import io
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from rich.progress import Progress

from higgsbench.cli.data import _PoochProgress
from higgsbench.events.fetch import download

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "file.bin").write_bytes(bytes(300_000))
    handler = partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=partial(running.serve_forever, poll_interval=0.01))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/file.bin"
        running.shutdown()
        thread.join()


def test_it_counts_to_the_end_at_each_attempt(address: str, tmp_path: Path) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress(console=screen) as bar:
        progress = _PoochProgress(bar)
        for attempt in range(2):
            target = tmp_path / "got" / f"{attempt}.bin"
            download(address, target, timeout=5.0, progress=progress)
            assert target.stat().st_size == 300_000
            task = bar.tasks[0]
            assert (task.completed, task.total, task.description) == (300_000, 300_000, "verifying")
