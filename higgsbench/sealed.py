"""JSON files that carry the checksum of their own content, and files of a run that its rows vouch for."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from higgsbench.errors import StoreError
from higgsbench.files import parse_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["ROWS", "SEAL", "parse_sealed", "read_sealed", "read_vouched", "read_vouched_json", "write_sealed"]

ROWS = "rows.json"
"""The last file of a run; under `checksums` it names the others with the SHA-256 of their bytes."""

SEAL = "seal"
_TRIES, _PAUSE = 40, 0.05


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object; NaN and infinity as Python writes them, for a record may hold them."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_sealed(target: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all, with the checksum of its content as a further key."""
    write_json(target, {**content, SEAL: _digest(content)})


def parse_sealed(text: bytes, *, required: bool = False) -> Any:
    """Return a JSON value without its seal.

    Args:
        text: bytes of the file.
        required: refuse an object without a seal, as versions before seals wrote them.

    Raises:
        ValueError: if the text is no JSON, or is not what was sealed.
        RecursionError: if it is nested too deeply.
    """
    content = parse_json(text)
    seal = content.pop(SEAL, None) if isinstance(content, dict) else None
    if (required and seal is None) or (seal is not None and seal != _digest(content)):
        raise ValueError("its checksum is not that of its content")
    return content


def read_sealed(file: Path) -> Any:
    """Read a JSON file that may be sealed and may come from anybody.

    Raises:
        StoreError: if it is not JSON, nested too deeply, or not what was sealed.
        OSError: if it cannot be read.
    """
    try:
        return parse_sealed(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file}: damaged or not made by higgsbench") from error


def read_vouched_json(folder: Path, name: str) -> Any:
    """Read a JSON file of a run; see `read_vouched`."""
    try:
        return parse_json(read_vouched(folder, name))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{folder / name}: damaged or not made by higgsbench") from error


def read_vouched(folder: Path, name: str) -> bytes:
    """Read a file of a run and compare it with the checksum in rows.json, where that has one.

    While the run is writing its results anew, the reading waits for them.

    Args:
        folder: the run's folder.
        name: name of the file in it.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it cannot be read.
        StoreError: if it is not the file that rows.json vouches for.
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
        f"{folder / name}: damaged: its checksum is not the one in {ROWS}; run the configuration again to write it anew"
    )


def _checksums(folder: Path) -> dict[str, Any] | None:
    """Return what rows.json vouches for; None while it is not there."""
    try:
        content = read_sealed(folder / ROWS)
    except FileNotFoundError:
        return None
    found = content.get("checksums") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}
