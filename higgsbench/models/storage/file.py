"""The file of a stored model: a zip archive of one JSON tree and binary parts, read in memory and never unpacked."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from higgsbench.errors import StoreError
from higgsbench.models.storage.boosting import CatBoostCodec, LightGBMCodec, XGBoostCodec
from higgsbench.models.storage.codec import PART_NAME, ModelReader, ModelWriter
from higgsbench.models.storage.container import PipelineCodec
from higgsbench.models.storage.forest import ForestCodec
from higgsbench.models.storage.plain import PlainCodec
from higgsbench.models.storage.sklearn_parts import SklearnCodec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from higgsbench.models.storage.codec import Codec

__all__ = ["BUILTIN_CODECS", "read_model", "write_model"]

BUILTIN_CODECS: tuple[Codec, ...] = (
    XGBoostCodec(),
    LightGBMCodec(),
    CatBoostCodec(),
    ForestCodec(),
    PipelineCodec(),
    PlainCodec(),
    SklearnCodec(),
)

FORMAT = 1
_MANIFEST = "model.json"
_MAX_BYTES = 1 << 32
_HARMLESS, _MOST_TIMES = 1 << 28, 200
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_model(estimator: Any, file: Path, codecs: Sequence[Codec] = ()) -> None:
    """Store a fitted estimator; the caller makes the writing atomic.

    Equal models make equal files: no names, times or paths get in.

    Args:
        estimator: what to store.
        file: file to write.
        codecs: formats beside the built-in ones; they come first.

    Raises:
        UnstorableError: if a part of it has no form that is safe to read.
        OSError: if the disk refuses.
    """
    writer = ModelWriter((*codecs, *BUILTIN_CODECS))
    manifest = {"format": FORMAT, "model": writer.node(estimator)}
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {_MANIFEST: text, **writer.parts}.items():
            archive.writestr(_deflated(name), content, compresslevel=1)  # an entry does not inherit the archive's


def _deflated(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def read_model(file: Path, codecs: Sequence[Codec] = (), threads: int = 1) -> Any:
    """Read a stored model; nothing in the file is run, imported or unpacked.

    Args:
        file: the file; its checksum is the caller's business.
        codecs: formats beside the built-in ones that may occur.
        threads: threads the model may use to predict.

    Returns:
        The fitted estimator.

    Raises:
        StoreError: in one line, if the file is no model or holds anything but what these formats allow.
    """
    try:
        parts = _contents(file)
        manifest = json.loads(parts.pop(_MANIFEST))
        if manifest["format"] != FORMAT:
            raise StoreError(f"format {manifest['format']}, this version of higgsbench reads {FORMAT}")
        return ModelReader((*codecs, *BUILTIN_CODECS), parts, threads).estimator(manifest["model"])
    except StoreError as error:
        raise StoreError(f"{file}: refused as a stored model: {error}") from error
    except zipfile.BadZipFile as error:
        raise StoreError(f"{file}: no stored model of higgsbench, or damaged: {error}") from error
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # each library has errors of its own for content that it cannot read
        raise StoreError(f"{file}: cannot be read as a stored model: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what a library says; what Python itself says of a part that is missing helps nobody."""
    if isinstance(error, (TypeError, LookupError, AttributeError, RecursionError, AssertionError)):
        return "its description is damaged or not made by higgsbench"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _contents(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        for name in names:
            if name != _MANIFEST and not PART_NAME.fullmatch(name):
                raise StoreError(f"it has an entry named {name[:60]!r}, which higgsbench never writes")
        if len(set(names)) != len(names) or _MANIFEST not in names:
            raise StoreError(f"it has no single {_MANIFEST}, or an entry twice")
        if sum(entry.file_size for entry in entries) > _MAX_BYTES:
            raise StoreError("it unpacks to more than 4 GiB")
        packed = sum(entry.compress_size for entry in entries)
        if sum(entry.file_size for entry in entries) > max(_HARMLESS, _MOST_TIMES * packed):
            raise StoreError(f"it unpacks to more than {_MOST_TIMES} times its size")
        return {name: archive.read(name) for name in names}
