"""The mass of the di-tau system, DER_mass_MMC, as far as the columns of a file determine it.

The file's missing mass calculator (A. Elagin et al., Nucl. Instrum. Meth. A 654 (2011) 481) weights the neutrino
momenta that explain the missing transverse momentum and takes the most probable mass. `ditau_mass` scans the momentum
fractions of the visible parts of the two taus, with neutrinos collinear with their tau, so that the missing transverse
momentum is a linear function of two numbers per event. Resolutions, thresholds and the decay probabilities of
back-to-back taus come from the calculator's calibration for 2012 in ATLAS's public software (Athena, package
DiTauMassTools). Constants marked as fitted were fitted to DER_mass_MMC of the events that `simulate/processes.toml`
names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from higgsbench.events.derived import derive, transverse, wrap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from higgsbench.events.derived import BoolArray, FloatArray

# The calculator has five kinds of events: those with jets and, without jets, four that differ in missing momentum (low
# or high) and in the angle between tau and lepton (back to back or not). Lists of five constants are in this order.
JETS, LOW, HIGH, LOW_BACK, HIGH_BACK = range(5)
LOW_MET = 20.0  # GeV
BACK_TO_BACK = (2.95, 2.8)  # rad, for low and for high missing momentum

# GeV, sqrt(GeV): each component of the missing momentum has the resolution a + b sqrt(sumet). Where tau and lepton are
# back to back, the negative sum of their momenta replaces it, because this sum has a better resolution.
MET_OFFSET = np.array([5.94, 5.38, 4.16, 4.822, 7.5])
MET_STOCHASTIC = np.array([0.85, 0.32, 0.87, 0.0, 0.0])
# GeV: there the neutrinos have less momentum than this sum, by a polynomial in the angle (low, high missing momentum).
DEFICIT = np.array([[132.1, -79.26, 11.77], [51.28, -23.56, 2.637]])
CHI_MAX = 3.0  # largest distance of measured from scanned missing momentum, in sigma, unless back to back
TAU_MASS, VISIBLE_MASSES = 1.777, (0.8, 1.2)  # GeV; of hadronic taus with one and with three charged particles

# The scan: points in ln(x) of each visible momentum fraction x, down to 0.25 and 0.037.
STEP, POINTS_HAD, POINTS_LEP = 0.09, 16, 37
SMOOTHING = 0.8  # fitted: Gaussian width of the smoothing of the posterior, in its bins of STEP / 2 in ln(mass)
# Fitted: the prior of the hadronic tau is x^a (1 - x)^b (1 - least / x)^c, where `least` follows from its visible mass,
# times its decay probability: x^2 or, back to back, a function of r = 1 / x - 1. For low missing momentum, this is a
# Gaussian (mean and width, fitted); for high missing momentum, k exp(-k r), with k (first) above a momentum p of the
# tau (second, GeV) and u / (v p - w) below it. Rows: taus with one and with three charged particles.
PRIOR_HAD = (1.06, 0.58, 0.73)
LOW_BACK_HAD = np.array([[-1.34, 0.84], [-0.72, 0.505]])
HIGH_BACK_HAD = np.array([[3.706, 45.0, 1.019, 0.0074, 0.059], [5.845, 40.0, 1.24, 0.0062, 0.033]])
PRIOR_LEP = np.array([[2.16, 1.55]] * 3 + [[4.66, 2.55], [3.79, 4.26]])  # fitted: the whole prior is x^a (1 - x)^b
MASS_SCALE = np.array([1.0155] * 3 + [1.063, 1.0054])  # fitted: the file's mass over that of the scan
_CHUNK = 512  # events per pass: 512 x 592 float32 = 1.2 MB per temporary, which stays in the cache

_LOG_HAD, _LOG_LEP = (-STEP * (np.arange(n) + 0.5) for n in (POINTS_HAD, POINTS_LEP))
_RATIO_HAD, _RATIO_LEP = (np.expm1(-v) for v in (_LOG_HAD, _LOG_LEP))  # 1 / x - 1: neutrino over visible momentum
_BINS = POINTS_HAD + POINTS_LEP - 1
_LOG_MASS = STEP / 2 * np.arange(1, _BINS + 1)  # ln(mass / m_vis) = -ln(x_h x_l) / 2 of each bin
_NEAR = 4  # bins on each side that the smoothing takes into account
_KERNEL = np.exp(-0.5 * (np.arange(-_NEAR, _NEAR + 1) / SMOOTHING) ** 2).astype(np.float32)
_NORM = np.convolve(np.ones(_BINS, np.float32), _KERNEL)[_NEAR:-_NEAR]
_OF_LEP = (PRIOR_LEP @ np.stack([_LOG_LEP, np.log(-np.expm1(_LOG_LEP))])).astype(np.float32)
_LEAST = (np.array(VISIBLE_MASSES)[:, None] / TAU_MASS) ** 2
_ALLOWED = np.maximum(1.0 - _LEAST / np.exp(_LOG_HAD), 1e-4)  # almost 0 where x is impossible
_OF_HAD = PRIOR_HAD[0] * _LOG_HAD + PRIOR_HAD[1] * np.log(-np.expm1(_LOG_HAD)) + PRIOR_HAD[2] * np.log(_ALLOWED)


class Hidden(NamedTuple):
    """What the file's calculator knew about n events but the file does not contain; arrays of shape (n,)."""

    electron: BoolArray  # the lepton is an electron; the calculator subtracts its momentum from sumet
    three_prong: BoolArray  # the hadronic tau has three charged particles, not one
    edge: FloatArray  # added to `CHI_MAX`, as the calculator's neutrinos are not exactly collinear


def _kinds(jets: BoolArray, met: FloatArray, dphi: FloatArray) -> npt.NDArray[np.int64]:
    low = met < LOW_MET
    return np.where(jets, JETS, np.where(low, LOW, HIGH) + 2 * (dphi > np.where(low, *BACK_TO_BACK)))


def _prior_had(kind: npt.NDArray[np.int64], prongs: npt.NDArray[np.int64], momentum: FloatArray) -> FloatArray:
    """Logarithm of the prior, shape (n, POINTS_HAD); `prongs` is 0 for one, 1 for three; `momentum` in GeV."""
    decay = np.broadcast_to(2.0 * _LOG_HAD, (len(kind), POINTS_HAD)).copy()
    low, high = kind == LOW_BACK, kind == HIGH_BACK
    mean, width = LOW_BACK_HAD[prongs[low]].T[:, :, None]
    decay[low] = -0.5 * ((_RATIO_HAD - mean) / width) ** 2
    k, limit, u, v, w = HIGH_BACK_HAD[prongs[high]].T[:, :, None]
    of_tau = momentum[high, None] * (1.0 + _RATIO_HAD)
    k = np.where(of_tau > limit, k, u / np.maximum(v * of_tau - w, 0.01))
    decay[high] = np.log(k) - k * _RATIO_HAD
    prior: FloatArray = _OF_HAD[prongs] + decay
    return prior


def _scan(
    tau: FloatArray, lep: FloatArray, wanted: FloatArray, less: FloatArray, limit: FloatArray
) -> npt.NDArray[np.float32]:
    """Log-likelihood of the points of each event without the prior, shape (n, POINTS_HAD, POINTS_LEP).

    Momenta are vectors, shape (n, 2), in units of the resolution: the visible ones and `wanted`, that of the neutrinos.
    Its size is too large by `less`, NaN unless back to back. Points further away from it than `limit` are excluded.
    """
    # (n, 16, 1) and (n, 1, 37): the scan is separable, so the products are computed at 16 + 37 points, not at 592.
    had, of_lep = (
        [(v[:, axis, None] * ratio).astype(np.float32) for axis in (0, 1)]
        for v, ratio in ((tau, _RATIO_HAD), (lep, _RATIO_LEP))
    )
    log = np.zeros((len(tau), POINTS_HAD, POINTS_LEP), np.float32)
    for axis in (0, 1):
        miss = (wanted[:, axis, None].astype(np.float32) - had[axis])[:, :, None] - of_lep[axis][:, None, :]
        miss *= miss
        log -= miss
    log *= np.float32(0.5)
    log[log < np.float32(-0.5) * (limit[:, None, None] ** 2).astype(np.float32)] = -np.inf
    back = np.isfinite(less)
    if back.any():
        x, y = (had[axis][back, :, None] + of_lep[axis][back, None, :] for axis in (0, 1))
        size = (np.hypot(*wanted[back].T) - less[back]).astype(np.float32)
        # The calculator takes sqrt(2) sigma as the width of this difference.
        log[back] -= np.float32(0.25) * (np.sqrt(x * x + y * y) - size[:, None, None]) ** 2
    return log


def _mode(posterior: npt.NDArray[np.float32]) -> FloatArray:
    """The most probable ln(mass / m_vis) of each smoothed posterior, between bins by a parabola, shape (n,)."""
    # Not a matrix product: BLAS sums in an order that depends on the number of rows and threads, and the same event
    # must have the same mass in any chunk and in any process.
    padded = np.pad(posterior, ((0, 0), (_NEAR, _NEAR)))
    smooth = sum((k * padded[:, i : i + _BINS] for i, k in enumerate(_KERNEL)), np.full_like(posterior, 1e-30))
    smooth = np.log(smooth.astype(np.float64) / _NORM)
    top = np.clip(smooth.argmax(axis=1), 1, _BINS - 2)
    left, middle, right = (np.take_along_axis(smooth, top[:, None] + step, axis=1)[:, 0] for step in (-1, 0, 1))
    moved = (left - right) / np.minimum(2.0 * (left - 2.0 * middle + right), -1e-9)
    mode: FloatArray = _LOG_MASS[top] + STEP / 2 * np.clip(moved, -1.5, 0.5)
    return mode


def ditau_mass(primary: Mapping[str, FloatArray], hidden: Hidden | None = None) -> FloatArray:
    """Estimate the mass of the di-tau system as the most probable one of a scan of momentum fractions.

    The mass of an event does not depend on the other events of the call.

    Args:
        primary: the primary columns by name, shape (n,), GeV and rad.
        hidden: what the columns do not contain; by default, muons and hadronic taus with one charged particle.

    Returns:
        Masses in GeV, shape (n,), NaN if no point of the scan explains the missing momentum.

    Example:
        >>> from higgsbench.events.derived import columns_of
        >>> from higgsbench.events.simulate import SimulationSettings, simulate
        >>> events = simulate(SimulationSettings(events=3, seed=1))
        >>> ditau_mass(columns_of(events)).shape
        (3,)
    """
    n = len(primary["PRI_met"])
    no = np.zeros(n, np.bool_)
    hidden = hidden or Hidden(no, no, np.zeros(n))
    names = (("PRI_tau_pt", "PRI_tau_phi"), ("PRI_lep_pt", "PRI_lep_phi"), ("PRI_met", "PRI_met_phi"))
    tau, lep, met = (transverse(primary[pt], primary[phi]) for pt, phi in names)
    dphi = np.abs(wrap(primary["PRI_tau_phi"] - primary["PRI_lep_phi"]))
    kind = _kinds(primary["PRI_jet_num"] > 0, primary["PRI_met"], dphi)
    back, prongs = kind >= LOW_BACK, hidden.three_prong.astype(np.int64)
    sumet = np.maximum(primary["PRI_met_sumet"] - hidden.electron * primary["PRI_lep_pt"], 0.0)
    sigma = MET_OFFSET[kind] + MET_STOCHASTIC[kind] * np.sqrt(sumet)
    # Dividing by sigma first keeps the numbers small, so that float32 loses nothing in their differences.
    tau, lep, wanted = (v / sigma[:, None] for v in (tau, lep, np.where(back[:, None], -tau - lep, met)))
    a, b, c = DEFICIT[(kind == HIGH_BACK).astype(np.int64)].T
    less = np.where(back, (a + b * dphi + c * dphi**2) / sigma, np.nan)
    limit = np.where(back, np.inf, CHI_MAX + hidden.edge)
    momentum = primary["PRI_tau_pt"] * np.cosh(primary["PRI_tau_eta"])
    ratio = np.empty(n)
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        log = _scan(tau[part], lep[part], wanted[part], less[part], limit[part])
        log += _prior_had(kind[part], prongs[part], momentum[part]).astype(np.float32)[:, :, None]
        log += _OF_LEP[kind[part], None, :]
        best = log.max(axis=(1, 2))
        found = np.isfinite(best)
        log -= np.where(found, best, 0.0)[:, None, None]
        weight = np.exp(log, out=log)
        posterior = np.zeros((len(log), _BINS), np.float32)
        for i in range(POINTS_HAD):  # points of equal mass lie on antidiagonals
            posterior[:, i : i + POINTS_LEP] += weight[:, i]
        ratio[part] = np.where(found, np.exp(_mode(posterior)), np.nan)
    mass: FloatArray = ratio * MASS_SCALE[kind] * derive(primary, ("DER_mass_vis",))["DER_mass_vis"]
    return mass
