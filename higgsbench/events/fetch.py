"""Fetch the challenge's file from CERN Open Data (or a mirror, or a manual download) into the cache and check it.

A file gets its final name only after its content has been verified; a record beside it says what was verified.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.cache import cache_dir
from higgsbench.events.read import EventStream
from higgsbench.files import atomic_path, file_digest, write_json
from higgsbench.schema import ATLAS_HIGGS, N_B, N_S

if TYPE_CHECKING:
    from collections.abc import Mapping

OPENDATA_NAME = "atlas-higgs-challenge-2014-v2.csv.gz"
OPENDATA_URL = f"https://opendata.cern.ch/record/328/files/{OPENDATA_NAME}"
"""CERN Open Data record 328, DOI 10.7483/OPENDATA.ATLAS.ZBP2.M5T8, public domain (CC0)."""

_CHUNK = 1 << 16
_LONGEST_PAUSE = 10.0
_RETRY_STATUS = (408, 425, 429)
_NORMALISED = ("t", "b", "v")  # sets whose weights add up to the totals ...
_TOLERANCE = 1e-3  # ... within this share: rounding in the file is far below, a lost block of rows far above


@dataclass(frozen=True)
class Expectation:
    """What the content of the file must be: the number of events, and that in each KaggleSet."""

    rows: int = 818_238
    subsets: Mapping[str, int] = field(default_factory=lambda: {"t": 250_000, "b": 100_000, "v": 450_000, "u": 18_238})


OPENDATA = Expectation()
"""The official file."""


@dataclass(frozen=True)
class Fetched:
    """Where the file is and what is known about it."""

    path: Path  # the verified file in the cache
    source: str  # where it came from
    sha256: str  # digest of its bytes
    size: int  # bytes
    rows: int  # number of events
    fresh: bool  # whether this call fetched it (False: it was there already)


def _target() -> Path:
    return cache_dir() / "opendata" / OPENDATA_NAME


def _record() -> Path:
    return _target().with_name(f"{OPENDATA_NAME}.json")


def _known() -> Fetched | None:
    """Return the record of the cached file if there is one and the file has its size."""
    try:
        known = Fetched(path=_target(), fresh=False, **json.loads(_record().read_bytes()))
        return known if known.path.stat().st_size == known.size else None
    except (OSError, ValueError, TypeError):
        return None


def opendata_path() -> Path:
    """Return the verified file in the cache; a `DataError` says how to fetch it."""
    known = _known()
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
    progress: Any = False,
    expected: Expectation = OPENDATA,
) -> Fetched:
    """Put the file into the cache, unless it is there, and verify it.

    Args:
        source: another address, or a file already downloaded; None takes CERN Open Data. A source that is given
            replaces what the cache holds.
        output: also copy the verified file here.
        force: get the file even if the cache holds it.
        timeout: give up an attempt after this many seconds without an answer or a byte.
        attempts: maximum number of attempts for errors that may be temporary, with pauses of 1 s, 2 s, ...
        progress: progress bar in pooch's sense (`total`, `update`, `reset`, `close`), or False.
        expected: what the content must be.

    Raises:
        DataError: one line that names the source and what is wrong with it.
    """
    target = _target()
    known = None if source or force else _known()
    chosen = source or OPENDATA_URL
    try:
        if known is None or file_digest(known.path) != known.sha256:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".tmp-", dir=target.parent) as folder:
                arrived = Path(folder) / OPENDATA_NAME
                if "://" in chosen:
                    download(chosen, arrived, timeout=timeout, attempts=attempts, progress=progress)
                else:
                    _copy(Path(chosen).expanduser(), arrived)
                _check_content(arrived, chosen, expected)
                size = arrived.stat().st_size
                known = Fetched(target, chosen, file_digest(arrived), size, expected.rows, fresh=True)
                _record().unlink(missing_ok=True)
                arrived.replace(target)
                write_json(_record(), {k: v for k, v in asdict(known).items() if k not in ("path", "fresh")})
        if output is not None:
            target = output.expanduser()
            target = target / OPENDATA_NAME if target.is_dir() else target
            _copy(known.path, target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error
    return known


def _copy(file: Path, target: Path) -> None:
    if not file.is_file():
        raise DataError(f"{file}: no such file (an address starts with https://)")
    with atomic_path(target) as temporary:
        shutil.copyfile(file, temporary)


def download(url: str, place: Path, *, timeout: float, attempts: int = 1, progress: Any = False) -> None:
    """Download from an address to a new path, which is absent after a failure; arguments as for `fetch_opendata`."""
    import pooch
    import requests

    if not url.lower().startswith(("http://", "https://")):
        raise DataError(f"{url}: only http:// and https:// addresses can be fetched, or a file by its path")
    # Identity: a server that marks the .gz as compressed in transit would make requests unpack it on the way.
    headers = {"Accept-Encoding": "identity", "User-Agent": "higgsbench"}
    http = pooch.HTTPDownloader(progressbar=progress, chunk_size=_CHUNK, timeout=timeout, headers=headers)
    for attempt in range(1, attempts + 1):
        try:
            http(url, str(place), None)
            return
        except requests.exceptions.RequestException as error:
            place.unlink(missing_ok=True)
            reason, again = _fault(error, timeout)
            if not again:
                raise DataError(f"{url}: {reason}; use --from with a mirror or a downloaded file") from None
            if attempt == attempts:
                tried = f"after {attempts} attempts" if attempts > 1 else "at the only attempt"
                raise DataError(
                    f"{url}: {reason} {tried}; try again later, or use --from with a mirror or a downloaded file"
                ) from error
            time.sleep(min(attempt, _LONGEST_PAUSE))


def _fault(error: Exception, timeout: float) -> tuple[str, bool]:
    """Say why a download failed, and whether trying again can help."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        status, reason = error.response.status_code, error.response.reason or ""
        error.response.close()
        return f"the server answered {status} {reason}".rstrip(), status >= 500 or status in _RETRY_STATUS
    # A timeout between two blocks of the body is a ConnectionError, too.
    late = "timed out" in str(error).lower()
    faults: tuple[tuple[Any, str, bool], ...] = (
        (exceptions.TooManyRedirects, "the server redirects in circles", False),
        ((exceptions.InvalidURL, exceptions.InvalidSchema), "not a valid address, or redirected to one", False),
        (exceptions.SSLError, "the server's certificate could not be verified", False),
        (exceptions.Timeout, f"no answer within {timeout:g} seconds", True),
        (exceptions.ChunkedEncodingError, "the connection broke off before the file was complete", True),
        (
            exceptions.ConnectionError,
            f"no data for {timeout:g} seconds" if late else "no connection to the server",
            True,
        ),
        (Exception, f"the download failed ({type(error).__name__})", True),
    )
    return next((reason, again) for kind, reason, again in faults if isinstance(error, kind))


def _check_content(file: Path, source: str, expected: Expectation) -> None:
    other = f"{source}: not the CERN Open Data file"
    try:
        frame = EventStream(file, ATLAS_HIGGS).table(check=False)
    except DataError as error:
        raise DataError(f"{other}: {str(error).replace(str(file), 'it')}") from error
    for name in ("Label", "Weight", "KaggleSet", "KaggleWeight"):
        if name not in frame.columns:
            raise DataError(f"{other}: it has no column {name}")
    if frame.height != expected.rows:
        raise DataError(f"{source}: {frame.height:,} events instead of {expected.rows:,}: cut off, or another file")
    for name, count in expected.subsets.items():
        of_set = frame.filter(pl.col("KaggleSet") == name)
        if of_set.height != count:
            raise DataError(f"{source}: KaggleSet {name} holds {of_set.height:,} events instead of {count:,}")
        for label, wanted in (("s", N_S), ("b", N_B)):
            found = float(of_set.filter(pl.col("Label") == label)["KaggleWeight"].sum())
            if name in _NORMALISED and not abs(found - wanted) <= _TOLERANCE * wanted:
                raise DataError(
                    f"{source}: KaggleWeight of label {label} in KaggleSet {name} sums to {found:.6g} instead of "
                    f"{wanted:.6g}: the content is damaged"
                )
