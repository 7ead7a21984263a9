"""Columns of leaderboards: one record per column, found by name. Metrics bring their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from higgsbench.errors import ConfigError, nearest_hint, shortened
from higgsbench.files import printable
from higgsbench.metrics import process_names
from higgsbench.metrics.estimates import METRICS, suffixed
from higgsbench.metrics.spectators import spectator_metrics, spectators_of
from higgsbench.pages import number
from higgsbench.runs import read_analysis

if TYPE_CHECKING:
    from higgsbench.metrics.estimates import Metric
    from higgsbench.runs.stored import StoredRow


@dataclass(frozen=True)
class Column:
    """One column: a record in `COLUMNS` makes it appear in every format and in reports.

    Attributes:
        name: name in `--columns`, csv and json.
        title: heading.
        show: renders a row's record for people; rounding happens only here.
        priority: a narrow terminal drops the columns with the highest numbers first, but never those with 0.
        optional: shown only if some row has a value.
        keys: record keys that csv and json carry for this column; the first one is its value.
        text: whether it is text, aligned left.
        sortable: whether rows can be ranked by its keys.
        lower_is_better: whether the lowest value ranks first.
    """

    name: str
    title: str
    show: Callable[[dict[str, Any]], str]
    priority: int = 0
    optional: bool = False
    keys: tuple[str, ...] = ()
    text: bool = False
    sortable: bool = True
    lower_is_better: bool = False


def _text(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: printable(record.get(key) or "")


def _number(key: str, digits: int, scale: float = 1.0, unit: str = "") -> Callable[[dict[str, Any]], str]:
    def show(record: dict[str, Any]) -> str:
        value = record.get(key)
        return f"{scale * value:,.{digits}f}{unit}" if isinstance(value, (int, float)) else ""

    return show


def _events(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: number(record[key], 3) if isinstance(record.get(key), (int, float)) else ""


def _with_error(key: str, digits: int, scale: float = 1.0, sign: str = "") -> Callable[[dict[str, Any]], str]:
    def show(record: dict[str, Any]) -> str:
        value, error = record.get(key), record.get(suffixed(key, "se"))
        if not isinstance(value, (int, float)) or math.isnan(value):
            return ""
        shown = f"{scale * error:.{digits}f}" if isinstance(error, (int, float)) else "?"
        return f"{scale * value:{sign}.{digits}f} ± {shown}"

    return show


def _rank(record: dict[str, Any]) -> str:
    if record.get("rank") is None:
        return "-"
    return f"{record['rank']} ≈" if record.get("distinguishable") is False else str(record["rank"])


def _model(record: dict[str, Any]) -> str:
    label = printable(record.get("label", ""))
    return label if record.get("status") == "ok" else f"{label} (failed: {printable(record.get('error', ''))[:60]})"


def difference_key(metric: Metric) -> str:
    """Return the record key of the paired difference to the first row."""
    return "diff" if metric.needs_cut else f"diff_{metric.key}"


def _metric_columns(metric: Metric) -> list[Column]:
    """Return the columns of a metric, of its difference to the first row if it is resampled, and of its spread.

    The spread is the standard deviation over the repeats or seeds of a run.
    """
    key, digits, scale = metric.key, metric.digits, metric.scale
    out = [
        Column(key, metric.column_heading or metric.heading, _with_error(key, digits, scale), metric.priority,
               keys=(key, suffixed(key, "se")), lower_is_better=metric.lower_is_better)
    ]  # fmt: skip
    if metric.resampled:
        name = difference_key(metric)
        shown = _with_error(name, digits, scale, "+")
        first = "first" if metric.needs_cut else ""
        out.append(
            Column(name, f"Δ {metric.heading} to first", lambda r: first if r.get("rank") == 1 else shown(r),
                   metric.difference_priority, keys=(name, f"{name}_se"), sortable=False)
        )  # fmt: skip
    spread = suffixed(key, "spread")
    title = f"spread of {metric.heading}"
    scatter = Column(spread, title, _number(spread, digits, scale), 6, True, keys=(spread,), lower_is_better=True)
    return [*out, scatter]


def _held_out(name: str, title: str, priority: int, *more: str) -> Column:
    return Column(name, title, _with_error(name, 3), priority, optional=True, keys=(name, f"{name}_se", *more))


def _of_intervals(name: str, title: str, digits: int, scale: float = 1.0, *, lower_is_better: bool = False) -> Column:
    keys = (name, f"{name}_se")
    return Column(name, title, _with_error(name, digits, scale), 3, optional=True, keys=keys,
                  lower_is_better=lower_is_better)  # fmt: skip


def with_intervals(rows: Sequence[StoredRow], notes: list[str]) -> list[StoredRow]:
    """Return rows with the numbers that `higgsbench interval` stored; in a table, only those that can be compared."""
    stored = {run: read_analysis(run) for run in dict.fromkeys(row.run for row in rows)}
    settings: dict[str, str] = {}
    out = []
    for row in rows:
        found = stored[row.run].get(row.name, {}).get("interval", {})
        if "mu_width" in found and settings.setdefault(row.run.group, found["setting"]) != found["setting"]:
            notes.append(f"{row.name}: its interval is not shown: other regions, systematics or pseudo-experiments")
            found = {}
        numbers = {key: found[key] for column in COLUMNS for key in column.keys if key in found}
        out.append(replace(row, record={**row.record, **numbers}) if numbers else row)
    return out


_AMS, *_OTHERS = (_metric_columns(metric) for metric in METRICS.values() if metric.headline)
COLUMNS: tuple[Column, ...] = (
    Column("rank", "#", _rank, keys=("rank", "distinguishable"), sortable=False),
    Column("model", "model", _model, keys=("label", "model", "status", "error"), text=True),
    Column("variant", "variant", _text("variant"), keys=("variant",), text=True),
    Column("features", "features", _text("features"), 8, keys=("features", "n_features"), text=True),
    Column("simulation", "uses simulation", _text("simulation"), 3, optional=True, keys=("simulation",), text=True),
    *_AMS,
    Column("fraction", "selected", _number("fraction", 1, 100.0, "%"), 2,
           keys=("fraction", "cut_fraction", "threshold", "cut_rule")),
    Column("s", "s", _events("s"), 4, keys=("s",)),
    Column("b", "b", _events("b"), 4, keys=("b",), lower_is_better=True),
    Column("ams_oof_max", "AMS max*", _with_error("ams_oof_max", 2), 6, keys=("ams_oof_max", "ams_oof_max_se")),
    *(column for columns in _OTHERS for column in columns),
    _held_out("ams_test", "AMS test", 1, "auc_test"),
    _held_out("ams_public", "AMS public", 2),
    _held_out("ams_private", "AMS private", 2),
    _of_intervals("mu_width", "width of mu", 3, lower_is_better=True),
    _of_intervals("coverage", "coverage [%]", 1, 100.0),
    _of_intervals("interval_score", "interval score", 3),
    Column("fit_seconds", "fit s", _number("fit_seconds", 1), 5, keys=("fit_seconds",), lower_is_better=True),
    Column("predict_us", "µs/event", _number("predict_us", 1), 7, keys=("predict_us",), lower_is_better=True),
    Column("peak_mb", "peak MB", _number("peak_mb", 0), 7, keys=("peak_mb",), lower_is_better=True),
    Column("seed", "seed", lambda row: str(row.get("seed", "")).strip("[]"), 9, keys=("seed",)),
    Column("run", "run", _text("run"), 10, keys=("run",), text=True),
)  # fmt: skip
"""All columns in the order in which they are shown."""


_OF_PROCESSES = {"yield": (_with_error, 1, 1.0), "efficiency": (_with_error, 2, 100.0), "n_eff": (_number, 0, 1.0),
                 "auc": (_with_error, 4, 1.0)}  # fmt: skip
_TITLES = {"yield": "yield of {}", "efficiency": "ε of {} [%]", "n_eff": "n_eff of {}", "auc": "wAUC of {}"}


def process_columns(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns of all processes that rows have numbers of, e.g. `efficiency:W`; shown only if chosen."""
    signal = {name: bool(row[f"signal:{name}"]) for row in rows for name in process_names(row)}
    out = []
    for quantity, (show, digits, scale) in _OF_PROCESSES.items():
        for name in signal:
            key = f"{quantity}:{name}"
            keys = (key,) if show is _number else (key, suffixed(key, "se"))
            lower = quantity in ("yield", "efficiency") and not signal[name]
            title = _TITLES[quantity].format(printable(name))
            out.append(Column(key, title, show(key, digits, scale), keys=keys, lower_is_better=lower))
    return out


def spectator_columns(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns of all spectators for which rows have numbers, e.g. `jsd:DER_mass_MMC`."""
    names = dict.fromkeys(name for row in rows for name in spectators_of(row))
    return [column for name in names for metric in spectator_metrics(name) for column in _metric_columns(metric)]


def columns_of(rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return all columns that these rows may have, those of spectators and processes last."""
    return [*COLUMNS, *spectator_columns(rows), *process_columns(rows)]


def column_hint(name: str, known: Sequence[str]) -> str:
    """Return what to write instead of an unknown column: with a spectator or process, the nearest name, or any."""
    own = [column for column in known if column.startswith(f"{name}:")]
    return f"; write {' or '.join(own)}" if own else nearest_hint(name, known, f" (choose from {', '.join(known)})")


def check_sort(name: str) -> None:
    """Refuse, by a `ConfigError`, to rank by a key that is not a number, before anything is read."""
    known = [key for column in COLUMNS if column.sortable and not column.text for key in column.keys]
    known = [key for key in known if key != "cut_rule"] + ["n_features"]
    others = (*_OF_PROCESSES, *(metric.key.removesuffix(":") for metric in spectator_metrics("")))
    if name not in known and name.partition(":")[0] not in others:
        hint = nearest_hint(name, known, f" (choose from {', '.join(known)})")
        raise ConfigError(f"--sort: no column of numbers is named {shortened(name)!r}{hint}")


def choose_columns(names: Sequence[str] | None, rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns of these names (`ConfigError` for others); by default, all that some row has a value for."""
    if names is None:
        shown = [c for c in COLUMNS if not c.optional or any(r.get(c.keys[0]) is not None for r in rows)]
        at = [column.name for column in shown].index("fit_seconds")
        of_spectators = [c for c in spectator_columns(rows) if any(r.get(c.keys[0]) is not None for r in rows)]
        return [*shown[:at], *of_spectators, *shown[at:]]
    known = {c.name: c for c in columns_of(rows)}
    for name in names:
        if name not in known:
            raise ConfigError(f"--columns: no column {name!r}{column_hint(name, list(known))}")
    return [known[name] for name in names]
