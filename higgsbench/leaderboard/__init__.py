"""Leaderboards: comparable rows of stored runs, ranked, with the paired difference of each to the first.

CSV and JSON carry full precision; a terminal, Markdown and HTML round. Nothing here imports a model or training code.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

import higgsbench.pages as pages
from higgsbench import __version__
from higgsbench.challenge import published_note, simulation_note
from higgsbench.ensemble import paired_error
from higgsbench.ensemble.blend import BLEND_METHODS, Diversity, blend_diversity
from higgsbench.errors import ConfigError, HiggsbenchError, StoreError
from higgsbench.files import printable
from higgsbench.leaderboard.columns import (
    COLUMNS,
    Column,
    check_sort,
    choose_columns,
    column_hint,
    columns_of,
    difference_key,
    spectator_columns,
    with_intervals,
)
from higgsbench.metrics.estimates import METRICS
from higgsbench.metrics.spectators import LEGEND as SPECTATOR_LEGEND
from higgsbench.metrics.spectators import spectators_of
from higgsbench.pages import Shown
from higgsbench.runs import find_run, run_folders
from higgsbench.runs.stored import StoredRow, StoredRun, stored_units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console
    from rich.table import Table as RichTable

    from higgsbench.ensemble import Replicas
    from higgsbench.runs import RunResult

NOT_DISTINGUISHABLE = 2.0  # standard errors of the paired difference to the first row
MANY = 100  # tables with more rows are drawn without rich
TEXT_FORMATS = ("markdown", "csv", "json", "html")

LEGEND = (
    "AMS cv: the cut of each fold is chosen on the other folds, s and b are pooled. ≈ not distinguishable from the "
    "first (paired difference under 2 standard errors). * best cut, evaluated on the scores that chose it: optimistic."
)


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
        """What the rows share, in one line."""
        c = self.comparability
        kind = "TOY SIMULATION, " if c.get("simulated") else ""
        held_out = f", {c['test_events']:,} held out" if c.get("test_events") else ""
        repeats = f" x {c['repeats']} repeats" if c.get("repeats", 1) != 1 else ""
        return (
            f"{kind}{self.source}: {c['events']:,} events{held_out}, {c.get('folds')} folds{repeats}, "
            f"data {str(c.get('data'))[:8]}, folds {str(c.get('fold_digest'))[:8]}"
        )


@dataclass(frozen=True, repr=False)
class Leaderboard(Shown):
    """All tables of a results folder.

    Attributes:
        tables: one per group of comparable rows, the largest first.
        notes: what was left out, and why.

    Example:
        >>> board = higgsbench.Leaderboard.read("results")
        >>> [row["label"] for row in board.tables[0].rows]
        ['stack', 'lightgbm', 'logistic']
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
            ConfigError: if no column of numbers has this name, or no row has a number there.
        """
        if not isinstance(results, (str, os.PathLike)):
            raise ConfigError(f"results: expected a folder, got {str(results)[:60]!r} (a {type(results).__name__})")
        check_sort(sort)
        runs: list[StoredRun] = []
        notes: list[str] = []
        for folder in run_folders(Path(results)):
            try:
                runs.append(StoredRun(folder))
            except StoreError as error:
                reason = str(error).removeprefix(str(folder)).lstrip("/\\: ")
                notes.append(f"{folder.name}: left out, {reason}")
        rows = with_intervals(_distinct_rows(runs, notes), notes)
        if rows and not any(isinstance(row.record.get(sort), (int, float)) for row in rows):
            numbers = {k for row in rows for k, v in row.record.items() if ":" not in k and isinstance(v, (int, float))}
            names = sorted(numbers) + [c.name for c in columns_of([row.record for row in rows])[len(COLUMNS) :]]
            raise ConfigError(f"--sort: no row has a number {sort!r}{column_hint(sort, names)}")
        groups: dict[str, list[StoredRow]] = {}
        for row in rows:
            groups.setdefault(row.run.group, []).append(row)
        # Real data before toy simulation, then by size.
        order = sorted(
            groups.values(), key=lambda g: (bool(g[0].run.comparability.get("simulated")), -len(g), g[0].run.name)
        )
        with ThreadPoolExecutor() as pool:  # Polars reads Parquet outside the interpreter's lock
            list(pool.map(lambda run: run.replica_table, {row.run for row in rows if row.ok}))
        tables = tuple(_ranked(group, sort) for group in order)
        notes += [note for run in runs for note in run.notes]
        if len(order) > 1:
            notes.append(f"{len(order)} tables: different events, folds or definitions are never ranked together")
        return cls(tables, tuple(notes))

    def __repr__(self) -> str:
        """Name the tables; `render` shows their rows."""
        tables = "; ".join(f"{len(table.rows)} rows ({table.title})" for table in self.tables)
        return f"<Leaderboard{' of ' + tables if tables else ', empty'}>"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Records of all tables, with the number of the table (from 1) as `table`."""
        return [{"table": number, **row} for number, table in enumerate(self.tables, start=1) for row in table.rows]

    def as_tables(self) -> list[pages.Table]:
        """Return the tables with all columns that have a value in some row."""
        return [page_table(table, self.columns(None, table)) for table in self.tables]

    def records(self) -> list[dict[str, Any]]:
        """Return `rows`."""
        return self.rows

    def remarks(self) -> list[str]:
        """Return the legend and the notes."""
        about = dict.fromkeys(published_note(table.comparability, table.rows) for table in self.tables)
        about |= dict.fromkeys(simulation_note(table.rows) for table in self.tables)
        return [
            *([LEGEND] if self.tables else []),
            *([SPECTATOR_LEGEND] if any(map(spectators_of, self.rows)) else []),
            *filter(None, about),
            *(f"Note: {printable(note)}" for note in self.notes),
        ]

    def columns(self, names: Sequence[str] | None, table: Table | None = None) -> list[Column]:
        """Return the columns of these names; by default, all that have a value in some row of the table.

        A column of a process, such as `efficiency:W`, is known if some row of any table has it. A `ConfigError` refuses
        other names.
        """
        return choose_columns(
            names, table.rows if table and names is None else [r for t in self.tables for r in t.rows]
        )

    def render(self, form: str = "markdown", columns: Sequence[str] | None = None) -> str:
        """Return the tables as text.

        Args:
            form: `markdown`, `csv`, `json` (both with full precision) or `html`.
            columns: names of the columns to show; all when None.

        Raises:
            ConfigError: if a form or column is not known.
        """
        if form not in TEXT_FORMATS:
            raise ConfigError(f"form: {form!r} is not one of {', '.join(TEXT_FORMATS)}")
        if form == "csv":
            return _csv(self, columns)
        if form == "json":
            keys = None if columns is None else [key for c in self.columns(columns) for key in c.keys]
            tables = []
            for table in self.tables:
                rows = table.rows if keys is None else [{key: row.get(key) for key in keys} for row in table.rows]
                tables.append({"title": table.title, "comparability": table.comparability, "rows": rows})
            return pages.json_report({"tables": tables, "notes": self.notes})
        remarks, draw = self.remarks(), web_table if form == "html" and columns is None else page_table
        shown = [draw(table, self.columns(columns, table)) for table in self.tables]
        if form == "markdown":
            return "\n\n".join([*(table.markdown() for table in shown), *map(pages.markdown_text, remarks)]) + "\n"
        parts: list[pages.Part] = [*shown] or ["No runs yet."]
        section = pages.Section("runs", "Runs", [*parts, *remarks])
        return pages.page("higgsbench leaderboard", [], [section], f"Made by higgsbench {__version__} leaderboard.")


def _distinct_rows(runs: Sequence[StoredRun], notes: list[str]) -> list[StoredRow]:
    """Return the rows of all runs, each set of fits once; add remarks and what was left out to the notes."""
    rows: dict[tuple[Any, ...], StoredRow] = {}
    repeated = 0
    for row in (row for run in runs for row in run.rows):
        record = row.record
        key = (row.run.group, record["digest"], str(record.get("cut_rule")), row.label, row.ok)
        repeated += key in rows
        if rows.setdefault(key, row) is row and isinstance(record.get("remark"), str):
            notes.append(f"{row.name}: {record['remark']}")
    if repeated:
        rows_occur, are = ("1 row occurs", "is") if repeated == 1 else (f"{repeated} rows occur", "are")
        notes.append(f"{rows_occur} in more than one run with the same fits and {are} shown once")
    return list(rows.values())


def _ranked(group: list[StoredRow], sort: str) -> Table:
    columns = columns_of([row.record for row in group])
    sign = 1.0 if any(column.lower_is_better for column in columns if column.keys[0] == sort) else -1.0

    def position(row: StoredRow) -> tuple[bool, float, str]:
        value = row.record.get(sort)
        usable = row.ok and isinstance(value, (int, float)) and np.isfinite(value)
        return (not usable, sign * float(value) if usable and value is not None else 0.0, row.name)

    ordered = sorted(group, key=position)
    best = ordered[0]
    reference = best.replicas() if best.ok else None
    records = []
    for rank, row in enumerate(ordered, start=1):
        record = {**row.record, "run": row.run.name, "rank": rank if row.ok else None}
        if row.ok:
            record |= _difference(row, best, reference, sort)
        records.append(record)
    return Table(best.run.comparability, best.run.source, tuple(records))


def _difference(row: StoredRow, best: StoredRow, reference: Replicas | None, sort: str) -> dict[str, Any]:
    """Return paired differences to the row that ranks first; without bootstrap replicas they have no error.

    The difference of the column that ranks, if any, decides whether the row can be told from the first.
    """
    own = reference if row is best else row.replicas()
    out: dict[str, Any] = {}
    verdict = "diff"
    for metric in (metric for metric in METRICS.values() if metric.headline and metric.resampled):
        name, (mine, first) = difference_key(metric), (r.record.get(metric.key) for r in (row, best))
        verdict = name if metric.key == sort else verdict
        out[name] = mine - first if mine is not None and first is not None else None
        out[f"{name}_se"] = _paired_error(own, reference, metric.key)
    difference, se = out[verdict], out[f"{verdict}_se"]
    known = row is not best and difference is not None and se is not None and bool(np.isfinite([difference, se]).all())
    # Rows of equal scores differ by 0 with an error of 0.
    apart = known and difference != 0.0 and abs(difference) >= NOT_DISTINGUISHABLE * se
    out["distinguishable"] = apart if known else None
    return out


def _paired_error(own: Replicas | None, reference: Replicas | None, key: str) -> float | None:
    sizes = {r.values[key].size if r is not None and key in r.values else 0 for r in (own, reference)}
    if own is None or reference is None or len(sizes) > 1 or min(sizes) < 2:
        return None
    return paired_error(own, reference, key)


def read_diversity(run: str | Path | StoredRun | RunResult, results: str | Path = "results") -> Diversity:
    """Measure what each member contributes to the stack of a stored run; nothing is trained except the blends.

    `run` is found in the folder `results` as by `find_run`. A `StoreError` if it is unfinished, has no stack, or its
    files are damaged.
    """
    found = find_run(run, results)
    stack = found.stack
    if stack is None:
        raise StoreError(f"{found.folder}: this run has no stack (`stack: false`, or fewer than two rows)")
    names = [member.name for member in stack.members]
    if stack.method not in BLEND_METHODS or len(set(names)) < max(2, len(names)):
        raise StoreError(f"{found.folder / 'stack.json'}: damaged: not a stack of two or more by a known method")
    at = found.by_event
    scores = np.stack([found.row(name).scores[:, at] for name in names], axis=1).swapaxes(1, 2)
    y, w = found.y[at], found.weight[at]
    totals = float(w[y].sum()), float(w[~y].sum())
    return blend_diversity(stack.method, names, scores, y, w, found.fold[:, at], totals)


def watch(
    results: Path, sort: str, columns: Sequence[str] | None, console: Console, *, wait: Callable[..., None] = time.sleep
) -> None:
    """Refresh the leaderboard every other second until every run has its rows; the last state stays on the screen.

    The first read must succeed; later ones may find a half-written folder and are tried again.
    """
    from rich.console import Group
    from rich.live import Live

    board = Leaderboard.read(results, sort=sort)
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            folders = run_folders(results) if results.is_dir() else []
            going = [folder for folder in folders if not (folder / "rows.json").exists()]
            lines = [Text(f"{f.name}: {stored_units(f)} units stored, running", style="cyan") for f in going]
            live.update(Group(*renderables(board, console, columns), *lines), refresh=True)
            if not going:
                return
            wait(2.0)
            with contextlib.suppress(HiggsbenchError):
                board = Leaderboard.read(results, sort=sort)


def show(board: Leaderboard, console: Console, columns: Sequence[str] | None = None) -> None:
    """Print tables to a terminal; where it is narrow, leave out the least important columns and name them."""
    from rich.console import Group

    console.print(Group(*renderables(board, console, columns)), crop=False)  # alone, a Text would be wrapped again


def renderables(board: Leaderboard, console: Console, columns: Sequence[str] | None = None) -> list[RichTable | Text]:
    """Return what `show` prints, part by part; without chosen columns, the console's width decides what fits."""
    out: list[RichTable | Text] = []
    for table in board.tables:
        chosen, hidden = board.columns(columns, table), []
        shown = page_table(table, chosen)
        if columns is None:
            widths = dict(zip(chosen, shown.widths(), strict=True))
            # The least important go first, among equals the last.
            for column in sorted(chosen, key=lambda c: (-c.priority, -chosen.index(c))):
                if not column.priority or sum(widths.values()) < console.width:
                    break
                del widths[column]
                hidden.append(column.name)
            shown = page_table(table, [*widths]) if hidden else shown
        drawn = shown.drawn(console.width) if len(table.rows) > MANY else None
        out += [Text(shown.caption, style="bold"), drawn or shown.terminal()]
        if hidden:
            more = f"{len(hidden)} more columns need a wider terminal, --columns or --format csv: {', '.join(hidden)}"
            out.append(Text(more, style="dim"))
    return [*out, *(Text(line, style="yellow" if line.startswith("Note:") else "dim") for line in board.remarks())]


def page_table(table: Table, columns: Sequence[Column]) -> pages.Table:
    """Return the chosen columns of ranked rows as a table to show."""

    def cell(record: dict[str, Any], column: Column) -> str | pages.Cell:
        value = record.get(column.keys[0])
        number = value if isinstance(value, (int, float)) else None
        return column.show(record) if column.text else pages.Cell(column.show(record), number)

    return pages.Table(
        printable(table.title),
        [column.title for column in columns],
        [[cell(record, column) for column in columns] for record in table.rows],
        text=[at for at, column in enumerate(columns) if column.text],
        sortable=True,
        marks=["best" if r.get("rank") == 1 else "failed" if r.get("status") != "ok" else "" for r in table.rows],
    )


def web_table(table: Table, columns: Sequence[Column]) -> pages.Table:
    """Return what `page_table` returns, for narrow screens: the model first, which stays visible, remarks last."""

    def place(column: Column) -> int:
        return 0 if column.name == "model" else 2 if column.text and column.priority else 1

    return page_table(table, sorted(columns, key=place))


def _csv(board: Leaderboard, columns: Sequence[str] | None) -> str:
    chosen = [*COLUMNS, *spectator_columns(board.rows)] if columns is None else board.columns(columns)
    keys = ["table", *dict.fromkeys(key for column in chosen for key in column.keys)]

    def safe(value: Any) -> Any:
        text = printable(value) if isinstance(value, str) else ""
        # A spreadsheet would run a text that begins like a formula.
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text or value

    out = io.StringIO()
    writer = csv.DictWriter(out, keys, lineterminator="\n")
    writer.writeheader()
    for number, table in enumerate(board.tables, start=1):
        writer.writerows({key: safe(row.get(key)) for key in keys} | {"table": number} for row in table.rows)
    return out.getvalue()
