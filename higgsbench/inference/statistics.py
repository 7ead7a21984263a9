"""Expected significances of stored models, with workspace, fit and shifts where they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from higgsbench.errors import ConfigError
from higgsbench.inference.fit import Expected, expected_results
from higgsbench.inference.shifts import ShiftedScores, ShiftRow, shift_table
from higgsbench.inference.significance import ModelSignificance, model_significance
from higgsbench.inference.template import cross_validated_template, held_out_template
from higgsbench.inference.workspace import build_workspace
from higgsbench.metrics.binning import BinningRules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from higgsbench.compare.load import Contender

__all__ = ["ScoredShifts", "Statistics", "run_statistics"]

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
