"""Fetching against a local server that misbehaves in every way a server can."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import threading
import zipfile
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from rich.console import Console
from rich.progress import Progress

from higgsbench.cli.data import _PoochProgress
from higgsbench.errors import DataError
from higgsbench.events import load_events
from higgsbench.events.fetch import PUBLIC, PublicSet, download, fetch_public, opendata_path, public_set
from higgsbench.events.simulate import SimulationSettings, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Fetch = Callable[..., Any]

EVENTS = 300
OFFICIAL = PUBLIC["atlas-higgs-2014"]


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return simulate(SimulationSettings(events=EVENTS, seed=3))


@pytest.fixture(scope="module")
def content(frame: pl.DataFrame) -> bytes:
    return gzip.compress(frame.write_csv().encode(), mtime=0)


@pytest.fixture(scope="module")
def small(frame: pl.DataFrame) -> PublicSet:
    """The official data set with fewer events."""
    return replace(OFFICIAL, events=EVENTS, subsets=dict(frame.group_by("KaggleSet").len().iter_rows()))


@dataclass
class Server:
    """A server on this machine; `answers` maps a path to what it does."""

    url: str
    release: threading.Event
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(content: bytes) -> Iterator[Server]:
    release = threading.Event()
    middle = len(content) // 2

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def send(self, body: bytes, *, status: int = 200, length: int | None = -1, **headers: str) -> None:
            self.send_response(status)
            if length is not None:
                self.send_header("Content-Length", str(len(body) if length == -1 else length))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def stall(self) -> None:
            self.send(content[:middle], length=len(content))
            release.wait(20)

        def do_GET(self) -> None:
            path = self.path
            asked.append(path)
            broken = content[:middle] + bytes(64) + content[middle + 64 :]
            answers: dict[str, Callable[[], object]] = {
                "/whole": lambda: self.send(content),
                "/encoded": lambda: (
                    self.send(content, Content_Encoding="gzip")
                    if "gzip" in self.headers.get("Accept-Encoding", "")
                    else self.send(content)
                ),
                "/redirect": lambda: self.send(b"", status=302, Location="/whole"),
                "/circle": lambda: self.send(b"", status=302, Location="/circle"),
                "/elsewhere": lambda: self.send(b"", status=302, Location="ftp://127.0.0.1/whole"),
                "/error": lambda: self.send(b"sorry", status=500),
                "/forbidden": lambda: self.send(b"no", status=403),
                "/flaky": lambda: self.send(content, status=200 if asked.count(path) > 1 else 503),
                "/truncated": lambda: self.send(content[:middle], length=len(content)),
                "/mended": lambda: self.send(content[: None if asked.count(path) > 1 else middle], length=len(content)),
                "/cut": lambda: self.send(content[:middle], length=None),
                "/corrupted": lambda: self.send(broken),
                "/page": lambda: self.send(b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n"),
                "/empty": lambda: self.send(b""),
                "/slow": lambda: release.wait(20),
                "/stalled": self.stall,
            }
            answers.get(path, lambda: self.send(b"nothing here", status=404))()

    asked: list[str] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=partial(running.serve_forever, poll_interval=0.01))
        thread.start()
        yield Server(f"http://127.0.0.1:{running.server_address[1]}", release, asked)
        release.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def fetch(small: PublicSet, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr("higgsbench.events.fetch.time.sleep", lambda _: None)
    return partial(fetch_public, small, timeout=5.0)


def left_over(cache: Path) -> list[str]:
    return sorted(str(p.relative_to(cache)) for p in cache.rglob("*") if p.is_file())


@pytest.mark.parametrize("path", ["/whole", "/redirect", "/encoded"])
def test_a_good_answer(fetch: Fetch, server: Server, content: bytes, cache: Path, path: str) -> None:
    fetched = fetch(server.url + path)
    assert fetched.fresh
    assert fetched.path == cache / "opendata" / OFFICIAL.file
    assert fetched.path.read_bytes() == content
    assert fetched.sha256 == hashlib.sha256(content).hexdigest()
    assert opendata_path() == fetched.path
    assert len(load_events(opendata_path())) == EVENTS


@pytest.mark.parametrize(
    ("path", "message", "requests"),
    [
        ("/missing", "404 Not Found; use --from with a mirror", 1),
        ("/forbidden", "403 Forbidden; use --from with a mirror", 1),
        ("/circle", "redirects in circles", 31),
        ("/elsewhere", "redirected to one", 1),
        ("/error", "500 Internal Server Error after 3 attempts", 3),
        ("/truncated", "broke off before the file was complete after 3 attempts", 3),
        ("/cut", "not the CERN Open Data file: .*", 1),
        ("/corrupted", "not the CERN Open Data file: .*", 1),
        ("/page", "not the CERN Open Data file: it: unknown column", 1),
        ("/empty", "the file is empty", 1),
    ],
)
def test_wrong_downloads_are_refused(
    fetch: Fetch, server: Server, cache: Path, path: str, message: str, requests: int
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        fetch(server.url + path)
    assert server.url + path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.asked) == requests
    assert left_over(cache) == []


@pytest.mark.parametrize(("path", "message"), [("/slow", "no answer within 0.2"), ("/stalled", "no data for 0.2")])
def test_silence_ends_after_the_timeout(fetch: Fetch, server: Server, cache: Path, path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fetch(server.url + path, timeout=0.2, attempts=2)
    assert server.asked == [path, path]
    assert left_over(cache) == []


@pytest.mark.parametrize("path", ["/flaky", "/mended"])
def test_a_second_attempt_helps(fetch: Fetch, server: Server, path: str) -> None:
    assert fetch(server.url + path).rows == EVENTS
    assert len(server.asked) == 2


def test_the_progress_bar_counts_to_the_end_at_each_attempt(
    server: Server, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("higgsbench.events.fetch._CHUNK", 1000)
    with Progress(console=Console(file=io.StringIO(), force_terminal=True, width=100)) as bar:
        progress = _PoochProgress(bar)
        for attempt in range(2):
            download(server.url + "/whole", tmp_path / f"{attempt}.gz", timeout=5.0, progress=progress)
            task = bar.tasks[0]
            assert (task.completed, task.total, task.description) == (len(content), len(content), "verifying")


def test_what_the_cache_holds_is_not_brought_again(fetch: Fetch, server: Server, tmp_path: Path) -> None:
    first = fetch(server.url + "/whole")
    again = fetch()
    assert not again.fresh
    assert (again.path, again.sha256, again.source) == (first.path, first.sha256, first.source)
    assert len(server.asked) == 1
    assert fetch(server.url + "/redirect").fresh  # a source that is named is used


def test_a_failure_keeps_the_good_file(fetch: Fetch, server: Server, content: bytes) -> None:
    fetch(server.url + "/whole")
    with pytest.raises(DataError):
        fetch(server.url + "/corrupted")
    assert opendata_path().read_bytes() == content


def test_damaged_cache_is_noticed(small: PublicSet, server: Server, content: bytes) -> None:
    here = replace(small, url=server.url + "/whole")
    path = fetch_public(here).path
    path.write_bytes(content[:-1] + b"?")
    assert fetch_public(here).fresh
    assert path.read_bytes() == content
    path.write_bytes(content[:100])
    with pytest.raises(DataError, match="higgsbench data fetch"):
        opendata_path()


def test_not_fetched_yet() -> None:
    with pytest.raises(DataError, match="run: higgsbench data fetch"):
        opendata_path()


class TestFiles:
    @pytest.mark.parametrize("name", ["download.csv.gz", "unpacked-by-a-browser.csv"])
    def test_a_manual_download(self, fetch: Fetch, content: bytes, tmp_path: Path, name: str) -> None:
        file = tmp_path / name
        file.write_bytes(content if name.endswith("gz") else gzip.decompress(content))
        assert fetch(str(file)).path.read_bytes() == file.read_bytes()
        assert len(load_events(opendata_path())) == EVENTS

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("nowhere.csv.gz", "no such file"),
            ("ftp://host/file", "only http:// and https://"),
            ("http://127.0.0.1:9", "no connection to the server after 2 attempts"),
        ],
    )
    def test_what_cannot_be_a_source(self, fetch: Fetch, source: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            fetch(source, attempts=2)

    def test_output_gets_a_copy(self, fetch: Fetch, content: bytes, tmp_path: Path) -> None:
        file = tmp_path / "in.csv.gz"
        file.write_bytes(content)
        fetch(str(file), output=tmp_path / "out.csv.gz")
        fetch(output=tmp_path)
        assert (tmp_path / "out.csv.gz").read_bytes() == (tmp_path / OFFICIAL.file).read_bytes() == content
        with pytest.raises(DataError, match="cannot be written"):
            fetch(output=tmp_path / "no" / "file.csv.gz")


def scaled(label: str, frame: pl.DataFrame) -> pl.DataFrame:
    factor = pl.when(pl.col("Label") == label).then(1.01).otherwise(1.0)
    return frame.with_columns(pl.col("KaggleWeight") * factor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.head(EVENTS - 1), "299 events instead of 300: it is cut off"),
        (lambda f: f.with_columns(KaggleSet=pl.lit("t")), r"KaggleSet \w holds"),
        (lambda f: f.drop("KaggleSet", "KaggleWeight"), "has no column KaggleSet"),
        (partial(scaled, "s"), "KaggleWeight of label s in KaggleSet . sums to"),
        (partial(scaled, "b"), "KaggleWeight of label b in KaggleSet . sums to"),
    ],
    ids=["rows", "sets", "columns", "signal", "background"],
)
def test_other_content_is_refused(fetch: Fetch, frame: pl.DataFrame, tmp_path: Path, change: Any, message: str) -> None:
    change(frame).write_csv(tmp_path / "offered.csv")
    with pytest.raises(DataError, match=message):
        fetch(str(tmp_path / "offered.csv"))


def test_the_official_addresses() -> None:
    assert OFFICIAL.url.endswith(f"/record/328/files/{OFFICIAL.file}")
    assert sum(OFFICIAL.subsets.values()) == OFFICIAL.events == 818_238
    assert len({public.file for public in PUBLIC.values()}) == len(PUBLIC)
    with pytest.raises(DataError, match=r"uci-higs: not a public data set.*did you mean 'uci-higgs'.*uci-susy"):
        public_set("uci-higs")


class TestArchives:
    """Data sets whose file is in a zip archive."""

    @pytest.fixture
    def higgs(self, tmp_path: Path) -> PublicSet:
        """The data set of a made-up archive."""
        row = ",".join(["1.0"] + 28 * ["0.5"]) + "\n"
        with zipfile.ZipFile(tmp_path / "higgs.zip", "w") as archive:
            archive.writestr("higgs/HIGGS.csv.gz", gzip.compress(3 * row.encode()))
        return replace(PUBLIC["uci-higgs"], events=3)

    def test_the_file_is_taken_out(self, higgs: PublicSet, tmp_path: Path, cache: Path) -> None:
        fetched = fetch_public(higgs, str(tmp_path / "higgs.zip"))
        assert (fetched.rows, fetched.path.name, len(load_events(fetched.path))) == (3, "HIGGS.csv.gz", 3)
        assert left_over(cache / "opendata") == ["HIGGS.csv.gz", "HIGGS.csv.gz.json"]
        assert fetch_public(higgs, str(fetched.path)).rows == 3  # a file that was taken out by hand

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"member": "SUSY.csv.gz"}, "the archive has no file SUSY.csv.gz; it has higgs/HIGGS.csv.gz"),
            ({"events": 4}, "3 events instead of 4: it is cut off, or another file"),
            ({"name": "uci-susy"}, "not HIGGS of the UCI repository: it"),
        ],
    )
    def test_what_is_refused(
        self, higgs: PublicSet, tmp_path: Path, cache: Path, change: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            fetch_public(replace(higgs, **change), str(tmp_path / "higgs.zip"))
        assert left_over(cache) == []

    def test_a_damaged_archive(self, higgs: PublicSet, tmp_path: Path) -> None:
        file = tmp_path / "higgs.zip"
        content = bytearray(file.read_bytes())
        content[60:80] = bytes(20)
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"higgs.zip: damaged archive: Bad CRC"):
            fetch_public(higgs, str(file))


class TestDOI:
    """Data sets of a repository that states addresses and checksums."""

    @pytest.fixture
    def answer(self, server: Server, content: bytes, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What the repository answers about the record."""
        checksum = f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"
        found = {"key": "x.csv.gz", "checksum": checksum, "links": {"self": server.url + "/whole"}}
        record = {"id": 7, "files": [found]}
        repository = "pooch.downloaders.ZenodoRepository"
        monkeypatch.setattr("pooch.downloaders.doi_to_url", lambda doi, **_: "https://zenodo.org/records/7")
        monkeypatch.setattr(f"{repository}.api_response", property(lambda _: record))
        return found

    def test_address_and_checksum(self, small: PublicSet, answer: dict[str, Any], content: bytes) -> None:
        fetched = fetch_public(replace(small, url="doi:10.1234/zenodo.7/x.csv.gz"))
        assert fetched.path.read_bytes() == content

    def test_wrong_answers(self, small: PublicSet, answer: dict[str, Any], cache: Path) -> None:
        with pytest.raises(DataError, match=r"doi:10.1234/zenodo.7/y.csv.gz: .*'y.csv.gz' not found"):
            fetch_public(replace(small, url="doi:10.1234/zenodo.7/y.csv.gz"))
        answer["checksum"] = "md5:0123"
        with pytest.raises(DataError, match="does not have the checksum 0123 of the repository"):
            fetch_public(replace(small, url="doi:10.1234/zenodo.7/x.csv.gz"))
        assert left_over(cache) == []
