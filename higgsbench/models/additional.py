"""Models beyond the six, which need an extra: networks trained with torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from higgsbench.models.presets import MOMENTA
from higgsbench.models.spec import BuildContext, ModelSpec, Preset
from higgsbench.models.storage import StateCodec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ADDITIONAL"]


def _build_torch_mlp(params: Mapping[str, Any], context: BuildContext) -> Any:
    from higgsbench.models.packed import PackedMLPClassifier

    # A submodel of a jet group sees fewer columns than these names.
    names = () if context.split else context.features
    fixed: dict[str, Any] = {"random_state": context.seed, "num_threads": context.threads, "inputs": names}
    return PackedMLPClassifier(**fixed, **params).check()


def _torch_mlp_names() -> frozenset[str]:
    from higgsbench.models.packed import PackedMLPClassifier

    return frozenset(set(PackedMLPClassifier().get_params()) - {"random_state", "num_threads", "inputs"})


ADDITIONAL: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="torch_mlp",
        build=_build_torch_mlp,
        description="Packed ensemble of multi-layer perceptrons, trained at once with torch",
        # The library is this package, its defaults are `best`; no dropout -69 (8) | -53 (5), no weight decay -1 | -1, a
        # rate of .001 -48 (7) | -23 (3), see higgsbench.models.presets for the units and docs/networks.md for more.
        presets={
            "quick": Preset(
                {"members": 2, "hidden_layer_sizes": [64, 64], "epochs": 8, "learning_rate": 0.01}, **MOMENTA
            ),
            "good": Preset({"members": 4, "hidden_layer_sizes": [96, 96, 96], "epochs": 15}, **MOMENTA),
            "best": Preset({"members": 8, "hidden_layer_sizes": [96, 96, 96], "epochs": 15}, **MOMENTA),
        },
        requires=("torch", "numpy"),
        imports=("torch",),
        extra="torch",
        codecs=(StateCodec("torch_mlp", "higgsbench.models.packed:PackedMLPClassifier"),),
        parameters=_torch_mlp_names,
        cost=10.0,
        rounds=("epochs",),
        devices=("device",),
    ),
)
"""Further models that come with higgsbench, after the six of `higgsbench.models.builtin`."""
