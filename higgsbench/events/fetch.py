"""Bring the challenge's file from CERN Open Data (or a mirror, or a manual download) into the cache, checked."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.cache import cache_dir
from higgsbench.events.read import read_table
from higgsbench.files import atomic_path, file_digest, write_json
from higgsbench.schema import ATLAS_HIGGS, N_B, N_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "EXPECTED_SHA256",
    "OPENDATA",
    "OPENDATA_NAME",
    "OPENDATA_URL",
    "Expectation",
    "Fetched",
    "PermanentError",
    "TransientError",
    "download",
    "fetch_opendata",
    "opendata_path",
]


_CHUNK = 1 << 16
_RETRY_STATUS = (408, 425, 429)


class PermanentError(Exception):
    """Trying the same address again will not help."""


class TransientError(Exception):
    """Trying again may help."""


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from telling where it stores what, which is our temporary folder."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def download(url: str, place: Path, *, timeout: float, progress: Any = False) -> None:
    """Download an address to a path that does not exist yet.

    Args:
        url: http or https address; redirections are followed.
        place: file to write; absent after a failure.
        timeout: seconds without a byte after which to give up.
        progress: progress bar in pooch's sense, or False.

    Raises:
        PermanentError: if the server does not have the file or refuses it.
        TransientError: if the server or the connection failed.
    """
    import pooch
    import requests

    # Identity: a server that marks the .gz as compressed in transit would make requests unpack it on the way.
    headers = {"Accept-Encoding": "identity", "User-Agent": "higgsbench"}
    downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=_CHUNK, timeout=timeout, headers=headers)
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(url, known_hash=None, fname=place.name, path=place.parent, downloader=downloader)
    except requests.exceptions.HTTPError as error:
        raise _status_error(error.response) from None
    except requests.exceptions.Timeout as error:
        raise TransientError(f"no answer within {timeout:g} seconds") from error
    except requests.exceptions.TooManyRedirects as error:
        raise PermanentError("the server redirects in circles") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise PermanentError("not a valid address, or redirected to one") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise TransientError("the connection broke off before the file was complete") from error
    except requests.exceptions.SSLError as error:
        raise PermanentError("the server's certificate could not be verified") from error
    except requests.exceptions.ConnectionError as error:
        # A timeout between two blocks of the body arrives under this name, too.
        late = "timed out" in str(error).lower()
        raise TransientError(f"no data for {timeout:g} seconds" if late else "no connection to the server") from error
    except requests.exceptions.RequestException as error:
        raise TransientError(f"the download failed ({type(error).__name__})") from error


def _status_error(response: Any) -> Exception:
    status = int(response.status_code)
    text = f"the server answered {status} {response.reason or ''}".rstrip()
    response.close()
    return TransientError(text) if status >= 500 or status in _RETRY_STATUS else PermanentError(text)


OPENDATA_NAME = "atlas-higgs-challenge-2014-v2.csv.gz"

OPENDATA_URL = f"https://opendata.cern.ch/record/328/files/{OPENDATA_NAME}"
"""CERN Open Data record 328, DOI 10.7483/OPENDATA.ATLAS.ZBP2.M5T8, public domain (CC0)."""

EXPECTED_SHA256: str | None = None
"""SHA-256 of the official file. None until someone has confirmed it; the content is then checked by `OPENDATA`."""


@dataclass(frozen=True)
class Expectation:
    """What the content of the file must be.

    Attributes:
        rows: number of events.
        subsets: number of events in each KaggleSet.
        n_s: sum of the signal's KaggleWeight in each of the sets in `normalised`.
        n_b: likewise of the background.
        normalised: sets whose weights add up to the totals.
        tolerance: relative tolerance of the sums; rounding in the file is far below, a lost block of rows far above.
    """

    rows: int = 818_238
    subsets: Mapping[str, int] = field(default_factory=lambda: {"t": 250_000, "b": 100_000, "v": 450_000, "u": 18_238})
    n_s: float = N_S
    n_b: float = N_B
    normalised: tuple[str, ...] = ("t", "b", "v")
    tolerance: float = 1e-3


OPENDATA = Expectation()
"""The official file."""


@dataclass(frozen=True)
class Fetched:
    """Where the file is and what is known about it.

    Attributes:
        path: the verified file in the cache.
        source: where it came from.
        sha256: digest of its bytes.
        size: bytes.
        rows: number of events.
        fresh: whether this call brought it (False: it was there already).
    """

    path: Path
    source: str
    sha256: str
    size: int
    rows: int
    fresh: bool


def _target() -> Path:
    return cache_dir() / "opendata" / OPENDATA_NAME


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _known(path: Path) -> Fetched | None:
    """Return the record of a cached file if there is one and the file has its size."""
    try:
        record: dict[str, Any] = json.loads(_record_of(path).read_bytes())
        if path.stat().st_size != record["size"]:
            return None
        return Fetched(path, record["source"], record["sha256"], record["size"], record["rows"], fresh=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def opendata_path() -> Path:
    """Return the verified file in the cache.

    Raises:
        DataError: if it has not been fetched yet, or is no longer whole.
    """
    known = _known(_target())
    if known is None:
        raise DataError(f"the CERN Open Data file is not in the cache ({_target()}); run: higgsbench data fetch")
    return known.path


def fetch_opendata(
    source: str | None = None,
    *,
    output: Path | None = None,
    force: bool = False,
    timeout: float = 60.0,
    attempts: int = 3,
    wait: float = 2.0,
    progress: Any = False,
    expected: Expectation = OPENDATA,
    sha256: str | None = EXPECTED_SHA256,
) -> Fetched:
    """Bring the file into the cache, unless it is there, and verify it.

    Args:
        source: another address, or a file already downloaded; None takes CERN Open Data. A source that is given
            replaces what the cache holds.
        output: also copy the verified file here.
        force: bring the file even if the cache holds it.
        timeout: seconds without an answer or a byte after which an attempt is given up.
        attempts: how often to try where trying again can help.
        wait: seconds before the second attempt, doubled before each further one.
        progress: progress bar in pooch's sense (`total`, `update`, `reset`, `close`), or False.
        expected: what the content must be.
        sha256: digest the bytes must have, or None.

    Returns:
        Where the file is and what is known about it.

    Raises:
        DataError: one line that names the source and what is wrong with it.
    """
    target = _target()
    known = None if source or force else _known(target)
    if known is None or file_digest(known.path) != known.sha256:
        known = _bring(source or OPENDATA_URL, target, _Tries(attempts, timeout, wait, progress), expected, sha256)
    if output is not None:
        _copy(known.path, output)
    return known


@dataclass(frozen=True)
class _Tries:
    attempts: int
    timeout: float
    wait: float
    progress: Any


def _bring(source: str, target: Path, tries: _Tries, expected: Expectation, sha256: str | None) -> Fetched:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=target.parent) as folder:
            arrived = _obtain(source, Path(folder) / OPENDATA_NAME, tries)
            digest = file_digest(arrived)
            if sha256 is not None and digest != sha256:
                raise DataError(f"{source}: SHA-256 is {digest}, expected {sha256}: damaged, or another version")
            _check_content(arrived, source, expected)
            size = arrived.stat().st_size
            _record_of(target).unlink(missing_ok=True)
            arrived.replace(target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error
    fetched = Fetched(target, source, digest, size, expected.rows, fresh=True)
    record = {key: value for key, value in asdict(fetched).items() if key not in ("path", "fresh")}
    write_json(_record_of(target), record)
    return fetched


def _obtain(source: str, place: Path, tries: _Tries) -> Path:
    """Download an address or copy a file to a private place."""
    if "://" in source:
        if not source.lower().startswith(("http://", "https://")):
            raise DataError(f"{source}: only http:// and https:// addresses can be fetched, or a file by its path")
        return _download(source, place, tries)
    file = Path(source).expanduser()
    if not file.is_file():
        raise DataError(f"{source}: no such file (an address starts with https://)")
    try:
        shutil.copyfile(file, place)
    except OSError as error:
        raise DataError(f"{source}: cannot be copied: {error.strerror or error}") from error
    return place


def _download(url: str, place: Path, tries: _Tries) -> Path:
    for attempt in range(1, tries.attempts + 1):
        try:
            download(url, place, timeout=tries.timeout, progress=tries.progress)
        except PermanentError as error:
            raise DataError(f"{url}: {error}; give a mirror or a file already downloaded with --from") from error
        except TransientError as error:
            if attempt == tries.attempts:
                tried = f"after {attempt} attempts" if attempt > 1 else "at the only attempt"
                raise DataError(f"{url}: {error} {tried}; try again later, or give --from a mirror or file") from error
            time.sleep(tries.wait * 2 ** (attempt - 1))
        else:
            break
    return place


def _check_content(file: Path, source: str, expected: Expectation) -> None:
    try:
        frame, _ = read_table(file, ATLAS_HIGGS)
    except DataError as error:
        raise DataError(f"{source}: not the CERN Open Data file: {str(error).replace(str(file), 'it')}") from error
    for name in ("Label", "Weight", "KaggleSet", "KaggleWeight"):
        if name not in frame.columns:
            raise DataError(f"{source}: not the CERN Open Data file: it has no column {name}")
    if frame.height != expected.rows:
        raise DataError(f"{source}: {frame.height:,} events instead of {expected.rows:,}: cut off, or another file")
    counts = dict(frame.group_by("KaggleSet").len().iter_rows())
    for name, count in expected.subsets.items():
        if counts.get(name, 0) != count:
            raise DataError(f"{source}: KaggleSet {name} holds {counts.get(name, 0):,} events instead of {count:,}")
    _check_sums(frame, source, expected)


def _check_sums(frame: pl.DataFrame, source: str, expected: Expectation) -> None:
    sums = {
        (subset, label): total
        for subset, label, total in frame.group_by("KaggleSet", "Label").agg(pl.col("KaggleWeight").sum()).iter_rows()
    }
    for subset in expected.normalised:
        for label, wanted in (("s", expected.n_s), ("b", expected.n_b)):
            found = sums.get((subset, label), 0.0)
            if not abs(found - wanted) <= expected.tolerance * wanted:
                raise DataError(
                    f"{source}: KaggleWeight of label {label} in KaggleSet {subset} sums to {found:.6g} instead of "
                    f"{wanted:.6g}: the content is damaged"
                )


def _copy(file: Path, output: Path) -> None:
    target = output.expanduser()
    if target.is_dir():
        target = target / file.name
    try:
        with atomic_path(target) as temporary:
            shutil.copyfile(file, temporary)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error
