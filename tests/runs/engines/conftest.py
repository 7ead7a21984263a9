from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import higgsbench
from higgsbench.models import BuildContext, ModelSpec
from tests.runs.conftest import Notes
from tests.runs.engines import misbehaving

Misbehave = Callable[..., None]
TwoModels = Callable[[str], Path]


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def misbehave(own_models: None) -> Iterator[Misbehave]:
    """Register a model that does something bad, as a user's script would: workers get it by value."""
    cloudpickle.register_pickle_by_value(misbehaving)

    def register(name: str, mode: str, **how: Any) -> None:
        def build(params: Any, context: BuildContext) -> Any:
            return misbehaving.Misbehaving(mode, **how)

        higgsbench.register_model(ModelSpec(name, build, missing=True))

    yield register
    cloudpickle.unregister_pickle_by_value(misbehaving)


@pytest.fixture
def two_models(config: Callable[..., Path]) -> TwoModels:
    """A configuration of a good model beside another."""

    def write(other: str) -> Path:
        return config(
            f"data: {{{{path: {{data}}}}}}\nmodels: [{{{{model: logistic, preset: quick}}}}, {other}]\nfolds: 2\n"
        )

    return write
