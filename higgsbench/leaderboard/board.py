"""Rank comparable rows, with the paired difference of each to the first."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.ensemble.evaluate import paired_error
from higgsbench.errors import ConfigError
from higgsbench.leaderboard.collect import StoredRow, collect_rows
from higgsbench.leaderboard.columns import check_sort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.ensemble.evaluate import Replicas

__all__ = ["Leaderboard", "Table"]

NOT_DISTINGUISHABLE = 2.0
"""Rows whose paired difference to the first is under this many standard errors are marked as not distinguishable."""

_DIFFERENCES = (("ams_cv", "diff"), ("auc", "diff_auc"))
_LOWER_IS_BETTER = frozenset({"log_loss", "fit_seconds", "predict_us", "peak_mb", "b"})


@dataclass(frozen=True)
class Table:
    """Rows that may be ranked together.

    Attributes:
        comparability: what they share.
        source: name of the events.
        rows: records in rank order, with `rank`, `diff`, `diff_se`, `diff_auc`, `diff_auc_se`, `distinguishable`.
    """

    comparability: dict[str, Any]
    source: str
    rows: tuple[dict[str, Any], ...]

    @property
    def title(self) -> str:
        """One line that says what the rows share."""
        c = self.comparability
        kind = "TOY SIMULATION, " if c.get("simulated") else ""
        held_out = f", {c['test_events']:,} held out" if c.get("test_events") else ""
        repeats = f" x {c['repeats']} repeats" if c.get("repeats", 1) != 1 else ""
        return (
            f"{kind}{self.source}: {c['events']:,} events{held_out}, {c.get('folds')} folds{repeats}, "
            f"data {str(c.get('data'))[:8]}, folds {str(c.get('fold_digest'))[:8]}"
        )


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """All tables of a results folder.

    Attributes:
        tables: one per group of comparable rows, the largest first.
        notes: what was left out, and why.
    """

    tables: tuple[Table, ...]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, results: str | Path = "results", *, sort: str = "ams_cv") -> Leaderboard:
        """Read and rank all runs under a folder.

        Args:
            results: folder that holds runs, or one run's folder.
            sort: column that ranks, e.g. `ams_cv`, `auc` or `log_loss`.

        Raises:
            StoreError: if the folder does not exist.
            ConfigError: if there is no such column of numbers, or no row has one.
        """
        if not isinstance(results, (str, os.PathLike)):
            raise ConfigError(f"results: expected a folder, got {str(results)[:60]!r} (a {type(results).__name__})")
        check_sort(sort)
        rows, notes = collect_rows(Path(results))
        groups: dict[str, list[StoredRow]] = {}
        for row in rows:
            groups.setdefault(row.group, []).append(row)
        if rows and not any(isinstance(row.record.get(sort), (int, float)) for row in rows):
            numbers = sorted({k for row in rows for k, v in row.record.items() if isinstance(v, (int, float))})
            raise ConfigError(f"--sort: no row has a number {sort!r}; there are {', '.join(numbers)}")
        # Real data before toy simulation, then by size.
        order = sorted(
            groups.values(), key=lambda g: (bool(g[0].comparability.get("simulated")), -len(g), g[0].run.name)
        )
        if len(order) > 1:
            notes.append(f"{len(order)} tables: rows with other events, folds or definitions are never ranked together")
        return cls(tuple(_ranked(group, sort) for group in order), tuple(notes))

    def __repr__(self) -> str:
        """Name the tables; `render` shows their rows."""
        tables = "; ".join(f"{table.title}: {len(table.rows)} rows" for table in self.tables)
        return f"<Leaderboard of {len(self.tables)} tables{': ' if tables else ''}{tables}>"

    def render(self, form: str = "markdown", columns: Sequence[str] | None = None) -> str:
        """Return the tables as text.

        Args:
            form: `markdown`, `csv`, `json` (both with full precision) or `html`.
            columns: names of the columns to show; all when None.

        Raises:
            ConfigError: if a form or column is not known.
        """
        from higgsbench.leaderboard.render import TEXT_FORMATS, render

        if form not in TEXT_FORMATS:
            raise ConfigError(f"form: {form!r} is not one of {', '.join(TEXT_FORMATS)}")
        return render(self, form, columns)


def _ranked(group: list[StoredRow], sort: str) -> Table:
    sign = 1.0 if sort in _LOWER_IS_BETTER else -1.0

    def position(row: StoredRow) -> tuple[bool, float, str]:
        value = row.record.get(sort)
        usable = row.ok and isinstance(value, (int, float)) and np.isfinite(value)
        return (not usable, sign * float(value) if usable and value is not None else 0.0, str(row.record["name"]))

    ordered = sorted(group, key=position)
    best = ordered[0]
    reference = best.replicas() if best.ok else None
    records = []
    for rank, row in enumerate(ordered, start=1):
        record = {**row.record, "run": row.run.name, "rank": rank if row.ok else None}
        if row.ok:
            record |= _difference(row, best, reference, "diff_auc" if sort == "auc" else "diff")
        records.append(record)
    return Table(best.comparability, best.source, tuple(records))


def _difference(row: StoredRow, best: StoredRow, reference: Replicas | None, verdict: str) -> dict[str, Any]:
    """Paired differences to the row that ranks first; without bootstrap replicas they have no error and no verdict.

    Args:
        row: the row.
        best: the first row.
        reference: replicas of the first row.
        verdict: the difference that decides whether the row can be told from the first.
    """
    out: dict[str, Any] = {name: row.record[metric] - best.record[metric] for metric, name in _DIFFERENCES}
    own = reference if row is best else row.replicas()
    if (
        own is None
        or reference is None
        or own.values["auc"].shape != reference.values["auc"].shape
        or own.values["auc"].size < 2
    ):
        out |= {f"{name}_se": None for _, name in _DIFFERENCES}
    else:
        out["diff_se"] = paired_error(own, reference)
        out["diff_auc_se"] = float(np.std(own.values["auc"] - reference.values["auc"], ddof=1))
    difference, se = out[verdict], out[f"{verdict}_se"]
    known = row is not best and se is not None and np.isfinite(se) and np.isfinite(difference)
    # Rows of equal scores differ by nothing, with no error.
    apart = known and difference != 0.0 and abs(difference) >= NOT_DISTINGUISHABLE * se
    out["distinguishable"] = bool(apart) if known else None
    return out
