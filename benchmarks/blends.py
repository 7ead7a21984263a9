"""Which blend, which recalibration: cross-fitted stacks over the stored scores of `configs/all.yaml`.

higgsbench run configs/all.yaml --data FILE --output results           (and with --set seed=43 for a second seed)
python -m benchmarks.blends results
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._common import band_ams, publish
from higgsbench.ensemble import BLEND_METHODS, cross_fitted_blend, cross_fitted_recalibration
from higgsbench.ensemble.evaluate import Truth, evaluate_row
from higgsbench.metrics import log_loss, paired_difference, roc_auc


def main() -> None:
    lines: list[str] = []
    for folder in sorted(p.parent for p in Path(sys.argv[1]).glob("*/scores.parquet")):
        lines += _of_run(folder)
    publish("blends", "Blends and recalibration", lines)


def _of_run(folder: Path) -> list[str]:
    frame = pl.read_parquet(folder / "scores.parquet").filter(pl.col("repeat") == 0)
    members = [c for c in frame.columns if c.startswith("score:") and c != "score:stack"]
    y, w, fold = (frame[c].to_numpy() for c in ("signal", "weight", "fold"))
    totals = float(w[y].sum()), float(w[~y].sum())
    F = frame.select(members).to_numpy()
    names = tuple(members)
    candidates = {m: cross_fitted_blend(m, names, F, y, w, fold, totals)[0] for m in BLEND_METHODS}
    part = np.zeros(y.size, dtype=np.int64)
    best = "score:xgboost"
    single = frame[best].to_numpy()
    candidates["xgboost alone"] = single
    candidates["xgboost alone, logit recalibration"] = cross_fitted_recalibration(single, y, w, part, fold)
    reference = candidates["mean"]
    lines = [f"Run `{folder.name}`, {y.size:,} events, {len(members)} members, cross-fitted.", ""]
    lines += [
        "| blend | log-loss x10³ | Δ to mean | wAUC | Δ to mean | AMS at 10-20% | AMS cv |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, scores in candidates.items():
        loss, auc = log_loss(y, scores, w), roc_auc(y, scores, w)
        d_loss = paired_difference(loss, log_loss(y, reference, w))
        d_auc = paired_difference(auc, roc_auc(y, reference, w))
        band = band_ams(y, scores, w)
        truth = Truth(y, w, fold[None].astype(np.int64), totals, 10.0, "smooth")
        row = evaluate_row(scores[None], truth)
        lines.append(
            f"| {name} | {1e3 * loss.value:.3f} | {1e3 * d_loss[0]:+.3f} ± {1e3 * d_loss[1]:.3f} | {auc.value:.4f} | "
            f"{d_auc[0]:+.4f} ± {d_auc[1]:.4f} | {band:.2f} | {row.value('ams'):.2f} ± {row.se('ams'):.2f} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
