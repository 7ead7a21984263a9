"""python -m benchmarks.reliability [--part kills|dask|storage|concurrency|input|guided] [--kills N] [--cases N].

The last part needs atheris (Linux), without which it is left out.
"""

from __future__ import annotations

import argparse
import os
import tempfile

from benchmarks.reliability import concurrency, dask_kills, guided, kills, storage
from benchmarks.reliability import input as bad_input
from benchmarks.reliability.report import write_section

PARTS = ("kills", "dask", "storage", "concurrency", "input", "guided")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--kills", type=int, default=50, help="how often the run, and its Dask processes, are killed")
    parser.add_argument("--cases", type=int, default=bad_input.CASES, help="how many spoiled files are read")
    parser.add_argument("--seconds", type=int, default=guided.SECONDS, help="how long each guided fuzzer runs")
    options = parser.parse_args()
    parts = options.part or PARTS
    with tempfile.TemporaryDirectory(prefix="higgsbench-cache-") as cache:
        os.environ["HIGGSBENCH_CACHE_DIR"] = cache
        if "kills" in parts:
            kills.main(options.kills)
        if "dask" in parts:
            dask_kills.main(options.kills)
        if "storage" in parts:
            storage.main()
        if "concurrency" in parts:
            concurrency.main()
        if "input" in parts:
            write_section("input", bad_input.main(options.cases))
        if "guided" in parts and (options.part or guided.available()):
            write_section("guided", guided.main(options.seconds))


if __name__ == "__main__":
    main()
