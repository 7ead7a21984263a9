"""Section "guided" of the reliability report: inputs that atheris grows by what they reach in the readers' code.

`python -m benchmarks.reliability.guided --child TARGET [options of libFuzzer]` is one fuzzer; the section runs one per
target. What the parsers in Rust and C do with an input is not seen by it: those are what the section "input" is for.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["available", "main"]

SECONDS = 300
TARGETS = {"config": "configurations", "submission": "submissions", "expression": "expressions of features"}
_INSTRUMENTED = ["higgsbench.config", "higgsbench.features", "higgsbench.challenge", "yaml"]


def available() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def main(seconds: int = SECONDS) -> list[str]:
    """Return the lines of the section."""
    lines = [
        "Byte strings that a coverage-guided fuzzer (atheris) grows from valid ones. Each must be read or refused with",
        "a message of its own within 10 s.",
        "",
        "| read | cases | branches reached | other exceptions or hangs |",
        "|---|---:|---:|---:|",
    ]
    for target, words in TARGETS.items():
        with tempfile.TemporaryDirectory(prefix="higgsbench-guided-") as folder:
            _seeds(target, Path(folder))
            limits = [f"-max_total_time={seconds}", "-max_len=3000", "-timeout=10", "-print_final_stats=1"]
            command = [sys.executable, "-m", "benchmarks.reliability.guided", "--child", target, *limits, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
        found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        reached = re.findall(r"cov: (\d+)", done.stderr)
        if done.returncode != 0:
            sys.stderr.write(done.stderr[-3000:])
        cases = f"{int(found[1]):,}" if found else "-"
        lines.append(f"| {words} | {cases} | {reached[-1] if reached else '-'} | {int(done.returncode != 0)} |")
    return lines


def _seeds(target: str, folder: Path) -> None:
    from tests.robustness.fuzzing import CONFIG

    if target == "config":
        (folder / "a").write_text(CONFIG)
        for file in Path("configs").glob("*.yaml"):
            (folder / file.name).write_bytes(file.read_bytes())
    elif target == "submission":
        (folder / "a").write_text("EventId,RankOrder,Class\n7,1,b\n5,2,s\n6,3,s\n")
    else:
        (folder / "a").write_text("sqrt(PRI_met) / (DER_sum_pt + 1) * CASE WHEN PRI_jet_num > 1 THEN 2 ELSE 3 END")


def _child(target: str) -> None:
    """Fuzz one reader; ends with another code than 0 at the first exception that is no message for users."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from higgsbench.challenge import read_submission
        from higgsbench.config import load_config
        from higgsbench.errors import HiggsbenchError
        from higgsbench.features.sql import sql_quantity
        from higgsbench.schema import ATLAS_HIGGS
    folder = tempfile.TemporaryDirectory(prefix="higgsbench-guided-")
    file = Path(folder.name) / "input"

    def read(content: bytes) -> None:
        try:
            if target == "expression":
                sql_quantity("x", content.decode("utf-8", "replace"), ATLAS_HIGGS)
                return
            file.write_bytes(content)
            if target == "config":
                load_config(file)
            else:
                read_submission(file)
        except HiggsbenchError:
            pass

    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        chosen = sys.argv[2]
        del sys.argv[1:3]
        _child(chosen)
