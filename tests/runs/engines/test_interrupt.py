"""Ctrl-C ends a run within two seconds on every engine, whatever its fits are doing, and loses nothing."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import higgsbench
from tests.runs.engines.conftest import Misbehave, TwoModels, wait_for

SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np
import higgsbench
from higgsbench.cli.main import main
from higgsbench.models import ModelSpec
from sklearn.base import BaseEstimator

class Long(BaseEstimator):
    def fit(self, X, y, sample_weight=None):
        Path(BEGUN).touch()
        if MODE == "library":
            time.sleep(600)  # one call that Python cannot interrupt
        while True:
            np.ones(10).sum()

    def predict_proba(self, X):
        raise NotImplementedError  # it never ends training

BEGUN, MODE, *arguments = sys.argv[1:]

def build(params, context):
    return Long()

higgsbench.register_model(ModelSpec("long", build, missing=True))
main(["run", *arguments])
"""
"""A script as users write it: no `if __name__ == "__main__"`."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "mode", "quiet"),
    [
        ("serial", "library", False),
        ("serial", "python", True),
        ("local", "library", False),
        ("local", "python", True),
        ("dask", "library", False),
    ],
)
def test_an_interruption_is_heard_at_once(
    two_models: TwoModels, misbehave: Misbehave, tmp_path: Path, engine: str, mode: str, quiet: bool
) -> None:
    if engine == "dask" and importlib.util.find_spec("distributed") is None:
        pytest.skip("the extra dask is not installed")
    misbehave("long", "hang")
    config, output, begun = two_models("long"), tmp_path / "out", tmp_path / "begun"
    first = higgsbench.run(config, output=output, only=["logistic"], engine="serial")
    (tmp_path / "script.py").write_text(SCRIPT)
    options = ["--engine", engine, *["--quiet"] * quiet, *["--jobs", "2"] * (engine != "serial")]
    run = subprocess.Popen(
        [sys.executable, *map(str, [tmp_path / "script.py", begun, mode, config, "--output", output]), *options],
        env={**os.environ, "PYTHONPATH": str(Path(higgsbench.__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: begun.exists() or run.poll() is not None)
    assert run.poll() is None, run.communicate()
    children = psutil.Process(run.pid).children(recursive=True)
    begin = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    spent = time.monotonic() - begin
    assert run.returncode == 130
    assert "Traceback" not in err
    assert err.rstrip().splitlines()[-1].startswith("Interrupted")
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not list(output.rglob(".tmp-*"))
    # Units of this run, and those taken over from the first.
    assert len(list(output.glob("*/units/[!.]*.json"))) == 2 * first.trained
    assert spent < 2.0
