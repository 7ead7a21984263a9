"""Section "input" of the reliability report: corrupted files of every kind, read in bounded time and memory.

`python -m benchmarks.reliability.input [--cases N] [--only TARGET]` prints the section. Each target runs in its own
process, so that a library that ends the process is noticed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

SHARES = {
    "events": 30, "validate": 4, "config": 30, "submission": 12, "leaderboard": 8, "compare": 4, "predictor": 5,
    "members": 3, "scores": 2, "models": 2,
}  # fmt: skip
"""Percentage of the cases for each target."""

WORDS = {
    "events": "event files (load_events, EventStream)",
    "validate": "event files (validate)",
    "config": "configurations",
    "submission": "submissions",
    "leaderboard": "rows.json (leaderboard)",
    "compare": "rows.json (compare)",
    "predictor": "predictor.json (predict)",
    "members": "stack.json (members)",
    "scores": "scores.parquet (compare)",
    "models": "stored models (predict)",
}
CASES = 100_000
LIMIT_MB = 4_000
SECONDS = 5.0


def main(cases: int = CASES, only: str | None = None) -> list[str]:
    """Return the lines of the section.

    Args:
        cases: number of corrupted inputs, over all targets.
        only: one target, or None for all.
    """
    lines = [
        "Valid files are corrupted at random (bytes, cells, words, tree values; checksums are adjusted) and read.",
        f"Each must be read, or refused with an error of higgsbench, within {SECONDS:.0f} s of CPU time and "
        f"{LIMIT_MB / 1000:.0f} GB of address space.",
        "",
        "| read | cases | refused | other exceptions | processes that died | slowest, s | memory growth, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    total = bad = 0
    for target in [only] if only else SHARES:
        count = max(1, cases * SHARES[target] // 100)
        found = _in_own_process(target, count)
        total, bad = total + found["cases"], bad + found["crashes"] + found["ended"]
        numbers = f"{found['cases']:,} | {found['refused']:,} | {found['crashes']} | {found['ended']}"
        lines.append(f"| {WORDS[target]} | {numbers} | {found['slowest']:.2f} | {found['grown_mb']:.0f} |")
        sys.stderr.write(lines[-1] + "\n")
    lines += ["", f"{total:,} cases, {bad} of them neither read correctly nor refused."]
    return lines


def _in_own_process(target: str, cases: int) -> dict[str, Any]:
    """Fuzz a target in child processes; if one ends early, it is counted and a new one continues."""
    sum_: dict[str, Any] = {"cases": 0, "refused": 0, "crashes": 0, "ended": 0, "slowest": 0.0, "grown_mb": 0.0}
    with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
        progress = Path(folder) / "progress.json"
        first = 0
        while first < cases:
            arguments = [target, str(first), str(cases), folder]
            command = [sys.executable, "-m", "benchmarks.reliability.input", "--child", *arguments]
            done = subprocess.run(command, check=False)
            found = json.loads(progress.read_text())
            for key in ("cases", "refused", "crashes"):
                sum_[key] += found[key]
            for key in ("slowest", "grown_mb"):
                sum_[key] = max(sum_[key], found[key])
            first = found["next"]
            if done.returncode != 0:
                sum_["ended"] += 1
                sum_["cases"] += 1
                first += 1
                sys.stderr.write(f"{target}: case {first - 1} ended the process ({done.returncode})\n")
            progress.unlink()
    return sum_


def _child(target: str, first: int, last: int, folder: str) -> None:
    """Run cases FIRST to LAST of a target; FOLDER/progress.json always holds their results so far."""
    from tests.robustness.fuzzing import attempt, make_inputs

    os.environ["HIGGSBENCH_CACHE_DIR"] = f"{folder}/cache"
    warnings.simplefilter("ignore")
    inputs = make_inputs(Path(folder) / f"inputs-{first}")
    attempt(target, inputs, Random(0))  # noqa: S311
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_MB * 1_000_000, resource.RLIM_INFINITY))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: dict[str, Any] = {"cases": 0, "refused": 0, "crashes": 0, "slowest": 0.0, "grown_mb": 0.0, "next": first}
    progress = os.open(f"{folder}/progress.json", os.O_WRONLY | os.O_CREAT)
    for case in range(first, last):
        text = json.dumps({**found, "next": case}).ljust(300).encode()
        os.pwrite(progress, text, 0)
        begin = time.process_time()
        try:
            found["refused"] += attempt(target, inputs, Random(f"{target} {case}"))  # noqa: S311
        except BaseException:
            found["crashes"] += 1
            sys.stderr.write(f"{target}: case {case}: {traceback.format_exc()}\n")
        seconds = time.process_time() - begin
        if seconds > SECONDS:
            found["crashes"] += 1
            sys.stderr.write(f"{target}: case {case} took {seconds:.1f} s\n")
        found["cases"] += 1
        found["slowest"] = max(found["slowest"], seconds)
        found["grown_mb"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1000
    os.pwrite(progress, json.dumps({**found, "next": last}).ljust(300).encode(), 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability.input")
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--only", choices=tuple(SHARES))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child[0], int(options.child[1]), int(options.child[2]), options.child[3])
    else:
        sys.stdout.write("\n".join(main(options.cases, options.only)) + "\n")
