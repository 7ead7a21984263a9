"""How a model is trained: limits on its training events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from higgsbench.config.section import Strict


class TrainingEvents(Strict):
    """A limit on the training events of each fit, as for a learning curve: a random part of the other folds' events."""

    shorthand: ClassVar[Mapping[type, str]] = {int: "number"}
    number: Annotated[int, Field(ge=1)]
    """Number of events; the same share of every class and jet number."""
    draw: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Number of the draw: another one gives other events. In one draw, fewer events are a part of more events."""
