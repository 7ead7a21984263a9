"""Expected significance and limit of a workspace, by pyhf."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from higgsbench.errors import MetricError, MissingExtraError

__all__ = ["Expected", "expected_results"]


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
    with warnings.catch_warnings():
        # pyhf 0.7 validates by a class that newer versions of jsonschema announce to drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _evaluated(pyhf, workspace)


def _evaluated(pyhf: Any, workspace: dict[str, Any]) -> Expected:
    model = pyhf.Workspace(workspace).model()
    # pyhf 0.7 cannot drive minuit with no free parameter, which is what a fixed strength without nuisances leaves.
    simple = model.config.npars == 1
    optimiser = pyhf.optimize.scipy_optimizer() if simple else pyhf.optimize.minuit_optimizer(tolerance=1e-3)
    pyhf.set_backend("numpy", optimiser)
    start, bounds, fixed = (
        model.config.suggested_init(),
        model.config.suggested_bounds(),
        model.config.suggested_fixed(),
    )
    data = {mu: _asimov(model, mu) for mu in (0.0, 1.0)}
    try:
        q0 = float(pyhf.infer.test_statistics.q0(0.0, data[1.0], model, start, bounds, fixed))
        _, expected = pyhf.infer.intervals.upper_limits.upper_limit(data[0.0], model)
    except (pyhf.exceptions.FailedMinimization, ValueError, RuntimeError) as error:
        raise MetricError(f"the fit of the workspace failed: {str(error).splitlines()[0]}") from error
    band = tuple(float(limit) for limit in expected)
    return Expected(float(np.sqrt(max(q0, 0.0))), band[2], band)


def _asimov(model: Any, strength: float) -> Any:
    """Expected data, auxiliary measurements included, at a signal strength and nominal nuisance parameters."""
    parameters = np.array(model.config.suggested_init(), dtype=np.float64)
    parameters[model.config.poi_index] = strength
    return model.expected_data(parameters)
