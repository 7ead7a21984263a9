"""HistFactory workspaces of binned scores, and their expected significance and limit by pyhf."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import MetricError, MissingExtraError
from higgsbench.inference.shifts import ShiftedScores, binned
from higgsbench.metrics.significance import BinningRules, bin_sums, combined_significance, optimal_edges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from higgsbench.compare.measure import Contender
    from higgsbench.inference.significance import ModelSignificance
    from higgsbench.metrics.significance import BinnedSums

__all__ = [
    "POI",
    "Expected",
    "Template",
    "build_workspace",
    "cross_validated_template",
    "expected_results",
    "expected_significance",
    "held_out_template",
]


POI = "mu"
"""Signal strength, the parameter of interest."""


@dataclass(frozen=True)
class Template:
    """Expected contents of the bins of one channel; one bin is a counting experiment.

    Attributes:
        nominal: expected signal and background and their simulation variances.
        shifts: by name, contents under an upward and a downward systematic shift.
    """

    nominal: BinnedSums
    shifts: dict[str, tuple[BinnedSums, BinnedSums]] = field(default_factory=dict)


def build_workspace(template: Template, *, sigma_b: float = 0.0, mc_stat: bool = True) -> dict[str, Any]:
    """Build a HistFactory workspace; the observation is the Asimov data of signal plus background.

    Args:
        template: contents of the bins.
        sigma_b: relative normalisation uncertainty of the background, shared by all bins (normsys, log-normal).
        mc_stat: whether the finite number of simulated events counts as uncertainty (staterror per bin).

    Returns:
        The workspace as JSON content.

    Raises:
        MetricError: if a bin without background would make the likelihood undefined, or sigma_b is negative.
    """
    nominal = template.nominal
    if not 0.0 <= sigma_b < np.inf:
        raise MetricError(f"sigma_b must be finite and not negative, got {sigma_b}")
    for contents in (nominal, *(side for pair in template.shifts.values() for side in pair)):
        if not (contents.b > 0.0).all() or not (contents.s >= 0.0).all():
            raise MetricError("every bin needs expected background, nominal and shifted; ask for fewer bins")
    signal: list[dict[str, Any]] = [{"name": POI, "type": "normfactor", "data": None}]
    background: list[dict[str, Any]] = []
    if sigma_b > 0.0:
        factors = {"hi": 1.0 + sigma_b, "lo": 1.0 / (1.0 + sigma_b)}
        background.append({"name": "background_norm", "type": "normsys", "data": factors})
    for name, (up, down) in template.shifts.items():
        for modifiers, kind in ((signal, "s"), (background, "b")):
            sides = {"hi_data": _list(getattr(up, kind)), "lo_data": _list(getattr(down, kind))}
            modifiers.append({"name": f"shift_{name}", "type": "histosys", "data": sides})
    if mc_stat:
        for modifiers, variance in ((signal, nominal.s_variance), (background, nominal.b_variance)):
            modifiers.append({"name": "mcstat", "type": "staterror", "data": _list(np.sqrt(variance))})
    samples = [
        {"name": "signal", "data": _list(nominal.s), "modifiers": signal},
        {"name": "background", "data": _list(nominal.b), "modifiers": background},
    ]
    parameter = {"name": POI, "inits": [1.0], "bounds": [[0.0, _largest_strength(nominal)]]}
    return {
        "channels": [{"name": "score", "samples": samples}],
        "observations": [{"name": "score", "data": _list(nominal.s + nominal.b)}],
        "measurements": [{"name": "higgsbench", "config": {"poi": POI, "parameters": [parameter]}}],
        "version": "1.0.0",
    }


def _list(values: NDArray[np.float64]) -> list[float]:
    return [float(v) for v in values]


def _largest_strength(nominal: BinnedSums) -> float:
    """Upper bound of the signal strength, far above any limit: systematics rarely weaken a search tenfold."""
    z = combined_significance(nominal.s, nominal.b)
    return float(max(10.0, 50.0 / z)) if z > 0.0 else 1e3


def cross_validated_template(model: ModelSignificance, contender: Contender, *, counting: bool) -> Template:
    """Template of a model's own out-of-fold scores: its honest cut as one bin, or its honest bins.

    Args:
        model: the model's significance.
        contender: its scores.
        counting: whether only the selected events enter, as one bin.
    """
    if not counting:
        return Template(model.bins)
    keep = model.selected
    zeros = np.zeros(int(keep.sum()), dtype=np.int64)
    return Template(bin_sums(contender.truth.y[keep], zeros, contender.truth.weight[keep], 1))


def held_out_template(
    contender: Contender,
    nominal: ShiftedScores,
    shifts: Mapping[str, tuple[ShiftedScores, ShiftedScores]],
    rules: BinningRules,
    *,
    counting: bool,
) -> Template:
    """Template of held-out events, nominal and shifted; cut and bins come from the run's out-of-fold scores.

    Args:
        contender: the model's out-of-fold scores.
        nominal: held-out events as they are.
        shifts: the same events under shifts.
        rules: what a bin must hold, on the out-of-fold scores.
        counting: whether only events above the frozen cut enter, as one bin.
    """
    truth = contender.truth
    if counting:
        edges = np.array([-np.inf, float(contender.row.record["threshold"])])
    else:
        edges = optimal_edges(truth.y, contender.scores[0], truth.weight, rules)[-1]

    def sums(events: ShiftedScores, edges: NDArray[np.float64] = edges) -> Template:
        found = binned(events, edges)
        return Template(type(found)(*(v[1:] for v in vars(found).values()))) if counting else Template(found)

    sides = {name: (sums(up).nominal, sums(down).nominal) for name, (up, down) in shifts.items()}
    return Template(sums(nominal).nominal, sides)


_TOLERANCE = 1e-3
"""Of a limit, relative and absolute: every further digit costs a fit per digit and band."""


@dataclass(frozen=True)
class Expected:
    """Expected results of a workspace.

    Attributes:
        z: discovery significance sqrt(q0) on the Asimov data of signal plus background.
        upper_limit: expected (median) 95% CLs upper limit on the signal strength without signal.
        band: the limit at -2, -1, 0, +1 and +2 standard deviations.
    """

    z: float
    upper_limit: float
    band: tuple[float, ...]


def _pyhf() -> Any:
    try:
        import iminuit
        import pyhf
    except ImportError as error:
        raise MissingExtraError("fits of a HistFactory workspace", "stats") from error
    del iminuit  # only that it is there: scipy's minimiser fails on some of these likelihoods
    return pyhf


def expected_results(workspace: dict[str, Any]) -> Expected:
    """Evaluate a workspace with pyhf (asymptotic formulae; Cowan, Cranmer, Gross, Vitells 2011).

    Args:
        workspace: as `build_workspace` makes it.

    Returns:
        Significance and limits.

    Raises:
        MissingExtraError: without pyhf and iminuit (extra `stats`).
        MetricError: if a fit does not converge or no limit lies within the bounds of the signal strength.
    """
    pyhf = _pyhf()
    with _quiet():
        model = _model(pyhf, workspace)
        z = _significance(pyhf, model)
        band = _limits(pyhf, model)
    return Expected(z, band[2], band)


def expected_significance(workspace: dict[str, Any]) -> float:
    """Return the expected discovery significance alone, without the many fits that a limit needs.

    Args:
        workspace: as `build_workspace` makes it.

    Raises:
        MissingExtraError: without pyhf and iminuit (extra `stats`).
        MetricError: if a fit does not converge.
    """
    pyhf = _pyhf()
    with _quiet():
        return _significance(pyhf, _model(pyhf, workspace))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # pyhf 0.7 validates by a class that newer versions of jsonschema announce to drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _model(pyhf: Any, workspace: dict[str, Any]) -> Any:
    model = pyhf.Workspace(workspace).model()
    # pyhf 0.7 cannot drive minuit with no free parameter, which is what a fixed strength without nuisances leaves.
    simple = model.config.npars == 1
    optimiser = pyhf.optimize.scipy_optimizer() if simple else pyhf.optimize.minuit_optimizer(tolerance=1e-3)
    pyhf.set_backend("numpy", optimiser)
    return model


@contextmanager
def _failures(pyhf: Any) -> Iterator[None]:
    try:
        yield
    except (pyhf.exceptions.FailedMinimization, ValueError, RuntimeError) as error:
        raise MetricError(f"the fit of the workspace failed: {str(error).splitlines()[0]}") from error


def _significance(pyhf: Any, model: Any) -> float:
    config = model.config
    start = (config.suggested_init(), config.suggested_bounds(), config.suggested_fixed())
    with _failures(pyhf):
        q0 = float(pyhf.infer.test_statistics.q0(0.0, _asimov(model, 1.0), model, *start))
    return float(np.sqrt(max(q0, 0.0)))


def _limits(pyhf: Any, model: Any) -> tuple[float, ...]:
    highest = model.config.suggested_bounds()[model.config.poi_index][1]
    scan = pyhf.infer.intervals.upper_limits.toms748_scan
    with _failures(pyhf):
        _, expected = scan(_asimov(model, 0.0), model, 0.0, highest, atol=_TOLERANCE, rtol=_TOLERANCE)
    return tuple(float(limit) for limit in expected)


def _asimov(model: Any, strength: float) -> Any:
    """Expected data, auxiliary measurements included, at a signal strength and nominal nuisance parameters."""
    parameters = np.array(model.config.suggested_init(), dtype=np.float64)
    parameters[model.config.poi_index] = strength
    return model.expected_data(parameters)
