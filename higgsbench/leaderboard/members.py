"""The blend of a stored run, member by member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.ensemble.blend import BLEND_METHODS, Diversity, blend_diversity
from higgsbench.errors import StoreError
from higgsbench.files import read_vouched_json
from higgsbench.leaderboard.columns import printable
from higgsbench.leaderboard.scores import read_scores

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
    frame = read_scores(run, names)
    repeats = frame.partition_by("repeat", maintain_order=True)
    y, w = repeats[0]["signal"].to_numpy(), repeats[0]["weight"].to_numpy()
    scores = np.stack([part.select([f"score:{name}" for name in names]).to_numpy() for part in repeats])
    fold = np.stack([part["fold"].to_numpy().astype(np.int64) for part in repeats])
    totals = float(w[y].sum()), float(w[~y].sum())
    return blend_diversity(stack["method"], names, scores, y, w, fold, totals)


def _stack(path: Path) -> dict[str, Any]:
    again = "run the configuration again to restore it"
    try:
        content = read_vouched_json(path.parent, path.name)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}; {again}") from error
    except ValueError as error:
        raise StoreError(str(error)) from error
    if content is None:
        raise StoreError(f"{path.parent}: this run has no stack (`stack: false`, or fewer than two rows)")
    members = content.get("members") if isinstance(content, dict) else None
    if not isinstance(members, list) or any(
        not isinstance(member, dict) or not isinstance(member.get("name"), str) for member in members
    ):
        raise StoreError(f"{path}: damaged or not made by higgsbench: no list of members with names")
    if len({member["name"] for member in members}) < max(2, len(members)):
        raise StoreError(f"{path}: damaged or not made by higgsbench: a stack needs two members, each once")
    if content.get("method") not in BLEND_METHODS:
        shown = printable(content.get("method"))[:60]
        raise StoreError(f"{path}: its method {shown!r} is not one of {', '.join(BLEND_METHODS)}")
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
