"""Atomic file writing, JSON files with a checksum, and verification of files against the checksums in rows.json."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from higgsbench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from higgsbench.errors import HiggsbenchError


ROWS = "rows.json"
"""The last file of a run; under `checksums` it names the others with the SHA-256 of their bytes."""

SEAL = "seal"
TEMPORARY_PREFIX = ".tmp-"
_PIECE = 1 << 23
_MOST_DIGITS = 19
_TRIES, _PAUSE = 40, 0.05
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How Polars reports a full disk in its own errors."""


def printable(value: object) -> str:
    """Return a text without control characters, so that a name from a file cannot control the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def one_line(text: str) -> str:
    """Return a text as one line without control characters."""
    return printable(" ".join(text.split()))


def temporary_path(target: Path) -> Path:
    """Return a new temporary name beside the target; it names the process that writes it."""
    import secrets

    return target.with_name(f"{temporary_prefix()}{secrets.token_hex(4)}-{target.name}")


def temporary_prefix() -> str:
    """Return how the temporary names of this process begin."""
    return f"{TEMPORARY_PREFIX}{os.getpid()}-{_host()}-"


def _host() -> str:
    """Short token of this machine's name: numbers of processes mean nothing on another one."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def writer_lives(name: str) -> bool:
    """Whether the process that made a temporary file may still write it; True for a process of another machine."""
    import psutil

    number, _, rest = name.removeprefix(TEMPORARY_PREFIX).partition("-")
    if not number.isdigit():
        return False
    return not rest.startswith(f"{_host()}-") or psutil.pid_exists(int(number))


def put_in_place(temporary: Path, target: Path) -> None:
    """Flush a finished temporary file to disk and rename it over the target."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(target)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk where the system can do so (Windows cannot)."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target; afterwards flush the file to disk and rename it over the target.

    A reader sees the old file or the whole new one, never a part. After an error the temporary file is removed; an
    error of Polars about the disk becomes an OSError.
    """
    temporary = temporary_path(target)
    try:
        yield temporary
        put_in_place(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        refused = _OS_ERROR.search(str(error)) if type(error).__module__.startswith("polars") else None
        if refused is None:
            raise
        raise OSError(int(refused[1]), os.strerror(int(refused[1])), str(target)) from error


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_bytes(target, content.encode("utf-8"))


def write_json(target: Path, content: Any) -> None:
    """Write a JSON file atomically; floats keep full precision."""
    write_text(target, json_text(content))


def json_text(content: Any) -> str:
    """Return the text of a JSON file: keys in order, floats in full precision."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def parse_json(text: bytes) -> Any:
    """Return a JSON value; whole numbers beyond 64 bits become floats. Errors as for `json.loads`."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else float(digits))


def file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_identity(file: Path) -> str:
    """SHA-256 of the SHA-256 of a file's pieces, which several threads compute; faster than `file_digest`."""
    from concurrent.futures import ThreadPoolExecutor

    starts = range(0, max(file.stat().st_size, 1), _PIECE)

    def digest(start: int) -> bytes:
        with file.open("rb") as stream:
            stream.seek(start)
            return hashlib.sha256(stream.read(_PIECE)).digest()

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        return hashlib.sha256(b"".join(threads.map(digest, starts))).hexdigest()


def canonical_digest(content: Any, *, allow_nan: bool = False) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces); ValueError for NaN unless it is allowed."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=allow_nan)
    return hashlib.sha256(text.encode()).hexdigest()


def write_sealed(target: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with the checksum of its content as a further key."""
    write_json(target, {**content, SEAL: canonical_digest(content, allow_nan=True)})


def parse_sealed(text: bytes, *, required: bool = False) -> Any:
    """Return a JSON value without its seal; `required` refuses objects without one, as early versions wrote.

    Raises:
        ValueError: if the text is not JSON, or does not match its seal.
        RecursionError: if it is nested too deeply.
    """
    content = parse_json(text)
    seal = content.pop(SEAL, None) if isinstance(content, dict) else None
    if (required and seal is None) or (seal is not None and seal != canonical_digest(content, allow_nan=True)):
        raise ValueError("its checksum does not match its content")
    return content


def read_sealed(file: Path) -> Any:
    """Read a JSON file that may be sealed and may come from another user.

    Raises:
        StoreError: if it is not JSON, is nested too deeply, or does not match its seal.
    """
    try:
        return parse_sealed(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file}: damaged or not made by higgsbench") from error


def read_vouched(folder: Path, name: str) -> bytes:
    """Read a file of a run's folder and compare it with its checksum in rows.json; wait while the run rewrites these.

    Raises:
        OSError: if the file does not exist or cannot be read.
        StoreError: if its checksum differs from the one in rows.json.
    """
    for _ in range(_TRIES):
        before = _checksums(folder)
        if before is not None:
            content = (folder / name).read_bytes()
            wanted = before.get(name)
            if wanted is None or hashlib.sha256(content).hexdigest() == wanted:
                return content
            if _checksums(folder) == before:
                break
        time.sleep(_PAUSE)
    raise StoreError(
        f"{folder / name}: damaged: its checksum differs from that in {ROWS}; run the configuration again to rewrite it"
    )


def _checksums(folder: Path) -> dict[str, Any] | None:
    """Return the checksums in rows.json; None while there is no such file."""
    try:
        content = read_sealed(folder / ROWS)
    except FileNotFoundError:
        return None
    found = content.get("checksums") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def check_folder_of(target: Path, kind: type[HiggsbenchError]) -> None:
    """Refuse a file to write if its folder does not exist or is a file; raises an error of this kind."""
    folder = target.expanduser().parent
    if not folder.is_dir():
        what = "is a file, not a folder; choose another name" if folder.exists() else "does not exist; create it first"
        raise kind(f"{target}: cannot be written: {folder} {what}")


@contextmanager
def told_plainly(kind: type[HiggsbenchError], file: object, what: str = "written", advice: str = "") -> Iterator[None]:
    """Raise an error of ours in place of an `OSError`: this file cannot be written (or read), and why."""
    try:
        yield
    except OSError as error:
        raise kind(f"{file}: cannot be {what}: {error.strerror or error}{advice}") from error


@contextmanager
def no_panic() -> Iterator[None]:
    """Raise a `ComputeError` for a panic of Polars, which `except Exception` does not catch."""
    import polars as pl  # here, because `higgsbench --help` imports this module

    try:
        yield
    except pl.exceptions.PanicException as error:
        raise pl.exceptions.ComputeError("the parser failed on it") from error
