"""Public names: every docstring has its sections, and its example does what it says."""

from __future__ import annotations

import contextlib
import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import higgsbench
from higgsbench.events.simulate import SimulationSettings, write_simulated

NAMES = sorted(set(higgsbench.__all__) - {"__version__", "ATLAS_HIGGS"})
NEEDS = {"tune_model": "optuna", "write_report": "mplhep", "export_onnx": "onnx"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the examples speak of: 3,000 events in `events.csv`, and the run of the example of `run`."""
    folder = tmp_path_factory.mktemp("examples")
    write_simulated(SimulationSettings(events=3000, seed=1), folder / "events.csv")
    with contextlib.chdir(folder):
        higgsbench.run("quick", data="events.csv", only=["logistic", "lightgbm"], jobs=1)
        yield folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_examples(name: str, folder: Path) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason="the extra is not installed")
    doc = inspect.getdoc(getattr(higgsbench, name)) or ""
    test = doctest.DocTestParser().get_doctest(doc, {"higgsbench": higgsbench, "np": np}, name, None, None)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert test.examples, f"{name} has no example"
    runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_errors_are_described(name: str) -> None:
    value: Any = getattr(higgsbench, name)
    doc = inspect.getdoc(value) or ""
    assert "\nExample:\n" in doc
    if inspect.isfunction(value):
        described = [line.split(":")[0].strip() for line in doc.splitlines() if line.startswith("    ")]
        names = {part.strip() for line in described for part in line.split(",")}
        assert set(inspect.signature(value).parameters) <= names
        assert "\nRaises:\n" in doc
