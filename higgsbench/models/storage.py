"""Store fitted models in formats that run no code when they are read.

A model is a zip archive of one JSON tree and binary parts, read in memory and never unpacked. A node of the tree is a
JSON object whose `kind` names the codec that wrote it. Reading looks the kind up among codecs that the caller hands in:
nothing is ever imported, called or opened because a file names it.
"""

from __future__ import annotations

import io
import json
import pkgutil
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from higgsbench.errors import ModelError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 2
_MANIFEST = "model.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAX_BYTES, _HARMLESS, _MOST_TIMES = 1 << 32, 1 << 28, 200

_PART_NAME = re.compile(r"[0-9]{1,9}\.[a-z]{1,12}")
"""Names of binary parts: a number and an extension, never a path."""

Node = dict[str, Any]


def class_name(estimator: Any) -> str:
    """Return the module and name of an object's class."""
    own = type(estimator)
    return f"{own.__module__}.{own.__qualname__}"


class UnstorableError(ModelError):
    """A fitted estimator has no safe storage format; its scores are still kept."""


class Codec(Protocol):
    """One storage format of one kind of fitted estimator; it must be picklable for worker processes."""

    @property
    def kind(self) -> str:
        """Name of the format in the files."""

    def handles(self, estimator: Any) -> bool:
        """Whether this codec can store the estimator."""

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Describe the estimator as JSON values, with binary content put into the writer.

        Raises:
            UnstorableError: if it holds something without a safe format.
        """

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the estimator; a faulty node may raise any `Exception`."""


class ModelWriter:
    """Collects the binary `parts` of a model by name, while the first codec that handles an estimator describes it."""

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self.codecs = tuple(codecs)
        self.parts: dict[str, bytes] = {}

    def node(self, estimator: Any) -> Node:
        """Describe an estimator, at the top or inside another one.

        Raises:
            UnstorableError: if no codec takes it.
        """
        from higgsbench.models.estimators import unwrapped

        estimator = unwrapped(estimator)  # early stopping matters only until the trees are trained
        for codec in self.codecs:
            if codec.handles(estimator):
                return {**codec.save(estimator, self), "kind": codec.kind}
        raise UnstorableError(f"{type(estimator).__name__} has no storage format that runs no code when it is read")

    def part(self, content: bytes, ending: str) -> str:
        """Keep binary content and return the name by which a node refers to it."""
        name = f"{len(self.parts)}.{ending}"
        self.parts[name] = content
        return name

    def arrays(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
        """Keep arrays of numbers and return their parts by name.

        Raises:
            UnstorableError: if an array holds Python objects.
        """
        parts = {}
        for name, values in arrays.items():
            if np.asarray(values).dtype.hasobject:
                raise UnstorableError(f"the array {name} holds Python objects, which only a pickle could store")
            stream = io.BytesIO()
            np.save(stream, values, allow_pickle=False)
            parts[name] = self.part(stream.getvalue(), "npy")
        return parts


class ModelReader:
    """Gives the parts of a stored model to the codecs that rebuild it, and the `threads` it may use to predict."""

    def __init__(self, codecs: Sequence[Codec], parts: Mapping[str, bytes], threads: int = 1) -> None:
        self._codecs = {codec.kind: codec for codec in reversed(codecs)}
        self._parts = parts
        self.threads = threads

    def estimator(self, node: Any) -> Any:
        """Rebuild the estimator that a node describes.

        Raises:
            StoreError: if the node's kind is not one of the codecs'.
        """
        kind = str(node["kind"])
        if kind not in self._codecs:
            raise StoreError(f"a model of kind {kind[:40]!r}; known kinds are {', '.join(sorted(self._codecs))}")
        return self._codecs[kind].load(node, self)

    def part(self, name: Any) -> bytes:
        """Return the content of a binary part.

        Raises:
            StoreError: if no part has that name.
        """
        if name not in self._parts:
            raise StoreError(f"it refers to {str(name)[:60]!r}, which is not a part of it")
        return self._parts[name]

    def arrays(self, parts: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return arrays by the names of their parts; numpy refuses those that it would have to unpickle."""
        return {name: np.load(io.BytesIO(self.part(part)), allow_pickle=False) for name, part in parts.items()}


@dataclass(frozen=True)
class StateCodec:
    """Stores an estimator that provides its own state: arrays as npy, the rest as JSON.

    The class has a method `state()` that returns a mapping of names to arrays of numbers and a JSON object, and a class
    method `from_state(arrays, parameters)` that makes a fitted estimator of them, ready to predict.

    Attributes:
        kind: name of the format in the files.
        estimator: the class as "module:Class", imported when a model is stored or read, so that a model's record needs
            no optional dependency. It comes from that record, never from a file.
    """

    kind: str
    estimator: str

    def handles(self, estimator: Any) -> bool:
        """Whether the estimator is of this class."""
        return class_name(estimator) == self.estimator.replace(":", ".")

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store what `state` returns."""
        arrays, parameters = estimator.state()
        return {"arrays": writer.arrays(arrays), "parameters": parameters}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Hand the state to `from_state`, and the reader's threads to an estimator that has `n_jobs`."""
        estimator = pkgutil.resolve_name(self.estimator).from_state(reader.arrays(node["arrays"]), node["parameters"])
        if hasattr(estimator, "n_jobs"):
            estimator.n_jobs = reader.threads
        return estimator


@dataclass(frozen=True)
class BagCodec:
    """A `SeedBag`, member by member; `log_odds` of the model's record reads them, because code is never stored."""

    log_odds: Callable[[Any, NDArray[Any]], NDArray[Any]] | None
    kind = "bag"

    def handles(self, estimator: Any) -> bool:
        """Whether this is a `SeedBag`."""
        return class_name(estimator) == "higgsbench.models.estimators.SeedBag"

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the members in order."""
        return {"members": [writer.node(member) for member in estimator.estimators_]}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the members and the bag around them."""
        from higgsbench.models.estimators import SeedBag

        return SeedBag.of_fitted([reader.estimator(member) for member in node["members"]], self.log_odds)


def write_model(estimator: Any, file: Path, codecs: Sequence[Codec]) -> None:
    """Store a fitted estimator without names, times or paths; the caller makes the writing atomic.

    Args:
        estimator: what to store.
        file: file to write.
        codecs: formats to choose from; the first that handles an estimator is taken.

    Raises:
        UnstorableError: if a part of it has no format that is safe to read.
        OSError: if writing fails.
    """
    writer = ModelWriter(codecs)
    manifest = {"format": FORMAT, "model": writer.node(estimator)}
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {_MANIFEST: text, **writer.parts}.items():
            # An entry does not inherit the archive's compression.
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED, compresslevel=1)


def read_model(file: Path, codecs: Sequence[Codec], threads: int = 1) -> Any:
    """Return the fitted estimator of a file; nothing in the file is run, imported or unpacked.

    Args:
        file: the file; the caller checks its checksum.
        codecs: formats that may occur.
        threads: threads the model may use to predict.

    Raises:
        StoreError: in one line, if the file is not a model or holds anything that these formats do not allow.
    """
    try:
        parts = _contents(file)
        manifest = json.loads(parts.pop(_MANIFEST))
        if manifest["format"] != FORMAT:
            reads = f"this version of higgsbench reads format {FORMAT}; run the configuration again"
            raise StoreError(f"stored in format {manifest['format']}, but {reads}")
        return ModelReader(codecs, parts, threads).estimator(manifest["model"])
    except StoreError as error:
        raise StoreError(f"{file}: not a valid stored model: {error}") from error
    except zipfile.BadZipFile as error:
        raise StoreError(f"{file}: not a stored model of higgsbench, or damaged: {error}") from error
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # each library has its own errors for content that it cannot read
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if isinstance(error, (TypeError, LookupError, AttributeError, RecursionError, AssertionError)):
            reason = "its description is damaged or not made by higgsbench"
        raise StoreError(f"{file}: cannot be read as a stored model: {reason}") from error


def _contents(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        for name in archive.namelist():
            if name != _MANIFEST and not _PART_NAME.fullmatch(name):
                raise StoreError(f"it has an entry named {name[:60]!r}, which higgsbench never writes")
        size, packed = (sum(getattr(entry, key) for entry in entries) for key in ("file_size", "compress_size"))
        if size > _MAX_BYTES:
            raise StoreError("it unpacks to more than 4 GiB")
        if size > max(_HARMLESS, _MOST_TIMES * packed):
            raise StoreError(f"it unpacks to more than {_MOST_TIMES} times its size")
        return {name: archive.read(name) for name in archive.namelist()}
