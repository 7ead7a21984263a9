"""python -m benchmarks.reliability.neighbour CONFIG OUTPUT JOBS [MODEL...]: a run that tells what it trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import higgsbench

if __name__ == "__main__":
    config, output, jobs, *only = sys.argv[1:]
    result = higgsbench.run(Path(config), output=Path(output), jobs=int(jobs), only=only)
    print(json.dumps({"folder": str(result.folder), "trained": result.trained, "reused": result.reused}))
