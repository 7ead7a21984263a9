"""The blend of a stored run, member by member."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.ensemble.diversity import Diversity, blend_diversity
from higgsbench.errors import StoreError
from higgsbench.leaderboard.columns import printable
from higgsbench.sealed import read_vouched

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

__all__ = ["members_table", "read_diversity"]


def read_diversity(run: Path) -> Diversity:
    """Take the stack of a stored run apart, from its stored scores; nothing is trained but the blends.

    Args:
        run: the run's folder.

    Raises:
        StoreError: if the run is unfinished, has no stack, or its files are damaged.
    """
    if not (run / "rows.json").is_file():
        raise StoreError(f"{run}: no finished run; `higgsbench run` makes one")
    stack = _stack(run / "stack.json")
    names = [member["name"] for member in stack["members"]]
    columns = ["signal", "weight", "repeat", "fold", *(f"score:{name}" for name in names)]
    path = run / "scores.parquet"
    try:
        frame = pl.read_parquet(io.BytesIO(read_vouched(run, path.name)), columns=columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(
            f"{path}: the members' scores cannot be read ({error}); run the configuration again"
        ) from error
    repeats = [part.sort("repeat") for part in frame.partition_by("repeat", maintain_order=True)]
    y, w = repeats[0]["signal"].to_numpy(), repeats[0]["weight"].to_numpy()
    scores = np.stack([part.select(columns[4:]).to_numpy() for part in repeats])
    fold = np.stack([part["fold"].to_numpy().astype(np.int64) for part in repeats])
    totals = float(w[y].sum()), float(w[~y].sum())
    return blend_diversity(stack["method"], names, scores, y, w, fold, totals)


def _stack(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_vouched(path.parent, path.name))
        if content is None:
            raise StoreError(f"{path.parent}: this run has no stack (`stack: false`, or fewer than two rows)")
        if len([member["name"] + "" for member in content["members"]]) < 2 or not isinstance(content["method"], str):
            raise StoreError(f"{path}: a stack needs a method and two members")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run the configuration again") from error
    found: dict[str, Any] = content
    return found


def members_table(found: Diversity) -> Table:
    """Make the table of a blend's members, the most useful first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        header_style="bold", title=f"Stack ({found.method}), weighted AUC {found.auc:.4f}", title_justify="left"
    )
    for title in ("member", "weight", "wAUC alone", "gain in wAUC", "gain in log-loss x1e3", "most like", "r"):
        table.add_column(title, justify="left" if title in ("member", "most like") else "right")
    for m in sorted(found.members, key=lambda m: -m.log_loss_gain):
        table.add_row(
            Text(printable(m.name)),  # not as markup, which would take "[jets]" for a style
            f"{m.weight:.3f} ± {m.weight_sd:.3f}",
            f"{m.auc:.4f}",
            f"{m.auc_gain:+.5f} ± {m.auc_gain_se:.5f}",
            f"{1e3 * m.log_loss_gain:+.4f} ± {1e3 * m.log_loss_gain_se:.4f}",
            Text(printable(m.nearest)),
            f"{m.nearest_correlation:.3f}",
        )
    return table
