"""Is it better than AutoML? The rows of a run of `configs/peers.yaml`, paired with XGBoost on the same events.

higgsbench run configs/peers.yaml --data FILE --output results
python -m benchmarks.peers results/RUN
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks._common import band_ams, publish
from higgsbench.ensemble.evaluate import Truth, evaluate_row
from higgsbench.metrics import evaluation_weights, log_loss, paired_difference, roc_auc

REPLICAS = 200
REFERENCE_ROW = "score:xgboost"


def main() -> None:
    folder = Path(sys.argv[1])
    frame = pl.read_parquet(folder / "scores.parquet").filter(pl.col("repeat") == 0)
    rows = [name for name in frame.columns if name.startswith("score:")]
    y, w, fold = (frame[name].to_numpy() for name in ("signal", "weight", "fold"))
    scores = {name: frame[name].to_numpy() for name in rows}
    bands = _bands(y, w, scores)
    lines = [
        f"{y.size:,} events, {fold.max() + 1} folds; Δ: minus `{REFERENCE_ROW.removeprefix('score:')}`, paired.",
        "",
    ]
    lines += ["| model | wAUC | Δ | log-loss Δ x10³ | AMS cv | AMS at 10-20% | Δ |", "|---|---|---|---|---|---|---|"]
    base_auc, base_loss = roc_auc(y, scores[REFERENCE_ROW], w), log_loss(y, scores[REFERENCE_ROW], w)
    totals = float(w[y].sum()), float(w[~y].sum())
    for at, name in enumerate(rows):
        auc, loss = roc_auc(y, scores[name], w), log_loss(y, scores[name], w)
        d_auc, d_loss = paired_difference(auc, base_auc), paired_difference(loss, base_loss)
        row = evaluate_row(scores[name][None], Truth(y, w, fold[None].astype(np.int64), totals, 10.0, "smooth"))
        band, moved = bands[:, at], bands[:, at] - bands[:, rows.index(REFERENCE_ROW)]
        lines.append(
            f"| {name.removeprefix('score:')} | {auc.value:.4f} ± {auc.se:.4f} | {d_auc[0]:+.4f} ± {d_auc[1]:.4f} | "
            f"{1e3 * d_loss[0]:+.3f} ± {1e3 * d_loss[1]:.3f} | {row.value('ams'):.2f} ± {row.se('ams'):.2f} | "
            f"{band[0]:.3f} ± {band[1:].std(ddof=1):.3f} | {moved[0]:+.3f} ± {moved[1:].std(ddof=1):.3f} |"
        )
    publish("peers", "Against other AutoML frameworks", lines)


def _bands(y: NDArray[np.bool_], w: NDArray[np.float64], scores: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """AMS at 10-20% per replica and row: first the events as they are, then Poisson bootstrap replicas."""
    rng = np.random.default_rng(0)
    found = [[band_ams(y, score, w) for score in scores.values()]]
    totals = float(w[y].sum()), float(w[~y].sum())
    for _ in range(REPLICAS):
        count = rng.poisson(1.0, size=y.size)
        drawn = np.repeat(np.arange(y.size), count)
        weight = evaluation_weights(y[drawn], w[drawn], *totals)
        found.append([band_ams(y[drawn], score[drawn], weight) for score in scores.values()])
    return np.array(found)


if __name__ == "__main__":
    main()
