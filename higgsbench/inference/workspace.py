"""HistFactory workspaces of binned scores, and their expected significance and limit by pyhf.

Format: K. Cranmer et al., HistFactory, CERN-OPEN-2012-016; L. Heinrich, M. Feickert, G. Stark, pyhf, JOSS 6 (2021)
2823.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import MetricError, MissingExtraError
from higgsbench.metrics.significance import BinnedSums, bin_sums, combined_significance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.inference import ScoredShifts, ShiftedScores

POI = "mu"
"""Signal strength, the parameter of interest."""

_TOLERANCE = 1e-3
"""Relative and absolute tolerance of a limit: each further digit costs a fit per band."""

_WIDENING = 64.0
"""Factor on the workspace's bound up to which a limit is searched; small samples need it."""


@dataclass(frozen=True)
class Template:
    """Expected contents of the bins of one channel; one bin is a counting experiment.

    Attributes:
        nominal: expected signal and background and their simulation variances.
        shifts: by name, contents under an upward and a downward systematic shift.
    """

    nominal: BinnedSums
    shifts: dict[str, tuple[BinnedSums, BinnedSums]] = field(default_factory=dict)


def shifted_template(scored: ScoredShifts, edges: NDArray[np.float64], *, selected_only: bool) -> Template:
    """Bin the nominal events and the events after each shift.

    Args:
        scored: their scores.
        edges: lower edges of the bins, the first -inf.
        selected_only: whether the first bin, of unselected events, is left out.
    """

    def sums(events: ShiftedScores) -> BinnedSums:
        index = np.searchsorted(edges, events.score, side="right").astype(np.int64) - 1
        found = bin_sums(events.y, index, events.weight, edges.size)
        return BinnedSums(*(values[int(selected_only) :] for values in vars(found).values()))

    return Template(sums(scored.nominal), {name: (sums(up), sums(down)) for name, (up, down) in scored.sides.items()})


def build_workspace(template: Template, *, sigma_b: float = 0.0, mc_stat: bool = True) -> dict[str, Any]:
    """Build a HistFactory workspace as JSON content; the observation is the Asimov data of signal plus background.

    Args:
        template: contents of the bins.
        sigma_b: relative normalisation uncertainty of the background, shared by all bins (normsys, log-normal).
        mc_stat: whether the finite number of simulated events counts as uncertainty (staterror per bin).

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
            sides = {"hi_data": getattr(up, kind).tolist(), "lo_data": getattr(down, kind).tolist()}
            modifiers.append({"name": f"shift_{name}", "type": "histosys", "data": sides})
    if mc_stat:
        for modifiers, variance in ((signal, nominal.s_variance), (background, nominal.b_variance)):
            modifiers.append({"name": "mcstat", "type": "staterror", "data": np.sqrt(variance).tolist()})
    samples = [
        {"name": "signal", "data": nominal.s.tolist(), "modifiers": signal},
        {"name": "background", "data": nominal.b.tolist(), "modifiers": background},
    ]
    z = combined_significance(nominal.s, nominal.b)
    largest = max(10.0, 50.0 / z) if z > 0.0 else 1e3  # only large uncertainties put a limit beyond it
    parameter = {"name": POI, "inits": [1.0], "bounds": [[0.0, float(largest)]]}
    return {
        "channels": [{"name": "score", "samples": samples}],
        "observations": [{"name": "score", "data": (nominal.s + nominal.b).tolist()}],
        "measurements": [{"name": "higgsbench", "config": {"poi": POI, "parameters": [parameter]}}],
        "version": "1.0.0",
    }


@dataclass(frozen=True)
class Expected:
    """Expected results of a workspace.

    Attributes:
        z: discovery significance sqrt(q0) on the Asimov data of signal plus background, or None.
        upper_limit: expected (median) 95% CLs upper limit on the signal strength without signal, or None.
        band: the limit at -2, -1, 0, +1 and +2 standard deviations; empty without a limit.
        problems: what could not be computed, and why.
    """

    z: float | None
    upper_limit: float | None
    band: tuple[float, ...]
    problems: tuple[str, ...] = ()


def expected_results(workspace: dict[str, Any]) -> Expected:
    """Evaluate a workspace of `build_workspace` with pyhf; where a fit fails, the rest and the reason are returned.

    The formulae are asymptotic: Cowan, Cranmer, Gross, Vitells, Eur. Phys. J. C 71 (2011) 1554.

    Raises:
        MissingExtraError: without pyhf and iminuit (extra `stats`).
    """
    try:
        import iminuit  # noqa: F401  (scipy's minimiser fails on some of these likelihoods)
        import pyhf
    except ImportError as error:
        raise MissingExtraError("fits of a HistFactory workspace", "stats") from error
    found: dict[str, Any] = {}
    problems = []
    with warnings.catch_warnings():
        # pyhf 0.7 uses a class that jsonschema has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        model = pyhf.Workspace(workspace).model()
        # pyhf 0.7 cannot drive minuit with no free parameter, which is what a fixed strength without nuisances leaves.
        simple = model.config.npars == 1
        optimiser = pyhf.optimize.scipy_optimizer() if simple else pyhf.optimize.minuit_optimizer(tolerance=1e-3)
        pyhf.set_backend("numpy", optimiser)
        for name, compute in (("significance", _significance), ("limit", _limits)):
            try:
                found[name] = compute(pyhf, model)
            except (pyhf.exceptions.FailedMinimization, ValueError, RuntimeError) as error:
                reason = f"the fit of the workspace failed: {str(error).splitlines()[0]}"
                problems.append(f"no expected {name}: {reason}")
    band = found.get("limit", ())
    return Expected(found.get("significance"), band[2] if band else None, band, tuple(problems))


def _significance(pyhf: Any, model: Any) -> float:
    config = model.config
    start = (config.suggested_init(), config.suggested_bounds(), config.suggested_fixed())
    q0 = float(pyhf.infer.test_statistics.q0(0.0, _asimov(model, 1.0), model, *start))
    return float(np.sqrt(max(q0, 0.0)))


def _limits(pyhf: Any, model: Any) -> tuple[float, ...]:
    """Find the limits within the workspace's bound, or, where the search leaves it, within a wider one."""
    bounds = list(model.config.suggested_bounds())
    low, highest = bounds[model.config.poi_index]
    scan, tolerances = pyhf.infer.intervals.upper_limits.toms748_scan, {"atol": _TOLERANCE, "rtol": _TOLERANCE}
    data = _asimov(model, 0.0)
    try:
        _, expected = scan(data, model, 0.0, highest, par_bounds=bounds, **tolerances)
    except (pyhf.exceptions.FailedMinimization, ValueError, RuntimeError):
        bounds[model.config.poi_index] = (low, _WIDENING * highest)
        _, expected = scan(data, model, 0.0, highest, par_bounds=bounds, **tolerances)
    return tuple(float(limit) for limit in expected)


def _asimov(model: Any, strength: float) -> Any:
    """Expected data, auxiliary measurements included, at a signal strength and nominal nuisance parameters."""
    parameters = np.array(model.config.suggested_init(), dtype=np.float64)
    parameters[model.config.poi_index] = strength
    return model.expected_data(parameters)
