"""Tables of expected significances and of shifts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from higgsbench.leaderboard.columns import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from higgsbench.inference.fit import Expected
    from higgsbench.inference.shifts import ShiftRow
    from higgsbench.inference.significance import ModelSignificance, Value

__all__ = ["change_of_ams", "content", "show"]

LEGEND = (
    "Honest cut and bins: chosen on the other folds. Z: Asimov significance without regularisation; Z(x%): with a "
    "relative background uncertainty of x%; shape: bins of the score together, x% in each bin independently. ± from "
    "the finite number of simulated events at these cuts; the leaderboard's ± of the AMS chooses the cuts anew."
)


def _value(value: Value, digits: int) -> str:
    return f"{value.value:,.{digits}f} ± {value.se:,.{digits}f}"


def change_of_ams(row: ShiftRow) -> str:
    """The change of the AMS with its standard error, where that is known."""
    error = f" ± {row.ams_change_se:.3f}" if math.isfinite(row.ams_change_se) else ""
    return f"{row.ams_change:+.3f}{error}"


def _percent(sigma: float) -> str:
    return f"{100 * sigma:g}%"


def show(
    models: Sequence[ModelSignificance],
    shifts: Sequence[ShiftRow],
    expected: Expected | None,
    console: Console,
) -> None:
    """Print the tables to a terminal."""
    from rich.text import Text

    head = ["model", "selected", "s", "b", "AMS", "Z"]
    head += [f"Z({_percent(sigma)})" for sigma in models[0].z_sigma]
    head += [f"shape Z({_percent(sigma)})" if sigma else "shape Z" for sigma in models[0].shape]
    rows = []
    for m in models:
        cells = [printable(m.name), f"{100 * m.fraction:.1f}%", _value(m.s, 0), _value(m.b, 0), _value(m.ams, 3)]
        cells += [_value(v, 3) for v in (m.z, *m.z_sigma.values(), *m.shape.values())]
        rows.append([*cells, str(m.bins.s.size)])
    _print([*head, "bins"], rows, console)
    if shifts:
        table = [
            [r.name, f"{r.s:,.1f}", f"{r.b:,.1f}", f"{100 * r.s_change:+.2f}%", f"{100 * r.b_change:+.2f}%",
             f"{r.ams:.3f}", change_of_ams(r)]
            for r in shifts
        ]  # fmt: skip
        _print(["shift", "s", "b", "Δs", "Δb", "AMS", "ΔAMS"], table, console)
    if expected is not None:
        low, high = expected.band[1], expected.band[3]
        line = (
            f"pyhf: expected significance {expected.z:.3f}; expected 95% CLs limit on the signal strength "
            f"{expected.upper_limit:.3f} (68%: {low:.3f} to {high:.3f})"
        )
        console.print(Text(line), soft_wrap=True)
    console.print(Text(LEGEND, style="dim"), soft_wrap=True)


def _print(head: list[str], rows: list[list[str]], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table, crop=False)


def content(
    models: Sequence[ModelSignificance], shifts: Sequence[ShiftRow], expected: Expected | None
) -> dict[str, Any]:
    """Return everything at full precision, for JSON."""
    return {
        "models": [
            {
                "name": m.name,
                "fraction": m.fraction,
                **{name: vars(getattr(m, name)) for name in ("s", "b", "ams", "z")},
                "z_sigma_b": [{"sigma_b": sigma, **vars(v)} for sigma, v in m.z_sigma.items()],
                "shape": [{"sigma_b": sigma, **vars(v)} for sigma, v in m.shape.items()],
                "bins": {name: values.tolist() for name, values in vars(m.bins).items()},
            }
            for m in models
        ],
        "shifts": [vars(row) for row in shifts],
        "pyhf": None if expected is None else vars(expected),
    }
