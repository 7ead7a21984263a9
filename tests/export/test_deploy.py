"""The snippets of docs/deploy.md work on an exported graph."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.export import chosen_models, export_onnx
from higgsbench.runs import find_run

from .conftest import inputs_of

pytest.importorskip("onnx", reason="needs the extra 'onnx'")
pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
PLACES = [Path(place) for place in (os.environ.get("ONNXRUNTIME_ROOT", "/opt/onnxruntime"), "/usr", "/usr/local")]


def snippet(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found is not None
    return found[1]


def test_python(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_onnx(run, tmp_path / "model.onnx", model="lightgbm [jets]")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(snippet("python"), "deploy.md", "exec"), names)  # noqa: S102  (our own page)
    assert names["log_odds"].shape == names["selected"].shape == (1,)


def test_cpp(run: Path, tmp_path: Path, simulated: pl.DataFrame) -> None:
    headers = [h for place in PLACES for h in place.glob("include/**/onnxruntime_cxx_api.h")]
    libraries = [file for place in PLACES for file in place.glob("lib*/**/libonnxruntime.so*")]
    if shutil.which("g++") is None or not headers or not libraries:
        pytest.skip("needs g++ and the C++ package of onnxruntime (set ONNXRUNTIME_ROOT)")
    export_onnx(run, tmp_path / "model.onnx")
    predictor = chosen_models(find_run(run), None, None)
    X = np.ascontiguousarray(inputs_of(predictor, simulated))
    X.tofile(tmp_path / "features.bin")
    (tmp_path / "score.cpp").write_text(snippet("cpp"))
    where = [f"-I{headers[0].parent}", str(libraries[0]), f"-Wl,-rpath,{libraries[0].parent}"]
    subprocess.run(["g++", "-std=c++17", "-Wall", "score.cpp", *where, "-o", "score"], cwd=tmp_path, check=True)
    command = ["./score", "model.onnx", "features.bin", str(X.shape[1])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    np.testing.assert_allclose(np.array(done.stdout.split(), dtype=float), predictor.scores(simulated), atol=1e-4)
