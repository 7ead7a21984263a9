"""The derived quantities `DER_*` as functions of the primary ones, and how precisely a file can know them.

Columns are float64 arrays of shape (n,) by name, in GeV and rad, NaN where a value does not exist. The formulas are
those of C. Adam-Bourdarios et al., "Learning to discover: the Higgs boson machine learning challenge", appendix B,
with the conventions (signed products, wrapping, two leading jets in pt_tot) found in the file itself; four-vectors are
massless. The file's missing mass calculator (A. Elagin et al., Nucl. Instrum. Meth. A 654 (2011) 481) cannot be
reproduced from the file. `mmc_lite` scans the momentum fractions of the visible parts of the two taus, with neutrinos
collinear with their tau, so that the missing transverse momentum is a linear function of two numbers per event.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from higgsbench.schema import MISSING, PRIMARY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

FloatArray: TypeAlias = "npt.NDArray[np.float64]"
BoolArray: TypeAlias = "npt.NDArray[np.bool_]"

HALF_STEP = 0.0005  # half of the last decimal that the files keep
# GeV: the mass of the visible hadronic tau that removes the bias of DER_mass_vis against the file (0.8 to 1.0 do).
TAU_VISIBLE_MASS = 0.9


def wrap(phi: FloatArray) -> FloatArray:
    """Bring angles in rad, of any shape, to [-pi, pi)."""
    return (phi + np.pi) % (2.0 * np.pi) - np.pi


def delta_r(eta1: FloatArray, phi1: FloatArray, eta2: FloatArray, phi2: FloatArray) -> FloatArray:
    """Distance of two directions in (eta, phi), shape (n,)."""
    return np.hypot(eta1 - eta2, wrap(phi1 - phi2))


def transverse(pt: FloatArray, phi: FloatArray) -> FloatArray:
    """Transverse vectors (px, py) in GeV, shape (n, 2)."""
    return np.stack([pt * np.cos(phi), pt * np.sin(phi)], axis=1)


def invariant_mass(
    pt1: FloatArray, eta1: FloatArray, phi1: FloatArray, pt2: FloatArray, eta2: FloatArray, phi2: FloatArray
) -> FloatArray:
    """Mass of two massless particles, sqrt(2 pt1 pt2 (cosh deta - cos dphi)), in GeV, shape (n,)."""
    # 2 sinh^2 + 2 sin^2 instead of cosh - cos: nothing cancels for close particles.
    opening = np.sinh((eta1 - eta2) / 2) ** 2 + np.sin((phi1 - phi2) / 2) ** 2
    mass: FloatArray = 2.0 * np.sqrt(pt1 * pt2 * opening)
    return mass


def _visible_mass(*columns: FloatArray) -> FloatArray:
    tau_pt, tau_eta, tau_phi, lep_pt, lep_eta, lep_phi = columns
    massless = invariant_mass(tau_pt, tau_eta, tau_phi, lep_pt, lep_eta, lep_phi)
    # m^2 = m_tau^2 + 2 (E_tau E_lep - p_tau p_lep): a mass only adds to the energy of the tau.
    momentum = tau_pt * np.cosh(tau_eta)
    gained = np.hypot(momentum, TAU_VISIBLE_MASS) - momentum
    return np.sqrt(massless**2 + TAU_VISIBLE_MASS**2 + 2.0 * gained * lep_pt * np.cosh(lep_eta))


def _vector_sum(*columns: FloatArray) -> FloatArray:
    """Size of the transverse vector sum of any number of (pt, phi) pairs; a missing pair counts as zero."""
    px, py = np.zeros_like(columns[0]), np.zeros_like(columns[0])
    for pt, phi in zip(columns[::2], columns[1::2], strict=True):
        px += np.nan_to_num(pt * np.cos(phi))
        py += np.nan_to_num(pt * np.sin(phi))
    return np.hypot(px, py)


def _met_centrality(tau_phi: FloatArray, lep_phi: FloatArray, met_phi: FloatArray) -> FloatArray:
    side = np.sign(np.sin(tau_phi - lep_phi))
    a = np.sin(met_phi - lep_phi) * side
    b = np.sin(tau_phi - met_phi) * side
    size = np.hypot(a, b)
    # a and b vanish together only if all three are in one line; the value is then undefined and 0 is its mean.
    centrality: FloatArray = np.divide(a + b, size, out=np.zeros_like(size), where=size > 0)
    return centrality


def _lepton_centrality(eta1: FloatArray, eta2: FloatArray, lep_eta: FloatArray) -> FloatArray:
    gap = np.maximum((eta1 - eta2) ** 2, 1e-12)  # equal etas: the exponential limit, 0 unless the lepton is there too
    return np.exp(-4.0 / gap * (lep_eta - (eta1 + eta2) / 2) ** 2)


@dataclass(frozen=True)
class Formula:
    """How one derived quantity follows from primary ones."""

    inputs: tuple[str, ...]  # names of the primary columns, in the order `function` takes them
    function: Callable[..., FloatArray]  # takes one array of shape (n,) per input, returns one of shape (n,)
    floor: float = 0.0  # minimum tolerance of a comparison with a file, in the unit of the quantity
    # tolerance that replaces the computed bound, where a number measured on the file is known
    fixed: float | None = None


_TAU = ("PRI_tau_pt", "PRI_tau_eta", "PRI_tau_phi")
_LEP = ("PRI_lep_pt", "PRI_lep_eta", "PRI_lep_phi")
_LEADING = ("PRI_jet_leading_pt", "PRI_jet_leading_eta", "PRI_jet_leading_phi")
_SUBLEADING = ("PRI_jet_subleading_pt", "PRI_jet_subleading_eta", "PRI_jet_subleading_phi")
_ETA_JJ = ("PRI_jet_leading_eta", "PRI_jet_subleading_eta")
_HIGGS = ("PRI_tau_pt", "PRI_tau_phi", "PRI_lep_pt", "PRI_lep_phi", "PRI_met", "PRI_met_phi")
_ALL = (*_HIGGS, *_LEADING[::2], *_SUBLEADING[::2])

FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {
        "DER_mass_transverse_met_lep": Formula(
            _HIGGS[2:], lambda lep, lep_phi, met, phi: 2.0 * np.sqrt(lep * met) * np.abs(np.sin((lep_phi - phi) / 2))
        ),
        "DER_mass_vis": Formula((*_TAU, *_LEP), _visible_mass, floor=0.25),
        "DER_pt_h": Formula(_HIGGS, _vector_sum),
        "DER_deltaeta_jet_jet": Formula(_ETA_JJ, lambda a, b: np.abs(a - b), fixed=0.001),
        "DER_mass_jet_jet": Formula((*_LEADING, *_SUBLEADING), invariant_mass),
        "DER_prodeta_jet_jet": Formula(_ETA_JJ, lambda a, b: a * b),
        "DER_deltar_tau_lep": Formula((*_TAU[1:], *_LEP[1:]), delta_r),
        "DER_pt_tot": Formula(_ALL, _vector_sum),
        "DER_sum_pt": Formula(("PRI_tau_pt", "PRI_lep_pt", "PRI_jet_all_pt"), lambda a, b, c: a + b + c, fixed=0.001),
        "DER_pt_ratio_lep_tau": Formula(("PRI_lep_pt", "PRI_tau_pt"), lambda a, b: a / b),
        "DER_met_phi_centrality": Formula(("PRI_tau_phi", "PRI_lep_phi", "PRI_met_phi"), _met_centrality),
        "DER_lep_eta_centrality": Formula((*_ETA_JJ, "PRI_lep_eta"), _lepton_centrality),
    }
)
"""The formula of each analytic derived quantity, in the order of the official files."""

ANALYTIC: tuple[str, ...] = tuple(FORMULAS)
"""Every derived quantity except DER_mass_MMC, which is an estimate (`mmc_lite`)."""

_JJ_RATIO = 1.5  # real jets have masses: the file's m_jj exceeds the massless one by at most this factor
_COLLINEAR = 0.002  # below this |sin(phi_tau - phi_lep)| rounding can flip the sign of the centrality


def columns_of(frame: pl.DataFrame, names: Iterable[str] = PRIMARY) -> dict[str, FloatArray]:
    """Take columns out of a frame as new arrays; a value is missing where it is null, NaN or -999."""
    columns = {}
    for name in names:
        values = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy(writable=True)
        values[values == MISSING] = np.nan
        columns[name] = values
    return columns


def derive(primary: Mapping[str, FloatArray], names: Iterable[str] = ANALYTIC) -> dict[str, FloatArray]:
    """Compute the derived quantities in `ANALYTIC` from the primary columns.

    DER_mass_jet_jet is that of massless jets and so a lower limit on the file's.
    """
    return {name: FORMULAS[name].function(*(primary[i] for i in FORMULAS[name].inputs)) for name in names}


def rounding_bounds(
    primary: Mapping[str, FloatArray],
    names: Iterable[str] = ANALYTIC,
    slack: Mapping[str, FloatArray | float] = MappingProxyType({}),
) -> dict[str, FloatArray]:
    """How far, per event, a file's derived value may lie from the one recomputed from its rounded primaries.

    The bound is half a step for the rounding of the value itself plus the largest change of the value when every input
    moves by up to half a step, to second order: for each input the change is split into an odd and an even part, the
    odd ones add up, and the even ones do with their cross terms, without which one event in half a million breaks the
    bound by rounding alone. `slack` is how much further values may lie from the official ones, by column, where a file
    keeps fewer digits.
    """
    bounds = {}
    for name in names:
        formula = FORMULAS[name]
        inputs = [primary[i] for i in formula.inputs]
        value = formula.function(*inputs)
        if formula.fixed is not None:
            # Sums and differences: an error of an input is one of the value.
            added = sum((slack.get(i, 0.0) for i in (name, *formula.inputs)), start=0.0)
            bounds[name] = np.where(np.isnan(value), np.nan, formula.fixed + added)
            continue
        linear, curved = np.full_like(value, HALF_STEP) + slack.get(name, 0.0), np.zeros_like(value)
        for position, column in enumerate(inputs):
            step = HALF_STEP + slack.get(formula.inputs[position], 0.0)
            up, down = (
                formula.function(*inputs[:position], moved, *inputs[position + 1 :]) - value
                for moved in (column + step, column - step)
            )
            linear += np.abs(up - down) / 2
            curved += np.sqrt(np.abs(up + down) / 2)
        # (sum of roots)^2, not the sum: inputs that move together curve the value more than each on its own, as for a
        # vector sum that almost cancels. |f_ij| <= sqrt(f_ii f_jj) for a convex function limits by how much.
        bounds[name] = np.maximum(linear + curved**2, formula.floor)
    return bounds


def agreement(
    primary: Mapping[str, FloatArray],
    derived: Mapping[str, FloatArray],
    names: Iterable[str] = ANALYTIC,
    slack: Mapping[str, FloatArray | float] = MappingProxyType({}),
) -> dict[str, BoolArray]:
    """Tell which derived values of a file are consistent with its primary ones; `slack` as for `rounding_bounds`.

    Returns:
        Masks of shape (n,) by name: False where a value differs by more than the bound, or is present where it
        cannot exist or missing where it must. DER_mass_jet_jet may exceed the massless value by half of it;
        DER_met_phi_centrality always passes where tau and lepton are collinear.
    """
    result = {}
    for name, bound in rounding_bounds(primary, names, slack).items():
        wanted, found = derive(primary, (name,))[name], derived[name]
        if name == "DER_mass_jet_jet":
            close = (wanted <= found + bound) & (found <= _JJ_RATIO * wanted + bound)
        else:
            close = np.abs(wanted - found) <= bound + 1e-9  # 1e-9: both sides are decimals with a binary tail
        if name == "DER_met_phi_centrality":
            near = _COLLINEAR + slack.get("PRI_tau_phi", 0.0) + slack.get("PRI_lep_phi", 0.0)
            close |= np.abs(np.sin(primary["PRI_tau_phi"] - primary["PRI_lep_phi"])) < near
        result[name] = np.where(np.isnan(wanted), np.isnan(found), close)
    return result


STEP = 0.12  # of the scan, in ln(x) of each visible momentum fraction
POINTS_HAD, POINTS_LEP = 12, 28  # fractions down to 0.24 and 0.035
# GeV, sqrt(GeV): without jets, each component of the missing momentum has the resolution sqrt(a^2 + b^2 sumet)
MET_NOISE, MET_STOCHASTIC = 7.65, 0.9
MET_JETS = 1.315  # factor of this resolution with jets
# The prior of a point is x^a (1 - x)^b for each tau, in ln(x).
PRIOR_HAD, PRIOR_LEP = (2.3, 0.19), (1.34, 0.96)
SMOOTHING = 1.0  # Gaussian width of the smoothing of the posterior, in its bins of STEP / 2 in ln(mass)
CHI_MAX = (3.26, 2.69)  # no mass if the best point is more standard deviations away: without jets, with jets
MASS_SCALE = 1.015  # median of the file's mass over that of the scan
_CHUNK = 2048  # events per pass: 2048 x 336 float32 = 2.75 MB per temporary, which stays in the cache

_LOG_HAD, _LOG_LEP = (-STEP * (np.arange(n) + 0.5) for n in (POINTS_HAD, POINTS_LEP))
_EXTRA_HAD, _EXTRA_LEP = (np.expm1(-v).astype(np.float32) for v in (_LOG_HAD, _LOG_LEP))  # 1 / x - 1
_PRIOR = np.add.outer(
    *(a * v + b * np.log(-np.expm1(v)) for (a, b), v in ((PRIOR_HAD, _LOG_HAD), (PRIOR_LEP, _LOG_LEP)))
).astype(np.float32)
_BINS = POINTS_HAD + POINTS_LEP - 1
_LOG_MASS = STEP / 2 * np.arange(1, _BINS + 1)  # ln(mass / m_vis) = -ln(x_h x_l) / 2 of each bin
_NEAR = 4  # bins on each side that the smoothing takes into account
_KERNEL = np.exp(-0.5 * (np.arange(-_NEAR, _NEAR + 1) / SMOOTHING) ** 2).astype(np.float32)
_NORM = np.convolve(np.ones(_BINS, np.float32), _KERNEL)[_NEAR:-_NEAR]


def _scan(
    tau: FloatArray, lep: FloatArray, met: FloatArray, sigma: FloatArray
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Posterior of ln(mass / m_vis), shape (n, bins), and least chi2 of each event; arguments as in `mmc_lite`.

    `sigma` is the resolution of each component of the missing momentum, GeV, shape (n,).
    """
    # Dividing by sigma first keeps the numbers small, so that float32 loses nothing in the difference.
    t, ell, m = ((v / sigma[:, None]).astype(np.float32) for v in (tau, lep, met))
    n = len(sigma)
    chi2 = np.zeros((n, POINTS_HAD, POINTS_LEP), np.float32)
    for axis in (0, 1):
        # (n, 12, 1) - (n, 1, 28): the scan is separable, so the products are taken on 12 + 28 points, not on 336.
        had = m[:, axis, None] - t[:, axis, None] * _EXTRA_HAD
        miss = had[:, :, None] - (ell[:, axis, None] * _EXTRA_LEP)[:, None, :]
        miss *= miss
        chi2 += miss
    best = chi2.min(axis=(1, 2))
    chi2 -= best[:, None, None]
    chi2 *= np.float32(-0.5)
    chi2 += _PRIOR
    weight = np.exp(chi2, out=chi2)
    posterior = np.zeros((n, _BINS), np.float32)
    for i in range(POINTS_HAD):  # points of equal mass lie on antidiagonals
        posterior[:, i : i + POINTS_LEP] += weight[:, i]
    return posterior, best


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


def mmc_lite(
    tau: FloatArray,
    lep: FloatArray,
    met: FloatArray,
    sumet: FloatArray,
    mass_vis: FloatArray,
    jets: BoolArray,
    noise: tuple[FloatArray, FloatArray] | None = None,
) -> FloatArray:
    """Estimate the di-tau mass as the most probable one of a scan of momentum fractions, GeV, shape (n,).

    `tau`, `lep` and `met` are the (px, py) of the visible hadronic tau, the lepton and the missing momentum, shape
    (n, 2); `jets` tells which events have jets. `noise`, two arrays of shape (n,), represents what the calculator of
    the file knew but the file does not contain: the first, z, multiplies the posterior by exp(z ln(mass)); the second
    is added to the largest accepted distance, in standard deviations. The mass is NaN if no point of the scan explains
    the missing momentum.
    """
    mass = np.empty(len(sumet))
    sigma = np.sqrt(MET_NOISE**2 + MET_STOCHASTIC**2 * sumet) * np.where(jets, MET_JETS, 1.0)
    limit = np.where(jets, CHI_MAX[1], CHI_MAX[0]) + (0.0 if noise is None else noise[1])
    for start in range(0, len(mass), _CHUNK):
        part = slice(start, start + _CHUNK)
        posterior, chi2 = _scan(tau[part], lep[part], met[part], sigma[part])
        if noise is not None:
            posterior *= np.exp(noise[0][part, None] * _LOG_MASS).astype(np.float32)
        estimate = MASS_SCALE * mass_vis[part] * np.exp(_mode(posterior))
        mass[part] = np.where(np.sqrt(chi2) > limit[part], np.nan, estimate)
    return mass


def mmc_lite_from_primaries(primary: Mapping[str, FloatArray]) -> FloatArray:
    """Estimate the di-tau mass of events given by their primary columns, as `mmc_lite` does."""
    tau, lep, met = (transverse(primary[pt], primary[phi]) for pt, phi in zip(_HIGGS[::2], _HIGGS[1::2], strict=True))
    mass_vis = derive(primary, ("DER_mass_vis",))["DER_mass_vis"]
    return mmc_lite(tau, lep, met, primary["PRI_met_sumet"], mass_vis, primary["PRI_jet_num"] > 0)
