"""How a fitted estimator becomes a tree of JSON nodes and named binary parts, and comes back.

A node is a JSON object whose `kind` names the codec that wrote it. Reading looks the kind up among codecs that the
caller hands in: nothing is ever imported, called or opened because a file names it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from higgsbench.errors import ModelError, StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PART_NAME", "Codec", "ModelReader", "ModelWriter", "Node", "UnstorableError"]

Node = dict[str, Any]

PART_NAME = re.compile(r"[0-9]{1,9}\.[a-z]{1,12}")
"""Names of binary parts: a number and an ending, never a path."""

_MAX_DEPTH = 20


class UnstorableError(ModelError):
    """A fitted estimator has no form in which it can be stored safely; its scores are kept all the same."""


class Codec(Protocol):
    """One storage format of one kind of fitted estimator; it must pickle, for it travels to worker processes."""

    @property
    def kind(self) -> str:
        """Name of the format in the files."""

    def handles(self, estimator: Any) -> bool:
        """Whether this codec stores the estimator."""

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Describe the estimator as JSON values, binary content put into the writer.

        Raises:
            UnstorableError: if it holds something that has no safe form.
        """

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Rebuild the estimator; whatever is wrong with the node may raise any `Exception`."""


class ModelWriter:
    """Collects the binary parts of a model while its tree of nodes is made.

    Args:
        codecs: formats to choose from, the first that handles an estimator is taken.

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
        from higgsbench.models.early import unwrapped

        # What stopped a fit early has nothing to say once the trees stand.
        estimator = unwrapped(estimator)
        for codec in self.codecs:
            if codec.handles(estimator):
                return {**codec.save(estimator, self), "kind": codec.kind}
        raise UnstorableError(f"{type(estimator).__name__} has no storage format that runs no code when it is read")

    def part(self, content: bytes, ending: str) -> str:
        """Keep binary content and return the name under which a node refers to it."""
        name = f"{len(self.parts)}.{ending}"
        self.parts[name] = content
        return name

    def arrays(self, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Keep arrays of numbers as one part and return its name.

        Raises:
            UnstorableError: if an array holds Python objects.
        """
        for name, values in arrays.items():
            if np.asarray(values).dtype.hasobject:
                raise UnstorableError(f"the array {name} holds Python objects, which only a pickle could store")
        stream = io.BytesIO()
        # Named one by one: an array may be called `file`, which savez would take for its own argument.
        names = list(arrays)
        contents = {f"a{i}": np.asarray(arrays[name]) for i, name in enumerate(names)}
        np.savez(stream, names=np.array(names, dtype=np.str_), **contents)  # type: ignore[arg-type]  # numpy's stub
        return self.part(stream.getvalue(), "npz")


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
            raise StoreError(f"a model of kind {str(kind)[:40]!r}, which is none of {', '.join(sorted(self._codecs))}")
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
            StoreError: if there is none of that name.
        """
        if not isinstance(name, str) or not PART_NAME.fullmatch(name) or name not in self._parts:
            raise StoreError(f"it refers to {str(name)[:60]!r}, which is no part of it")
        return self._parts[name]

    def arrays(self, name: Any) -> dict[str, NDArray[Any]]:
        """Return the arrays of a part; arrays that would need unpickling are refused by numpy."""
        with np.load(io.BytesIO(self.part(name)), allow_pickle=False) as stored:
            names = [str(n) for n in stored["names"]]
            return {n: stored[f"a{i}"] for i, n in enumerate(names)}
