"""The approximate median significance (AMS) and its derivatives.

Source: Adam-Bourdarios et al., "The Higgs boson machine learning challenge", PMLR 42 (2015) 19-55, equation (7);
after Cowan, Cranmer, Gross, Vitells, Eur. Phys. J. C 71 (2011) 1554, equation (97).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics._arrays import float_values
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ams", "ams_gradient"]

SERIES_BELOW = 1e-2
_CHUNK = 1 << 15
# (1 + x) ln(1 + x) - x = sum over k >= 2 of (-1)^k x^k / (k (k - 1)); eleven terms reach 1e-20 at x = 0.01.
HALF_SQUARE = tuple((-1.0) ** k / (k * (k - 1)) for k in range(2, 13))
# ln(1 + x) - x = sum over k >= 2 of (-1)^(k+1) x^k / k
_LOG_REST = tuple((-1.0) ** (k + 1) / k for k in range(2, 13))


def horner(x: NDArray[np.float64], coefficients: tuple[float, ...]) -> NDArray[np.float64]:
    total = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total *= x
        total += c
    return total


def _entropy(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (1 + x) ln(1 + x) - x without cancellation."""
    small = x < SERIES_BELOW
    if small.all():
        return x * x * horner(x, HALF_SQUARE)
    direct = (1.0 + x) * np.log1p(x) - x
    if small.any():
        xs = x[small]
        direct[small] = xs * xs * horner(xs, HALF_SQUARE)
    return direct


def _log_rest(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln(1 + x) - x without cancellation."""
    direct = np.log1p(x) - x
    small = x < SERIES_BELOW
    if small.any():
        xs = x[small]
        direct[small] = xs * xs * horner(xs, _LOG_REST)
    return direct


def _checked(name: str, values: NDArray[np.float64]) -> None:
    bad = ~(values >= 0.0) | np.isinf(values)
    if bad.any():
        raise MetricError(f"{name} must be finite and not negative, got {values[bad].flat[0]}")


def raw_ams(s: NDArray[np.float64], b: NDArray[np.float64], b_reg: float) -> NDArray[np.float64]:
    """AMS of 1-d arrays that are known to be finite and not negative, in chunks that stay in the CPU's cache."""
    out = np.empty(s.shape)
    for lo in range(0, s.size, _CHUNK):
        part = slice(lo, lo + _CHUNK)
        total = b[part] + b_reg
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            x = s[part] / total
            value = np.sqrt(2.0 * total * _entropy(x))
        beyond = ~np.isfinite(value)
        if beyond.any():
            value[beyond] = _of_extremes(s[part][beyond], total[beyond])
        out[part] = value
    if b_reg == 0.0:
        empty = b == 0.0
        out[empty] = np.where(s[empty] > 0.0, np.inf, 0.0)
    return out


def _of_extremes(s: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """AMS where s / total, or what follows from it, is beyond the largest number: factor by factor, in logarithms."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        x = s / total
        log = np.where(x > 1e10, np.log(s) - np.log(total), np.log1p(x))
        # (s + total) ln(1 + x) - s = s ((1 + 1/x) ln(1 + x) - 1)
        out = np.sqrt(2.0) * np.sqrt(s) * np.sqrt(np.maximum((1.0 + total / s) * log - 1.0, 0.0))
        out = np.where(x < 1e-6, s / np.sqrt(total), out)  # the limit of small x
    return np.where(s == 0.0, 0.0, out)


@overload
def ams(s: float, b: float, b_reg: float = ...) -> float: ...
@overload
def ams(s: ArrayLike, b: ArrayLike, b_reg: float = ...) -> float | NDArray[np.float64]: ...
def ams(s: ArrayLike, b: ArrayLike, b_reg: float = B_REG) -> float | NDArray[np.float64]:
    """Approximate median significance of s expected signal events over b expected background events.

    AMS = sqrt(2 ((s + b + b_reg) ln(1 + s / (b + b_reg)) - s)), equation (7) of PMLR 42 (2015) 19. Exact to
    rounding for tiny s / (b + b_reg), where the printed form cancels; valid for s = 0 and b = 0 alike.

    Args:
        s: expected signal (summed evaluation weights), scalar or array.
        b: expected background, scalar or array that broadcasts against `s`.
        b_reg: regularisation of the background, 10 in the challenge.

    Returns:
        A float for scalars, otherwise an array of the broadcast shape, in units of standard deviations. With
        b + b_reg = 0 the value is infinite for s > 0 and 0 for s = 0.

    Raises:
        MetricError: if s, b or b_reg is negative, NaN or infinite.
    """
    s_, b_ = np.broadcast_arrays(float_values(s, "s"), float_values(b, "b"))
    _checked("s", s_)
    _checked("b", b_)
    _checked("b_reg", float_values(b_reg, "b_reg"))
    values = raw_ams(s_.ravel(), b_.ravel(), float(b_reg)).reshape(s_.shape)
    return float(values) if values.ndim == 0 else values


def ams_gradient(s: ArrayLike, b: ArrayLike, b_reg: float = B_REG) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Derivatives of the AMS by s and by b, for error propagation.

    dAMS/ds = ln(1 + x) / AMS and dAMS/db = (ln(1 + x) - x) / AMS with x = s / (b + b_reg); both have finite limits at
    s = 0, namely 1 / sqrt(b + b_reg) and 0.

    Args:
        s: expected signal, any shape.
        b: expected background, broadcasts against `s`.
        b_reg: regularisation of the background; b + b_reg must be positive.

    Returns:
        Two arrays of the broadcast shape.

    Raises:
        MetricError: if an input is negative or not finite, or b + b_reg is zero.
    """
    s_, b_ = np.broadcast_arrays(
        np.atleast_1d(np.asarray(s, dtype=np.float64)), np.atleast_1d(np.asarray(b, dtype=np.float64))
    )
    _checked("s", s_)
    _checked("b", b_)
    _checked("b_reg", np.asarray(b_reg, dtype=np.float64))
    total = b_ + b_reg
    if (total <= 0.0).any():
        raise MetricError("the gradient of the AMS needs b + b_reg > 0")
    x = s_ / total
    value = np.sqrt(2.0 * total * _entropy(x))
    safe = np.where(value > 0.0, value, 1.0)
    by_s = np.where(value > 0.0, np.log1p(x) / safe, 1.0 / np.sqrt(total))
    by_b = np.where(value > 0.0, _log_rest(x) / safe, 0.0)
    return by_s, by_b
