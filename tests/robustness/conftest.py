"""What the robustness tests share: tiny valid inputs to spoil, and the check that a command refuses them properly."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from higgsbench.cli.main import main
from tests.robustness.fuzzing import make_inputs

Refuse: TypeAlias = "Callable[..., str]"

PYTHON_WORDING = re.compile(
    r"Traceback|NoneType|KeyError|ValueError|TypeError|AttributeError|<class |<function|pydantic|input_value|\[type=|"
    r"object is not|not subscriptable|has no attribute|Errno|JSONDecode|dict object|validator|instances of"
)
"""Words that a user of the command line should never read."""


@pytest.fixture(scope="session")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of valid inputs, which no test changes."""
    folder = tmp_path_factory.mktemp("valid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(folder / "cache"))
        return make_inputs(folder).folder


@pytest.fixture
def here(valid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a copy of the valid inputs."""
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "cache"))
    work = tmp_path / "work"
    shutil.copytree(valid, work, ignore=shutil.ignore_patterns("cache", "runs", "toys.csv"))
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def refuse(here: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Call a command and return the line by which it refuses, which may have to match; all else is checked here."""

    def call(*args: str | Path, match: str = ".*") -> str:
        before = contents(here)
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(a) for a in args])
        out, err = capsys.readouterr()
        assert exit_.value.code == 2, err or out
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("Error: ")
        assert out == ""
        assert not PYTHON_WORDING.search(err), err
        assert err.rstrip("\n").isprintable()
        assert len(err) < 700
        assert contents(here) == before, "something was written"
        line = lines[0].removeprefix("Error: ")
        assert re.fullmatch(match, line), line
        return line

    return call


def contents(folder: Path) -> set[tuple[str, int]]:
    """Names and sizes of what lies in a folder; links are not followed."""
    return {(str(path.relative_to(folder)), path.lstat().st_size) for path in folder.rglob("*")}
