"""Files that are either whole or absent: write under a temporary name, then rename."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "atomic_path",
    "canonical_digest",
    "file_digest",
    "printable",
    "put_in_place",
    "read_json",
    "temporary_path",
    "write_bytes",
    "write_json",
    "write_text",
]

TEMPORARY_PREFIX = ".tmp-"
_MOST_DIGITS = 19


def printable(value: object) -> str:
    """Return a text without control characters: a name out of somebody's file must not steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def temporary_path(target: Path) -> Path:
    """Return a fresh temporary name beside the target; it tells which process is at work on it."""
    return target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{target.name}")


def put_in_place(temporary: Path, target: Path) -> None:
    """Flush a finished temporary file to disk and rename it over the target."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(target)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside the target; on success flush it to disk and rename it over the target.

    A reader sees the old file or the whole new one, never a part; after an error the temporary file is removed.
    """
    temporary = temporary_path(target)
    try:
        yield temporary
        put_in_place(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    write_bytes(target, content.encode("utf-8"))


def write_json(target: Path, content: Any) -> None:
    """Write a JSON file whole or not at all; floats keep full precision."""
    write_text(target, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_json(file: Path) -> Any:
    """Read a JSON file that may come from anybody; whole numbers beyond 64 bits become floats.

    Raises:
        ValueError: if it is not JSON, or nested too deeply.
        OSError: if it cannot be read.
    """
    try:
        return json.loads(file.read_bytes(), parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: damaged or not made by higgsbench") from error


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_digest(content: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
