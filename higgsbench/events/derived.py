"""The derived quantities `DER_*` as functions of the primary ones, and how precisely a file can know them.

Columns are float64 arrays of shape (n,) by name, in GeV and rad, NaN where a value does not exist. The formulas are
those of C. Adam-Bourdarios et al., "Learning to discover: the Higgs boson machine learning challenge", appendix B,
with the conventions (signed products, wrapping, two leading jets in pt_tot) found in the file itself; four-vectors are
massless. `ditau.py` estimates DER_mass_MMC, which the primary quantities do not determine.
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
"""Every derived quantity except DER_mass_MMC, which is an estimate (`ditau_mass`)."""

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
