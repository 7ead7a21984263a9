"""python -m benchmarks.reliability [--part kills|dask|storage|concurrency|input] [--kills N] [--cases N]."""

from __future__ import annotations

import argparse
import os
import tempfile

from benchmarks.reliability import concurrency, kills, storage
from benchmarks.reliability import input as bad_input
from benchmarks.reliability.small import write_section

PARTS = ("kills", "dask", "storage", "concurrency", "input")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--kills", type=int, default=50, help="number of kills of the run, and of its Dask processes")
    parser.add_argument("--cases", type=int, default=bad_input.CASES, help="number of corrupted files that are read")
    options = parser.parse_args()
    parts = options.part or PARTS
    with tempfile.TemporaryDirectory(prefix="higgsbench-cache-") as cache:
        os.environ["HIGGSBENCH_CACHE_DIR"] = cache
        if "kills" in parts:
            kills.run_kills(options.kills)
        if "dask" in parts:
            kills.dask_kills(options.kills)
        if "storage" in parts:
            storage.storage()
        if "concurrency" in parts:
            concurrency.main()
        if "input" in parts:
            write_section("input", bad_input.main(options.cases))


if __name__ == "__main__":
    main()
