"""`predict` with a run's blend against the sum of the bare libraries' predict calls on the same models.

    python -m benchmarks.predict_speed [EVENTS]     one million simulated events by default

The bare side has the feature matrix in memory and calls each library on blocks of events in two threads; nothing is
read, checked, blended or written. `predict` reads a Parquet file, checks every value and writes a table; its time
counts from the opening of the run to the closed file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import higgsbench
from benchmarks._common import publish
from higgsbench.events.formats import write_events
from higgsbench.events.read import load_events
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.features import feature_matrix
from higgsbench.models.scoring import read_log_odds
from higgsbench.runs.predictor import open_predictor

JOBS = 2
BLOCK = 1 << 16
CONFIG = """
data: {path: training.csv}
models: [logistic, random_forest, catboost, xgboost, lightgbm, mlp]
preset: quick
folds: 3
"""

DRIVER = """
import json, sys, time
from pathlib import Path
import catboost, lightgbm, sklearn.ensemble, xgboost
from higgsbench.runs.predict import predictions
from higgsbench.runs.predictor import open_predictor
from higgsbench.runs.predict import write_scores

def memory(name):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(name))
    return int(line.split()[1]) * 1024

start = memory("VmRSS")
begin, busy = time.perf_counter(), time.process_time()
predictor = open_predictor(Path(sys.argv[1]))
write_scores(predictions(predictor, sys.argv[2], int(sys.argv[3])), Path(sys.argv[4]))
print(json.dumps([time.perf_counter() - begin, time.process_time() - busy, memory("VmHWM") - start]))
"""


def bare_seconds(run: Path, data: Path) -> dict[str, float]:
    """Time of the libraries' own predict calls by row, all fold models together."""
    predictor = open_predictor(run)
    frame = load_events(data, cache=False).frame
    seconds = {}
    for row in predictor.rows:
        X = feature_matrix(frame, row.features)
        blocks = [X[first : first + BLOCK] for first in range(0, X.shape[0], BLOCK)]
        seconds[row.name] = 0.0
        for model in row.models:

            def call(part: np.ndarray[tuple[int, int], np.dtype[np.float32]], model: object = model) -> object:
                return read_log_odds(model.estimator_, part, model.log_odds)  # type: ignore[attr-defined]

            begin = time.perf_counter()
            with ThreadPoolExecutor(JOBS) as pool:
                list(pool.map(call, blocks))
            seconds[row.name] += time.perf_counter() - begin
    return seconds


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = SimulationSettings(events=15_000, seed=1, set_proportions={"t": 1.0})
        write_simulated(settings, folder / "training.csv")
        (folder / "blend.yaml").write_text(CONFIG.replace("training.csv", str(folder / "training.csv")))
        run = higgsbench.run(folder / "blend.yaml", output=folder / "runs", jobs=JOBS).folder
        toys = write_simulated(SimulationSettings(events=events, seed=2), folder / "new.csv")
        data = folder / "new.parquet"
        write_events(load_events(toys, cache=False).frame.drop("Label", "Weight"), data)
        toys.unlink()
        arguments = [str(run), str(data), str(JOBS), str(folder / "scores.parquet")]
        done = subprocess.run([sys.executable, "-c", DRIVER, *arguments], check=True, capture_output=True, text=True)
        seconds, busy, memory = json.loads(done.stdout)
        before = time.process_time()
        bare = bare_seconds(run, data)
        bare_busy = time.process_time() - before
    total = sum(bare.values())
    publish(
        "predict-speed",
        "Predicting with the blend",
        [
            f"`higgsbench predict` of {events:,} simulated events (Parquet) with the blend of {len(bare)} models x 3 "
            f"folds, {JOBS} threads: {seconds:.1f} s. The libraries' own predict calls: {total:.1f} s "
            f"({', '.join(f'{row} {value:.1f}' for row, value in bare.items())}).",
            "",
            f"Processor time, which other work on the machine disturbs less: {busy:.1f} s and {bare_busy:.1f} s "
            f"(the latter with the reading of the matrix), ratio {busy / bare_busy:.2f}.",
            "",
            f"Ratio: **{seconds / total:.2f}**; bound 1.30. Peak memory above start-up: **{memory / 2**30:.2f} GiB**; "
            "bound 2.",
        ],
    )


if __name__ == "__main__":
    main()
