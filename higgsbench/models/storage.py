"""Store fitted models in formats that run no code when they are read.

A model is a zip archive of one JSON tree and binary parts, read in memory and never unpacked. A node of the tree is a
JSON object whose `kind` names the codec that wrote it. Reading looks the kind up among codecs that the caller hands in:
nothing is ever imported, called or opened because a file names it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from higgsbench.errors import ModelError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 2
_MANIFEST = "model.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAX_BYTES, _HARMLESS, _MOST_TIMES, _MAX_DEPTH = 1 << 32, 1 << 28, 200, 20

_PART_NAME = re.compile(r"[0-9]{1,9}\.[a-z]{1,12}")
"""Names of binary parts: a number and an ending, never a path."""

Node = dict[str, Any]


def _name(estimator: Any) -> str:
    own = type(estimator)
    return f"{own.__module__}.{own.__qualname__}"


class UnstorableError(ModelError):
    """A fitted estimator has no safe storage format; its scores are kept all the same."""


class Codec(Protocol):
    """One storage format of one kind of fitted estimator; it must pickle, because it travels to worker processes."""

    @property
    def kind(self) -> str:
        """Name of the format in the files."""

    def handles(self, estimator: Any) -> bool:
        """Whether this codec stores the estimator."""

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Describe the estimator as JSON values, with binary content put into the writer.

        Raises:
            UnstorableError: if it holds something without a safe format.
        """

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the estimator; a faulty node may raise any `Exception`."""


class ModelWriter:
    """Collects the binary parts of a model while its tree of nodes is made.

    Args:
        codecs: formats to choose from; the first that handles an estimator is taken.

    Attributes:
        parts: content of the binary parts by name.
    """

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
    """Gives the parts of a stored model to the codecs that rebuild it.

    Args:
        codecs: formats that may occur.
        parts: content of the binary parts by name.
        threads: threads an estimator may use to predict.
    """

    def __init__(self, codecs: Sequence[Codec], parts: Mapping[str, bytes], threads: int = 1) -> None:
        self._codecs = {codec.kind: codec for codec in reversed(codecs)}
        self._parts = parts
        self._depth = 0
        self.threads = threads

    def estimator(self, node: Any) -> Any:
        """Rebuild the estimator that a node describes.

        Raises:
            StoreError: if the node's kind is not one of the codecs'.
        """
        kind = node.get("kind") if isinstance(node, dict) else None
        codec = self._codecs.get(kind) if isinstance(kind, str) else None
        if codec is None:
            raise StoreError(f"a model of kind {str(kind)[:40]!r}; known are {', '.join(sorted(self._codecs))}")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise StoreError(f"models nested deeper than {_MAX_DEPTH}")
        try:
            return codec.load(node, self)
        finally:
            self._depth -= 1

    def part(self, name: Any) -> bytes:
        """Return the content of a binary part.

        Raises:
            StoreError: if no part has that name.
        """
        if not isinstance(name, str) or not _PART_NAME.fullmatch(name) or name not in self._parts:
            raise StoreError(f"it refers to {str(name)[:60]!r}, which is not a part of it")
        return self._parts[name]

    def arrays(self, parts: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return arrays by the names of their parts; numpy refuses those that would need unpickling."""
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
        return _name(estimator) == self.estimator.replace(":", ".")

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store what `state` returns."""
        arrays, parameters = estimator.state()
        return {"arrays": writer.arrays(arrays), "parameters": parameters}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Hand the state to `from_state`, and the reader's threads to an estimator that has `n_jobs`."""
        module, name = self.estimator.split(":")
        cls = getattr(importlib.import_module(module), name)
        estimator = cls.from_state(reader.arrays(node["arrays"]), node["parameters"])
        if hasattr(estimator, "n_jobs"):
            estimator.n_jobs = reader.threads
        return estimator


class BagCodec:
    """A `SeedBag`, member by member.

    Args:
        log_odds: how the model's record in the registry reads log-odds off a member; code is never stored.
    """

    kind = "bag"

    def __init__(self, log_odds: Callable[[Any, NDArray[Any]], NDArray[Any]] | None) -> None:
        self.log_odds = log_odds

    def handles(self, estimator: Any) -> bool:
        """Whether this is a `SeedBag`."""
        return _name(estimator) == "higgsbench.models.estimators.SeedBag"

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the members in order."""
        return {"members": [writer.node(member) for member in estimator.estimators_]}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the members and the bag around them."""
        from higgsbench.models.estimators import SeedBag

        members = [reader.estimator(member) for member in node["members"]]
        if not members:
            raise StoreError("a bag without members")
        return SeedBag.of_fitted(members, self.log_odds)


class _PipelineCodec:
    """A scikit-learn Pipeline; each step is stored in its own format, so that a boosted model in it stays native."""

    kind = "pipeline"

    def handles(self, estimator: Any) -> bool:
        """Whether this is a Pipeline."""
        return _name(estimator) == "sklearn.pipeline.Pipeline"

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store names and steps; a step that does nothing is None."""
        idle = (None, "passthrough")
        return {"steps": [[name, None if step in idle else writer.node(step)] for name, step in estimator.steps]}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the steps."""
        from sklearn.pipeline import Pipeline

        steps = [(str(name), "passthrough" if step is None else reader.estimator(step)) for name, step in node["steps"]]
        return Pipeline(steps)


_OWN = ("BlockwiseScaler", "FlaggedMedians", "NormalQuantiles", "ShortMLPClassifier", "SmoothClip")
_SKLEARN = (
    *("tree._tree.Tree", "ensemble._hist_gradient_boosting.predictor.TreePredictor"),
    *("ensemble._hist_gradient_boosting.binning._BinMapper", "_loss.link.HalfLogitLink", "_loss.link.Interval"),
    *("_loss.link.LogitLink", "_loss.loss.ExponentialLoss", "_loss.loss.HalfBinomialLoss"),
    *("neural_network._stochastic_optimizers.AdamOptimizer", "neural_network._stochastic_optimizers.SGDOptimizer"),
    *("calibration._CalibratedClassifier", "calibration._SigmoidCalibration", "multiclass._ConstantPredictor"),
    "utils._bunch.Bunch",
    *("gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace", "gaussian_process.kernels.ConstantKernel"),
    *(f"gaussian_process.kernels.{name}" for name in ("RBF", "Product", "Sum", "Matern", "WhiteKernel", "DotProduct")),
)
_TRUSTED = frozenset({*(f"higgsbench.models.parts.{name}" for name in _OWN), *(f"sklearn.{name}" for name in _SKLEARN)})
"""Types beyond those that skops trusts by itself (numbers, arrays, scikit-learn's estimators). Trees are checked."""

_NEVER = re.compile(r"sklearn\.svm\._classes\.(Nu)?SV[CR]|sklearn\.svm\._classes\.OneClassSVM")
"""Estimators whose compiled code uses stored indices without checking them."""

_LOADERS = frozenset(
    {"DTypeNode", "DictNode", "JsonNode", "ListNode", "LossNode", "NdArrayNode", "ObjectNode", "SliceNode"}
    | {"RandomGeneratorNode", "RandomStateNode", "TreeNode", "TupleNode", "TypeNode"}
)
"""Ways of skops to make an object; none of them calls anything that a file could name."""


class _SklearnCodec:
    """Estimators of scikit-learn and of `higgsbench.models.parts`, through skops."""

    kind = "sklearn"

    def handles(self, estimator: Any) -> bool:
        """Whether this is an estimator of one of the two."""
        ours = _name(estimator).startswith(("sklearn.", "higgsbench.models.parts."))
        return ours and hasattr(estimator, "get_params")

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the estimator.

        Raises:
            UnstorableError: if it holds a type that would be refused when it is read.
        """
        import skops.io

        try:
            content = skops.io.dumps(estimator)
        except Exception as error:  # skops raises many kinds of errors for objects that it cannot store
            raise UnstorableError(f"{type(estimator).__name__} cannot be stored by skops: {error}") from error
        fault = _fault(content)
        if fault:
            raise UnstorableError(f"{type(estimator).__name__} holds {fault}, which is not trusted when it is read")
        return {"part": writer.part(content, "skops"), "sklearn": _sklearn_version()}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the estimator.

        Raises:
            StoreError: if the part holds an untrusted type, or another minor version of scikit-learn stored it.
        """
        import skops.io

        stored, installed = str(node["sklearn"]), _sklearn_version()
        # Attributes and the layout of nodes change between minor versions.
        if stored.split(".")[:2] != installed.split(".")[:2]:
            raise StoreError(
                f"it was stored with scikit-learn {stored[:20]}, installed is {installed}: install that version, or "
                "run the configuration again"
            )
        content = reader.part(node["part"])
        fault = _fault(content)
        if fault:
            raise StoreError(f"its scikit-learn part holds {fault}, which is not trusted")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Trying to unpickle estimator")  # of the same minor version
            estimator = skops.io.loads(content, trusted=sorted(_TRUSTED))
        if "n_jobs" in estimator.get_params(deep=False):
            estimator.set_params(n_jobs=reader.threads)
        return estimator


@functools.cache
def _sklearn_version() -> str:
    return importlib.metadata.version("scikit-learn")


def _fault(content: bytes) -> str:
    """Name what a skops file holds that must not be read; empty if there is nothing.

    skops checks that types are trusted, not that their content is: scikit-learn follows the positions in a tree without
    looking whether they exist.
    """
    import skops.io

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        fault = _fault_of_node(json.loads(archive.read("schema.json")), archive, (), {})
    if fault:
        return fault
    foreign = set(skops.io.get_untrusted_types(data=content)) - _TRUSTED
    return f"the type {min(foreign)[:100]}" if foreign else ""


def _fault_of_node(node: Any, archive: zipfile.ZipFile, features: tuple[Any, ...], seen: dict[Any, Any]) -> str:
    """Look through a node of a skops file; `features` are those of the estimators around it."""
    if isinstance(node, list):
        return next(filter(None, (_fault_of_node(item, archive, features, seen) for item in node)), "")
    if not isinstance(node, dict):
        return ""
    if "__loader__" in node:
        name = f"{node.get('__module__')}.{node.get('__class__')}"
        if node["__loader__"] not in _LOADERS or _NEVER.fullmatch(name):
            return f"a {str(node['__loader__'])[:40]} of {name[:60]}"
        # skops reuses the first node with a given number for all later nodes with that number.
        first = seen.setdefault(node.get("__id__"), node)
        if first != node and _plain(first, archive) != _plain(node, archive):
            return "two objects of one number"
    if node.get("__loader__") == "ObjectNode" and isinstance(node.get("content"), dict):
        own = node["content"].get("content")
        if isinstance(own, dict) and "n_features_in_" in own:
            features = (*features, own["n_features_in_"].get("content"))
    tree = node.get("__loader__") == "TreeNode" or node.get("__class__") == "TreePredictor"
    if tree and not _is_sound(node, archive, features):
        return "a tree that points outside itself"
    if node.get("__loader__") == "RandomGeneratorNode":
        # Older versions of skops call whatever function of numpy.random it names.
        named = node["content"]["bit_generator"]["content"]["bit_generator"]["content"]
        if named != '"PCG64"':
            return f"a generator {named[:40]}"
    return next(filter(None, (_fault_of_node(item, archive, features, seen) for item in node.values())), "")


def _plain(node: Any, archive: zipfile.ZipFile) -> Any:
    """A node without the numbers of its objects, and with arrays in the place of their files."""
    if isinstance(node, list):
        return [_plain(item, archive) for item in node]
    if isinstance(node, dict):
        inner = {key: _plain(item, archive) for key, item in node.items() if key not in ("__id__", "file")}
        return {**inner, "array": archive.read(node["file"])} if isinstance(node.get("file"), str) else inner
    return node


def _is_sound(node: Node, archive: zipfile.ZipFile, features: tuple[Any, ...]) -> bool:
    """Whether prediction with a tree stays inside its nodes and the features of the estimators around it."""
    state = node["content"]["content"]
    nodes = np.load(io.BytesIO(archive.read(state["nodes"]["file"])), allow_pickle=False)
    if not features or nodes.ndim != 1 or not nodes.size:
        return False
    columns = int(json.loads(features[-1]))
    if node["__loader__"] == "TreeNode":
        names, leaf = ("left_child", "right_child", "feature"), nodes["left_child"] == -1
        whole = json.loads(state["node_count"]["content"]) == nodes.size
        whole &= json.loads(node["__reduce__"]["args"]["content"][0]["content"]) == columns
    else:  # of histogram boosting
        names, leaf = ("left", "right", "feature_idx"), nodes["is_leaf"] != 0
        whole = not nodes["is_categorical"].any()
    left, right, feature = (nodes[name].astype(np.int64) for name in names)
    own = np.arange(nodes.size)
    # Nodes are numbered depth first, so a child has a higher number than its parent: no circles.
    inside = (left > own) & (left < nodes.size) & (right > own) & (right < nodes.size)
    known = (feature >= 0) & (feature < columns)
    return bool(whole and len(set(features)) == 1 and (leaf | (inside & known)).all())


_CODECS: tuple[Codec, ...] = (_PipelineCodec(), _SklearnCodec())


def write_model(estimator: Any, file: Path, codecs: Sequence[Codec] = ()) -> None:
    """Store a fitted estimator; the caller makes the writing atomic.

    No names, times or paths get in.

    Args:
        estimator: what to store.
        file: file to write.
        codecs: formats besides those for scikit-learn; they come first.

    Raises:
        UnstorableError: if a part of it has no format that is safe to read.
        OSError: if writing fails.
    """
    writer = ModelWriter((*codecs, *_CODECS))
    manifest = {"format": FORMAT, "model": writer.node(estimator)}
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {_MANIFEST: text, **writer.parts}.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content, compresslevel=1)  # an entry does not inherit the archive's


def read_model(file: Path, codecs: Sequence[Codec] = (), threads: int = 1) -> Any:
    """Read a stored model; nothing in the file is run, imported or unpacked.

    Args:
        file: the file; the caller checks its checksum.
        codecs: formats besides those for scikit-learn that may occur.
        threads: threads the model may use to predict.

    Returns:
        The fitted estimator.

    Raises:
        StoreError: in one line, if the file is not a model or holds anything that these formats do not allow.
    """
    try:
        parts = _contents(file)
        manifest = json.loads(parts.pop(_MANIFEST))
        if manifest["format"] != FORMAT:
            raise StoreError(
                f"stored in format {manifest['format']}, but this version of higgsbench reads format {FORMAT}; run the "
                "configuration again"
            )
        return ModelReader((*codecs, *_CODECS), parts, threads).estimator(manifest["model"])
    except StoreError as error:
        raise StoreError(f"{file}: not a valid stored model: {error}") from error
    except zipfile.BadZipFile as error:
        raise StoreError(f"{file}: not a stored model of higgsbench, or damaged: {error}") from error
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # each library has its own errors for content that it cannot read
        raise StoreError(f"{file}: cannot be read as a stored model: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return a library's message; Python's own message about a missing part would not help."""
    if isinstance(error, (TypeError, LookupError, AttributeError, RecursionError, AssertionError)):
        return "its description is damaged or not made by higgsbench"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _contents(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        for name in names:
            if name != _MANIFEST and not _PART_NAME.fullmatch(name):
                raise StoreError(f"it has an entry named {name[:60]!r}, which higgsbench never writes")
        if len(set(names)) != len(names) or _MANIFEST not in names:
            raise StoreError(f"it does not have one {_MANIFEST}, or has an entry twice")
        size, packed = (sum(getattr(entry, key) for entry in entries) for key in ("file_size", "compress_size"))
        if size > _MAX_BYTES:
            raise StoreError("it unpacks to more than 4 GiB")
        if size > max(_HARMLESS, _MOST_TIMES * packed):
            raise StoreError(f"it unpacks to more than {_MOST_TIMES} times its size")
        return {name: archive.read(name) for name in names}
