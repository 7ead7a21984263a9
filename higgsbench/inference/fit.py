"""Expected significance and limit of a workspace, by pyhf."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import MetricError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Expected", "expected_results", "expected_significance"]


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
