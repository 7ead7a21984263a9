"""Tabular foundation models, of the extras `tabicl` and `tabpfn`: pretrained networks with training events as context.

The presets only limit the cost. They were not chosen by measurements, which need a checkpoint.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from higgsbench.models.builtin import PHYSICS, RAW
from higgsbench.models.spec import BuildContext, ModelSpec, Preset
from higgsbench.models.storage import StateCodec

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT = {"tabicl": "tabicl-classifier-v2-20260212.ckpt", "tabpfn": "tabpfn-v3.5-20260909.safetensors"}
"""Checkpoints that the libraries use by default."""

_BYTES = 6_000.0
"""Memory per column and event of context and batch, measured for TabICL on a processor."""
_NETWORK_BYTES = 3e8  # of the network itself


def _build(library: str, params: Mapping[str, Any], context: BuildContext) -> Any:
    from higgsbench.models.context import InContextClassifier

    own = {"checkpoint": _DEFAULT[library], **params}
    return InContextClassifier(library=library, n_jobs=context.threads, random_state=context.seed, **own).check()


def _files(library: str, params: Mapping[str, Any]) -> str:
    from higgsbench.files import file_digest
    from higgsbench.models.context import checkpoint_file

    return file_digest(checkpoint_file(library, params.get("checkpoint", _DEFAULT[library])))


def _memory(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Return the memory of copies of the matrix and of a pass over context and batch, in sizes of the matrix."""
    rows: int = min(params.get("context", 10_000), events) + params.get("batch", 4_096)
    return 3.0 + (_NETWORK_BYTES + _BYTES * rows * columns) / (4.0 * events * columns)


def _spec(name: str, title: str, *, missing: bool) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=functools.partial(_build, name),
        description=f"{title}: a pretrained network that reads training events as context; needs a checkpoint",
        presets={
            "quick": Preset({"context": 1_000, "n_estimators": 1}, **RAW),
            "good": Preset({"context": 10_000, "n_estimators": 4}, **RAW),
            "best": Preset({"context": 50_000, "n_estimators": 8}, **PHYSICS),
        },
        missing=missing,
        extra=name,
        requires=(name, "torch"),
        imports=(name,),
        files=functools.partial(_files, name),
        codecs=(StateCodec("in_context", "higgsbench.models.context:InContextClassifier"),),
        parameters=functools.partial(frozenset, ("checkpoint", "context", "batch", "n_estimators", "device")),
        harness=("random_state", "n_jobs"),
        rounds=("n_estimators",),
        devices=("device",),
        memory=_memory,
        cost=500.0,
    )


# TabICL replaces missing values by means, without flags.
MODELS = (_spec("tabicl", "TabICL", missing=False), _spec("tabpfn", "TabPFN", missing=True))
