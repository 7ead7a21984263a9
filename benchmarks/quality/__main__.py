"""python -m benchmarks.quality [--part ladder|stacking|simulated] [--output FOLDER] [--peers RUN]."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from benchmarks.common import SAMPLE
from benchmarks.quality import ladder, simulated, stacking


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("--part", choices=("ladder", "stacking", "simulated"), action="append")
    parser.add_argument(
        "--output", type=Path, default=Path("build/quality"), help="folder of stored runs, reused next time"
    )
    parser.add_argument("--peers", type=Path, help="stored run of configs/peers.yaml on the same events")
    options = parser.parse_args()
    parts = options.part or ("ladder", "stacking", "simulated")
    if set(parts) & {"ladder", "stacking"} and not SAMPLE.is_file():
        raise SystemExit(f"the sample of real events is not at {SAMPLE}; only --part simulated can run")
    if "ladder" in parts:
        ladder.main(options.output, options.peers)
    if "stacking" in parts:
        stacking.main(options.output)
    if "simulated" in parts:
        simulated.main(options.output / "simulated", importlib.util.find_spec("torch") is not None)


if __name__ == "__main__":
    main()
