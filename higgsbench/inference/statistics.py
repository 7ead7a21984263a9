"""Expected significances of stored models, with workspace, fit and shifts where they are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from higgsbench.errors import ConfigError
from higgsbench.files import printable
from higgsbench.inference.shifts import ShiftedScores, ShiftRow, shift_table
from higgsbench.inference.significance import ModelSignificance, model_significance
from higgsbench.inference.workspace import (
    Expected,
    build_workspace,
    cross_validated_template,
    expected_results,
    held_out_template,
)
from higgsbench.metrics.significance import BinningRules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from higgsbench.compare.measure import Contender
    from higgsbench.inference.significance import Value

__all__ = ["ScoredShifts", "Statistics", "change_of_ams", "content", "run_statistics", "show"]


ScoredShifts: TypeAlias = tuple[ShiftedScores, dict[str, tuple[ShiftedScores, ShiftedScores]]]
"""Scores of nominal events, and of those after the upward and the downward shift by its name."""


@dataclass(frozen=True)
class Statistics:
    """What a run's models are worth as a search.

    Attributes:
        models: expected significances, one per model.
        shifts: the selection under systematic shifts, nominal first; empty without shifted scores.
        workspace: HistFactory workspace of the one model; None when there are several and it was not asked for.
        expected: what pyhf makes of the workspace; None when no fit was asked for.
    """

    models: tuple[ModelSignificance, ...]
    shifts: tuple[ShiftRow, ...]
    workspace: dict[str, Any] | None
    expected: Expected | None


def run_statistics(
    contenders: Sequence[Contender],
    *,
    sigma_b: Sequence[float] = (),
    rules: BinningRules | None = None,
    workspace: bool = False,
    fit: bool = False,
    counting: bool = False,
    mc_stat: bool = True,
    shifted: Callable[[Contender], ScoredShifts] | None = None,
) -> Statistics:
    """Compute expected significances and, for a single model, what is built upon them.

    Args:
        contenders: models of stored runs.
        sigma_b: relative background uncertainties; a workspace takes one at most.
        rules: what a bin of the score must hold; its `sigma_b` is what the bins are optimised for.
        workspace: whether a HistFactory workspace is wanted.
        fit: whether pyhf evaluates it.
        counting: workspace of the selection as one bin, instead of bins of the score.
        mc_stat: whether simulation statistics count as uncertainty in the workspace.
        shifted: gives the one model's scores of events as they are and under systematic shifts.

    Raises:
        ConfigError: if options do not fit each other.
        MissingExtraError: if a fit needs pyhf and it is not installed.
    """
    single = workspace or fit or shifted is not None
    if single and len(contenders) > 1:
        raise ConfigError("a workspace, a fit or shifts are of one model: name it with --model")
    if single and len(sigma_b) > 1:
        raise ConfigError("a workspace has one background uncertainty: give --sigma-b once")
    sigma = sigma_b[0] if sigma_b else 0.0
    rules = rules or BinningRules(sigma_b=sigma)
    found = tuple(model_significance(contender, sigma_b, rules) for contender in contenders)
    if not single:
        return Statistics(found, (), None, None)
    first = contenders[0]
    template = cross_validated_template(found[0], first, counting=counting)
    rows: tuple[ShiftRow, ...] = ()
    if shifted is not None:
        base, sides = shifted(first)
        template = held_out_template(first, base, sides, rules, counting=counting)
        both = [side for pair in sides.values() for side in pair]
        rows = tuple(shift_table(base, both, float(first.row.record["threshold"]), first.truth.b_reg))
    built = build_workspace(template, sigma_b=sigma, mc_stat=mc_stat)
    return Statistics(found, rows, built, expected_results(built) if fit else None)


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
