"""The columns of a leaderboard: one frozen record per column, found by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from higgsbench.errors import ConfigError, nearest_hint, shortened
from higgsbench.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COLUMNS", "Column", "check_sort", "choose_columns", "printable"]


@dataclass(frozen=True)
class Column:
    """How one column is shown.

    Attributes:
        name: name in `--columns`, csv and json.
        title: heading.
        show: renders a record for people; rounding happens only here.
        priority: the columns of the highest numbers go first when the terminal is narrow; 0 always stays.
        optional: shown only if some row has a value.
        keys: record keys that csv and json carry for this column.
        text: whether it is text (aligned left).
    """

    name: str
    title: str
    show: Callable[[dict[str, Any]], str]
    priority: int = 0
    optional: bool = False
    keys: tuple[str, ...] = ()
    text: bool = False


def _text(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: printable(record.get(key) or "")


def _number(key: str, digits: int, scale: float = 1.0) -> Callable[[dict[str, Any]], str]:
    def show(record: dict[str, Any]) -> str:
        value = record.get(key)
        return f"{value * scale:,.{digits}f}" if isinstance(value, (int, float)) else ""

    return show


def _with_error(key: str, digits: int, *, signed: bool = False) -> Callable[[dict[str, Any]], str]:
    def show(record: dict[str, Any]) -> str:
        value, error = record.get(key), record.get(f"{key}_se")
        if not isinstance(value, (int, float)):
            return ""
        shown = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
        return f"{shown} ± {error:.{digits}f}" if isinstance(error, (int, float)) else f"{shown} ± ?"

    return show


def _rank(record: dict[str, Any]) -> str:
    if record.get("rank") is None:
        return "-"
    return f"{record['rank']} ≈" if record.get("distinguishable") is False else f"{record['rank']}  "


def _model(record: dict[str, Any]) -> str:
    label = printable(record.get("label", ""))
    return label if record.get("status") == "ok" else f"{label} (failed: {printable(record.get('error', ''))[:60]})"


def _difference(record: dict[str, Any]) -> str:
    return "first" if record.get("rank") == 1 else _with_error("diff", 3, signed=True)(record)


def _difference_auc(record: dict[str, Any]) -> str:
    return "" if record.get("rank") == 1 else _with_error("diff_auc", 4, signed=True)(record)


def _fraction(record: dict[str, Any]) -> str:
    value = record.get("fraction")
    return f"{100 * value:.1f}%" if isinstance(value, (int, float)) else ""


def _seed(record: dict[str, Any]) -> str:
    return str(record["seed"]) if isinstance(record.get("seed"), int) else ""


COLUMNS: tuple[Column, ...] = (
    Column("rank", "#", _rank, keys=("rank", "distinguishable")),
    Column("model", "model", _model, keys=("label", "model", "status", "error"), text=True),
    Column("variant", "variant", _text("variant"), keys=("variant",), text=True),
    Column("features", "features", _text("features"), 8, keys=("features", "n_features"), text=True),
    Column("ams_cv", "AMS cv", _with_error("ams_cv", 3), keys=("ams_cv", "ams_cv_se")),
    Column("diff", "Δ AMS to first", _difference, 1, keys=("diff", "diff_se")),
    Column("fraction", "selected", _fraction, 2, keys=("fraction", "cut_fraction", "threshold", "cut_rule")),
    Column("s", "s", _number("s", 0), 4, keys=("s",)),
    Column("b", "b", _number("b", 0), 4, keys=("b",)),
    Column("ams_oof_max", "AMS max*", _with_error("ams_oof_max", 2), 6, keys=("ams_oof_max", "ams_oof_max_se")),
    Column("auc", "wAUC", _with_error("auc", 4), 1, keys=("auc", "auc_se")),
    Column("diff_auc", "Δ wAUC to first", _difference_auc, 5, keys=("diff_auc", "diff_auc_se")),
    Column("log_loss", "log-loss x10³", _number("log_loss", 3, 1e3), 3, keys=("log_loss", "log_loss_se")),
    Column("ams_test", "AMS test", _with_error("ams_test", 3), 1, True, ("ams_test", "ams_test_se", "auc_test")),
    Column("ams_public", "AMS public", _with_error("ams_public", 3), 2, True, ("ams_public", "ams_public_se")),
    Column("ams_private", "AMS private", _with_error("ams_private", 3), 2, True, ("ams_private", "ams_private_se")),
    Column("fit_seconds", "fit s", _number("fit_seconds", 1), 5, keys=("fit_seconds",)),
    Column("predict_us", "µs/event", _number("predict_us", 1), 7, keys=("predict_us",)),
    Column("peak_mb", "peak MB", _number("peak_mb", 0), 7, keys=("peak_mb",)),
    Column("seed", "seed", _seed, 9, keys=("seed",)),
    Column("run", "run", _text("run"), 10, keys=("run",), text=True),
)
"""All columns in the order in which they are shown."""


_NOT_SORTED = frozenset({"rank", "distinguishable", "diff", "diff_se", "diff_auc", "diff_auc_se", "cut_rule"})


def check_sort(name: str) -> None:
    """Refuse to rank by what is no column of numbers, before anything is read.

    Raises:
        ConfigError: naming the nearest column.
    """
    known = [key for column in COLUMNS if not column.text for key in column.keys if key not in _NOT_SORTED]
    known.append("n_features")
    if name not in known:
        hint = nearest_hint(name, known, f" (there are {', '.join(known)})")
        raise ConfigError(f"--sort: no column of numbers is named {shortened(name)!r}{hint}")


def choose_columns(names: Sequence[str] | None, rows: Sequence[dict[str, Any]]) -> list[Column]:
    """Return the columns to show.

    Args:
        names: chosen names; None takes all that some row has something for.
        rows: the records.

    Raises:
        ConfigError: for a name that is not a column.
    """
    if names is None:
        return [c for c in COLUMNS if not c.optional or any(r.get(c.keys[0]) is not None for r in rows)]
    known = {c.name: c for c in COLUMNS}
    chosen = []
    for name in names:
        if name not in known:
            hint = nearest_hint(name, known, f" (there are {', '.join(known)})")
            raise ConfigError(f"--columns: no column {name!r}{hint}")
        chosen.append(known[name])
    return chosen
