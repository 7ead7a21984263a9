"""A packed ensemble of multi-layer perceptrons: torch trains it, numpy scores with it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from higgsbench.models.builtin import MOMENTA, parameter_names
from higgsbench.models.spec import BuildContext, ModelSpec, Preset
from higgsbench.models.storage import StateCodec

if TYPE_CHECKING:
    from collections.abc import Mapping


def _build(params: Mapping[str, Any], context: BuildContext) -> Any:
    from higgsbench.models.packed import PackedMLPClassifier

    return PackedMLPClassifier(random_state=context.seed, num_threads=context.threads, **params).check()


MODELS = (
    ModelSpec(
        name="torch_mlp",
        build=_build,
        description="Packed ensemble of multi-layer perceptrons, trained at once with torch",
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
        parameters=functools.partial(parameter_names, "higgsbench.models.packed", "PackedMLPClassifier"),
        harness=("random_state", "num_threads"),
        cost=10.0,
        rounds=("epochs",),
        devices=("device",),
    ),
)
