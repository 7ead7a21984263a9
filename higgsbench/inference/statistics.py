"""Expected significances of stored models, with workspace, fit and shifts where they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from higgsbench.errors import ConfigError
from higgsbench.inference.files import Shift, read_shifts
from higgsbench.inference.fit import Expected, expected_results
from higgsbench.inference.shifts import ShiftRow, shift_table
from higgsbench.inference.significance import ModelSignificance, model_significance
from higgsbench.inference.template import cross_validated_template, held_out_template
from higgsbench.inference.workspace import build_workspace
from higgsbench.metrics.binning import BinningRules

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from higgsbench.compare.load import Contender

__all__ = ["Statistics", "run_statistics"]


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
    events: Path | None = None,
    nominal: Path | None = None,
    shifts: Sequence[Shift] = (),
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
        events: held-out event file with labels and weights.
        nominal: scores of these events.
        shifts: name and score files of systematic shifts of these events, up and down.

    Raises:
        ConfigError: if options do not fit each other.
        MissingExtraError: if a fit needs pyhf and it is not installed.
    """
    if bool(events) != bool(nominal) or (shifts and not events):
        raise ConfigError("--events, --nominal and --shift belong together")
    single = workspace or fit or events is not None
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
    if events is not None and nominal is not None:
        base, sides = read_shifts(events, nominal, shifts, first.truth.totals)
        template = held_out_template(first, base, sides, rules, counting=counting)
        both = [side for pair in sides.values() for side in pair]
        rows = tuple(shift_table(base, both, float(first.row.record["threshold"]), first.truth.b_reg))
    built = build_workspace(template, sigma_b=sigma, mc_stat=mc_stat)
    return Statistics(found, rows, built, expected_results(built) if fit else None)
