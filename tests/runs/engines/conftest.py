from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import higgsbench
from higgsbench.models import BuildContext, ModelSpec
from higgsbench.runs import RunResult
from tests.runs.conftest import Notes, scores
from tests.runs.engines import misbehaving

Misbehave = Callable[..., None]
TwoModels = Callable[[str], Path]


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Wait until a condition is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def same_scores(result: RunResult, config: Path, output: Path) -> bool:
    """Whether a run has the scores, bit for bit, of one in this process."""
    serial = higgsbench.run(config, output=output, engine="serial")
    return scores(result).equals(scores(serial))


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder in which fits are counted."""
    folder = tmp_path / "begun"
    folder.mkdir()
    return folder


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
