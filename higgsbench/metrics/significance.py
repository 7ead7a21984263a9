"""Expected discovery significance of counting experiments whose background is itself uncertain.

The background is measured in a control region: Poisson(n | s + b) Poisson(m | tau b) with tau = b / sigma_b^2. The
Asimov value of the profile likelihood ratio is equation (20) of G. Cowan, "Discovery sensitivity for a counting
experiment with background uncertainty" (2012); without uncertainty it is equation (97) of Cowan, Cranmer, Gross,
Vitells, Eur. Phys. J. C 71 (2011) 1554.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics.ams import HALF_SQUARE, SERIES_BELOW, horner

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["asimov_significance", "combined_significance"]


def _curvature(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ((1 + x) ln(1 + x) - x) / x^2 for x >= -1, without cancellation: 1/2 at 0, 1 at -1."""
    small = np.abs(x) < SERIES_BELOW
    out = horner(np.where(small, x, 0.0), HALF_SQUARE)
    y = x[~small]
    log = np.log1p(np.maximum(y, np.nextafter(-1.0, 0.0)))
    out[~small] = ((1.0 + y) * log - y) / y / y  # y**2 could overflow
    return out


def _checked(name: str, value: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(value, dtype=np.float64)
    bad = ~(found >= 0.0) | np.isinf(found)
    if bad.any():
        raise MetricError(f"{name} must be finite and not negative, got {found[bad].flat[0]}")
    return found


def asimov_significance(
    s: ArrayLike, b: ArrayLike, sigma_b: ArrayLike = 0.0, *, relative: bool = False
) -> NDArray[np.float64]:
    """Median discovery significance expected for s signal events over b +- sigma_b background events.

    Z = sqrt(2 [(s + b) ln((s + b)(b + v) / (b^2 + (s + b) v)) - (b^2 / v) ln(1 + v s / (b (b + v)))]) with
    v = sigma_b^2. Computed as a sum of two positive terms, so that nothing cancels: with k = v / (v + b) the
    conditional background is b + k s, and Z^2 = 2 s^2 (1 - k) [(1 - k) h(x) + k h(y)] / (b + k s), h the curvature of
    the Poisson log-likelihood, x = s (1 - k) / (b + k s), y = -k s / (b + k s).

    Args:
        s: expected signal, any shape.
        b: expected background; broadcasts.
        sigma_b: standard deviation of the background estimate, in events, or as a share of b.
        relative: whether `sigma_b` is a share of b.

    Returns:
        Array of the broadcast shape, standard deviations. Without signal it is 0. With b = 0 it is infinite if sigma_b
        is 0 too (nothing but signal can be seen) and 0 otherwise (the limit b -> 0 at fixed sigma_b: all of s could be
        background).

    Raises:
        MetricError: if an input is negative, NaN or infinite.
    """
    arrays = (_checked("s", s), _checked("b", b), _checked("sigma_b", sigma_b))
    s_, b_, sigma = (a.astype(np.float64) for a in np.broadcast_arrays(*arrays))
    if relative:
        sigma = sigma * b_
    root = np.sqrt(b_)
    length = np.hypot(sigma, root)
    known = np.divide(root, length, out=np.ones_like(length), where=length > 0.0) ** 2  # 1 - k
    loose = np.divide(sigma, length, out=np.zeros_like(length), where=length > 0.0) ** 2  # k
    expected = b_ + loose * s_
    ok = expected > 0.0
    x = np.divide(known * s_, expected, out=np.zeros_like(expected), where=ok)
    y = np.divide(-loose * s_, expected, out=np.zeros_like(expected), where=ok)
    inner = known * _curvature(np.atleast_1d(x)).reshape(x.shape) + loose * _curvature(np.atleast_1d(y)).reshape(
        y.shape
    )
    z = np.sqrt(2.0 * s_) * np.sqrt(x * inner)  # in this order nothing overflows
    out: NDArray[np.float64] = np.where(ok, z, np.where(s_ > 0.0, np.inf, 0.0))
    return out


def combined_significance(s: ArrayLike, b: ArrayLike, sigma_b: ArrayLike = 0.0, *, relative: bool = False) -> float:
    """Significance of independent bins together, sqrt(sum Z_i^2); arguments as in `asimov_significance`.

    Exact for known backgrounds, where the Asimov likelihood ratios of the bins multiply (Cowan et al. 2011, section 4).
    With sigma_b the uncertainties of the bins are taken as independent of each other; one normalisation shared by all
    bins needs a fit (see `higgsbench stats --workspace`).
    """
    return float(np.sqrt(np.sum(asimov_significance(s, b, sigma_b, relative=relative) ** 2)))
