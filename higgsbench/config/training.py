"""How a model is trained: weights, limits on its events, and columns that its score should not depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from higgsbench.config.section import Positive, Strict


class TrainingEvents(Strict):
    """A limit on the training events of each fit, as for a learning curve: a random part of the other folds' events."""

    shorthand: ClassVar[Mapping[type, str]] = {int: "number"}
    number: Annotated[int, Field(ge=1)]
    """Number of events; the same share of every class and jet number."""
    draw: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Number of the draw: another one gives other events. In one draw, fewer events are a part of more events."""


class Planing(Strict):
    """Training weights that give both classes the same, flat distribution of a column, and equal totals."""

    flat_in: Annotated[str, Field(min_length=1)]
    """Column or feature whose distribution is made flat."""


def _kind_of_weights(value: object) -> str:
    return "flat" if isinstance(value, (Mapping, Planing)) else "scheme"


TrainingWeights = Annotated[
    Annotated[Literal["balanced", "sqrt_balanced", "physical", "none"], Tag("scheme")]
    | Annotated[Planing, Tag("flat")],
    Discriminator(_kind_of_weights),
]


class Decorrelation(Strict):
    """A penalty on the distance correlation of the score and a column in background, during training."""

    column: Annotated[str, Field(min_length=1)]
    """Column or feature that the score should not depend on."""
    strength: Positive = 1.0
    """Factor of the squared distance correlation beside the logistic loss."""
