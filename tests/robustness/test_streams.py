"""Standard output of any encoding, or none at all, ends no command in a traceback."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from higgsbench.cli.main import main

COMMANDS = (
    "--help",
    "leaderboard run",
    "leaderboard run --format markdown",
    "members run",
    "compare run --replicas 20",
    "compare run --replicas 20 --format markdown",
    "stats run --model stack --sigma-b 5%",
    "predict run test.csv -o -",
    "submit run test.csv -o -",
    "score submission.csv truth.csv",
    "models --preset good",
    "features physics",
    "explore train.csv",
    "data info train.csv",
    "data validate train.csv",
    "run c.yaml --data train.csv --only logistic -j 1",
    "run c.yaml --data train.csv --only logistic -j 1 --plan",
    "environment",
    "leaderboard nowhere",
)


def ended(command: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(command.split())
    return int(exit_.value.code or 0)


@pytest.mark.parametrize("command", COMMANDS)
def test_encodings(command: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("ascii", "cp1252"):
        out, err = io.BytesIO(), io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding))
        assert ended(command) in (0, 1, 2)
        sys.stdout.flush()
        sys.stderr.flush()
        text = (out.getvalue() + err.getvalue()).decode(encoding, "replace")  # click writes UTF-8 where it finds ASCII
        assert text
        assert "Traceback" not in text
        if command in ("members run", "leaderboard run"):
            assert (" +- " if encoding == "ascii" else " ± ") in text


@pytest.mark.parametrize("closed", [("stdout",), ("stderr",), ("stdout", "stderr")], ids="+".join)
@pytest.mark.parametrize("command", COMMANDS)
def test_closed_streams(command: str, closed: tuple[str, ...], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None if name in closed else io.TextIOWrapper(io.BytesIO(), "utf-8"))
    code = ended(command)
    for name in closed:
        getattr(sys, name).close()
    assert code == (2 if command.endswith("nowhere") else code)
    assert code in (0, 1, 2)


def test_no_home_and_an_unknown_user(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run with user numbers that no list of users knows: work goes on without a cache."""
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "HIGGSBENCH_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for command in ("environment", "data info train.csv", "run c.yaml --data train.csv --only logistic -j 1 -q"):
        assert ended(command) == 0


TWICE = """
run c.yaml --data train.csv --data test.csv
predict run test.csv -o a.csv --output b.csv
tune c.yaml --model lightgbm --model logistic
leaderboard --sort auc --sort ams_cv
data simulate --events 10 --seed 1 --seed 2 -o x.csv
export mlflow run --experiment a --experiment b
"""


@pytest.mark.parametrize("command", TWICE.strip().splitlines())
def test_an_option_of_one_value_given_twice(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: the last one was taken without a word."""
    assert ended(command) == 2
    err = capsys.readouterr().err
    assert "is given 2 times; it takes one value" in err
    assert len(err.splitlines()) == 1


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the extra in a hint to install it was taken for a style and left out."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if "flaml" in name else find(name))
    assert ended("models") == 0
    assert re.search(r"pip install 'higgsbench\[(\w+,)*flaml(,\w+)*\]'\n", capsys.readouterr().out)


FILES_FOR_FOLDERS = """
leaderboard train.csv
members train.csv
compare --run train.csv
stats train.csv
predict train.csv test.csv -o x.csv
submit train.csv test.csv -o x.csv
report train.csv
export mlflow train.csv --tracking-uri sqlite:///x.db
members run --results train.csv
run c.yaml --data train.csv --output test.csv
tune c.yaml --data train.csv --model logistic --studies test.csv
report run --figures train.csv
data fetch --from train.csv -o nowhere/x
"""


@pytest.mark.parametrize("command", FILES_FOR_FOLDERS.strip().splitlines())
def test_a_file_for_a_folder(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(command) in ((0,) if command.startswith("members run") else (2,))
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2
    if command.split()[0] in ("leaderboard", "members", "compare", "stats", "predict", "submit"):
        assert "train.csv: a file; name " in err or command.startswith("members run")
