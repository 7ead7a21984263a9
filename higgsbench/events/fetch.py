"""Public data sets: fetch them from their archives (or a mirror, or a manual download) into the cache and check them.

A file gets its final name only after its content has been verified; a record beside it says what was verified.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
import zipfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import polars as pl

from higgsbench.errors import DataError, nearest_hint
from higgsbench.events import EventStream
from higgsbench.events.cache import cache_dir
from higgsbench.files import atomic_path, file_digest, write_json
from higgsbench.schema import (
    ATLAS_HIGGS,
    FAIR_UNIVERSE,
    N_B,
    N_S,
    SCHEMAS,
    UCI_HEPMASS,
    UCI_HEPMASS_1000,
    UCI_HIGGS,
    UCI_SUSY,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PublicSet:
    """A public data set; its name is that of its layout.

    Attributes:
        name: name of the layout.
        title: what the file is, for messages.
        doi: DOI of its record.
        url: address of the download; `doi:.../FILE` asks the repository of the DOI for the address and the checksum.
        size: size of the download, as text.
        events: number of events, as published.
        file: name of the file in the cache.
        member: name of the file inside the zip archive that is downloaded, or empty.
        subsets: number of events in each KaggleSet.
    """

    name: str
    title: str
    doi: str
    url: str
    size: str
    events: int
    file: str
    member: str = ""
    subsets: Mapping[str, int] = field(default_factory=dict)


_UCI = "https://archive.ics.uci.edu/static/public"
_HEPMASS = ("HEPMASS of the UCI repository", "10.24432/C5PP5W", f"{_UCI}/347/hepmass.zip", "7.9 GB", 7_000_000)
_FAIR_DOI = "10.5281/zenodo.15131565"

_SETS = (
    PublicSet(ATLAS_HIGGS.name, "the CERN Open Data file", "10.7483/OPENDATA.ATLAS.ZBP2.M5T8",
              "https://opendata.cern.ch/record/328/files/atlas-higgs-challenge-2014-v2.csv.gz", "65 MB", 818_238,
              "atlas-higgs-challenge-2014-v2.csv.gz", subsets={"t": 250_000, "b": 100_000, "v": 450_000, "u": 18_238}),
    PublicSet(FAIR_UNIVERSE.name, "the data of the FAIR Universe challenge", _FAIR_DOI,
              f"doi:{_FAIR_DOI}/FAIR_Universe_HiggsML_data.zip", "6.5 GB", 220_099_101,
              "FAIR_Universe_HiggsML_data.parquet", "FAIR_Universe_HiggsML_data.parquet"),
    PublicSet(UCI_HIGGS.name, "HIGGS of the UCI repository", "10.24432/C5V312",
              f"{_UCI}/280/higgs.zip", "2.8 GB", 11_000_000, "HIGGS.csv.gz", "HIGGS.csv.gz"),
    PublicSet(UCI_SUSY.name, "SUSY of the UCI repository", "10.24432/C54606",
              f"{_UCI}/279/susy.zip", "0.9 GB", 5_000_000, "SUSY.csv.gz", "SUSY.csv.gz"),
    PublicSet(UCI_HEPMASS.name, *_HEPMASS, "HEPMASS_all_train.csv.gz", "all_train.csv.gz"),
    PublicSet(UCI_HEPMASS_1000.name, *_HEPMASS, "HEPMASS_1000_train.csv.gz", "1000_train.csv.gz"),
)  # fmt: skip

PUBLIC: Mapping[str, PublicSet] = MappingProxyType({public.name: public for public in _SETS})
"""Public data sets by name."""


def public_set(name: str) -> PublicSet:
    """Return a public data set by its name.

    Raises:
        DataError: if there is no such data set; the message lists the names.
    """
    if name not in PUBLIC:
        raise DataError(f"{name}: not a public data set{nearest_hint(name, PUBLIC)}; choose from {', '.join(PUBLIC)}")
    return PUBLIC[name]


_LOG = logging.getLogger("higgsbench")
_CHUNK = 1 << 16
_LONGEST_PAUSE = 10.0
_RETRY_STATUS = (408, 425, 429)
_NORMALISED = ("t", "b", "v")  # sets whose weights add up to the totals ...
_TOLERANCE = 1e-3  # ... within this share: rounding in the file is far below, a lost block of rows far above


@dataclass(frozen=True)
class Fetched:
    """The path of the file and its properties."""

    path: Path  # the verified file in the cache
    source: str  # where it came from
    sha256: str  # digest of its bytes
    size: int  # bytes
    rows: int  # number of events
    fresh: bool  # whether this call fetched it (False: it was there already)


def _target(public: PublicSet) -> Path:
    return cache_dir() / "opendata" / public.file


def _record(public: PublicSet) -> Path:
    return _target(public).with_name(f"{public.file}.json")


def _known(public: PublicSet) -> Fetched | None:
    """Return the record of the cached file if there is one and the file has its size."""
    try:
        known = Fetched(path=_target(public), fresh=False, **json.loads(_record(public).read_bytes()))
        return known if known.path.stat().st_size == known.size else None
    except (OSError, ValueError, TypeError):
        return None


def opendata_path() -> Path:
    """Return the challenge's verified file in the cache; a `DataError` says how to fetch it."""
    public = PUBLIC[ATLAS_HIGGS.name]
    known = _known(public)
    if known is None:
        raise DataError(f"{public.title} is not in the cache ({_target(public)}); run: higgsbench data fetch")
    return known.path


def fetch_public(
    public: PublicSet,
    source: str | None = None,
    *,
    output: Path | None = None,
    force: bool = False,
    timeout: float = 60.0,
    attempts: int = 3,
    progress: Any = False,
) -> Fetched:
    """Put the file of a public data set into the cache, unless it is there, and verify it.

    Args:
        public: the data set.
        source: another address, or a file already downloaded; None means the public archive. A given source replaces
            the file in the cache.
        output: also copy the verified file here.
        force: get the file even if the cache holds it.
        timeout: give up an attempt after this many seconds without an answer or a byte.
        attempts: maximum number of attempts for errors that may be temporary, with pauses of 1 s, 2 s, ...
        progress: progress bar in pooch's sense (`total`, `update`, `reset`, `close`), or False.

    Raises:
        DataError: one line that names the source and what is wrong with it.
    """
    target = _target(public)
    known = None if source or force else _known(public)
    chosen = source or public.url
    try:
        if known is None or file_digest(known.path) != known.sha256:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".tmp-", dir=target.parent) as folder:
                arrived = Path(folder) / public.file
                if not source:
                    _LOG.info("%s: about %s from %s", public.title, public.size, chosen)
                if "://" in chosen or chosen.startswith("doi:"):
                    download(chosen, arrived, timeout=timeout, attempts=attempts, progress=progress)
                else:
                    _copy(Path(chosen).expanduser(), arrived)
                if public.member and zipfile.is_zipfile(arrived):
                    arrived = _unpacked(arrived, public.member, chosen)
                rows = _check_content(arrived, chosen, public)
                size = arrived.stat().st_size
                known = Fetched(target, chosen, file_digest(arrived), size, rows, fresh=True)
                _record(public).unlink(missing_ok=True)
                arrived.replace(target)
                write_json(_record(public), {k: v for k, v in asdict(known).items() if k not in ("path", "fresh")})
        if output is not None:
            target = output.expanduser()
            target = target / public.file if target.is_dir() else target
            _copy(known.path, target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror or error}") from error
    return known


def _copy(file: Path, target: Path) -> None:
    if not file.is_file():
        raise DataError(f"{file}: no such file (an address starts with https://)")
    with atomic_path(target) as temporary:
        shutil.copyfile(file, temporary)


def _unpacked(archive: Path, member: str, source: str) -> Path:
    """Replace a zip archive with one of its files."""
    target = archive.with_name("member")
    try:
        with zipfile.ZipFile(archive) as content:
            names = [name for name in content.namelist() if PurePosixPath(name).name == member]
            if len(names) != 1:
                raise DataError(
                    f"{source}: the archive has no file {member}; it has {', '.join(content.namelist()[:5])}"
                )
            with content.open(names[0]) as packed, target.open("wb") as stream:
                shutil.copyfileobj(packed, stream, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{source}: damaged archive: {error}") from error
    return target.replace(archive)


def download(url: str, place: Path, *, timeout: float, attempts: int = 1, progress: Any = False) -> None:
    """Download from an address or "doi:..." to a new path, absent after a failure; arguments as for `fetch_public`."""
    import pooch
    import requests

    if not url.lower().startswith(("http://", "https://", "doi:")):
        raise DataError(f"{url}: only http:// and https:// addresses can be fetched, or a file by its path")
    # Identity: a server that marks the .gz as compressed in transit would make requests unpack it on the way.
    headers = {"Accept-Encoding": "identity", "User-Agent": "higgsbench"}
    kind = pooch.DOIDownloader if url.startswith("doi:") else pooch.HTTPDownloader
    get = kind(progressbar=progress, chunk_size=_CHUNK, timeout=timeout, headers=headers)
    for attempt in range(1, attempts + 1):
        try:
            get(url, str(place), None)
            if url.startswith("doi:"):
                _check_hash(url, place)
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
        except (KeyError, ValueError) as error:  # pooch cannot find the file in the record
            raise DataError(f"{url}: {error}; use --from with a downloaded file") from error


def _check_hash(url: str, place: Path) -> None:
    """Compare a file with the checksum that the repository of its DOI states."""
    import pooch

    base, _, name = url.rpartition("/")
    repository = pooch.create(path=place.parent, base_url=base)
    repository.load_registry_from_doi()
    algorithm, _, wanted = repository.registry[name].rpartition(":")
    if pooch.file_hash(str(place), alg=algorithm or "sha256") != wanted:
        place.unlink(missing_ok=True)
        raise DataError(f"{url}: the file does not have the checksum {wanted} of the repository; fetch it again")


def _fault(error: Exception, timeout: float) -> tuple[str, bool]:
    """Say why a download failed, and whether trying again can help."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        status, reason = error.response.status_code, error.response.reason or ""
        error.response.close()
        return f"the server answered {status} {reason}".rstrip(), status >= 500 or status in _RETRY_STATUS
    # A timeout between two blocks of the body is a ConnectionError, too.
    late = "timed out" in str(error).lower()
    silent = f"no data for {timeout:g} seconds" if late else "no connection to the server"
    faults: tuple[tuple[Any, str, bool], ...] = (
        (exceptions.TooManyRedirects, "the server redirects in circles", False),
        ((exceptions.InvalidURL, exceptions.InvalidSchema), "not a valid address, or redirected to one", False),
        (exceptions.SSLError, "the server's certificate could not be verified", False),
        (exceptions.Timeout, f"no answer within {timeout:g} seconds", True),
        (exceptions.ChunkedEncodingError, "the connection broke off before the file was complete", True),
        (exceptions.ConnectionError, silent, True),
        (Exception, f"the download failed ({type(error).__name__})", True),
    )
    return next((reason, again) for kind, reason, again in faults if isinstance(error, kind))


def _check_content(file: Path, source: str, public: PublicSet) -> int:
    """Check columns, number of events, and KaggleSets if present; return the number of events."""
    other, schema = f"{source}: not {public.title}", SCHEMAS[public.name]
    try:
        stream = EventStream(file, schema)
        frame = stream.table(check=False) if public.subsets else None
        labels = EventStream(file, schema, columns=(schema.label,))
        rows = sum(part.height for part in labels.batches(check=False)) if frame is None else frame.height
    except DataError as error:
        raise DataError(f"{other}: {str(error).replace(str(file), 'it')}") from error
    if rows != public.events and not public.url.startswith("doi:"):  # a repository's checksum is a stricter check
        raise DataError(f"{source}: {rows:,} events instead of {public.events:,}: it is cut off, or another file")
    if frame is not None:
        _check_subsets(frame, source, public)
    return rows


def _check_subsets(frame: pl.DataFrame, source: str, public: PublicSet) -> None:
    for name in ("Label", "Weight", "KaggleSet", "KaggleWeight"):
        if name not in frame.columns:
            raise DataError(f"{source}: not {public.title}: it has no column {name}")
    for name, count in public.subsets.items():
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
