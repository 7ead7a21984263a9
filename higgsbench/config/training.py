"""How a model is trained: weights, number of events, shifted copies, and a penalty on dependence on a column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from higgsbench.config.section import Positive, Strict, problem, shift_size
from higgsbench.errors import repeated, shortened

LARGEST = {"tes": 0.25, "jes": 0.25, "soft_met": 50.0}
"""Shifts of energies and their largest standard deviations."""


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
    """Factor of the squared distance correlation, which is added to the logistic loss."""


class Augmentation(Strict):
    """Copies of the training events with shifted energies, in addition to the events themselves."""

    augment: Annotated[list[str], Field(min_length=1)]
    """Standard deviations of the shifts, such as `tes=0.03` or `tes=3%`; soft_met is in GeV."""
    copies: Annotated[int, Field(ge=2, le=20, multiple_of=2)] = 4
    """Number of copies; each has its own draw of all shifts."""

    @property
    def sizes(self) -> dict[str, float]:
        """Standard deviations by the name of the shift."""
        return {name: shift_size(name, size) or 0.0 for name, _, size in (text.partition("=") for text in self.augment)}

    @field_validator("augment")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for text in value:
            name, _, size = text.partition("=")
            if name not in LARGEST or not 0.0 < (shift_size(name, size) or 0.0) <= LARGEST[name]:
                known = ", ".join(f"{shift} (at most {most:g})" for shift, most in LARGEST.items())
                raise problem(f"expected NAME=SIZE, such as tes=0.03, for {known}; got {shortened(text)!r}")
        if (twice := repeated([text.partition("=")[0] for text in value])) is not None:
            raise problem(f"shift {twice!r} is named twice")
        return value
