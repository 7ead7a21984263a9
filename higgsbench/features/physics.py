"""Quantities that a physicist would look at in H -> tau tau, on top of the canonical frame."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.features.canonical import JET1, JET2, LEP, MET, TAU, VISIBLE, canonical_quantities
from higgsbench.features.kinematics import (
    abs_delta_eta,
    delta_r,
    hypot,
    opening_angle,
    present,
    transverse_mass_squared,
)
from higgsbench.features.quantity import Quantity

if TYPE_CHECKING:
    from higgsbench.schema import TableSchema

__all__ = ["physics_quantities"]

_PDG = "Particle Data Group, Phys. Rev. D 110 (2024) 030001, Kinematics"
_ELLIS = "R. K. Ellis, I. Hinchliffe, M. Soldate, J. J. van der Bij, Nucl. Phys. B 297 (1988) 221"
_CDF = "CDF, Phys. Rev. Lett. 96 (2006) 011802"
_CMS = "CMS, JHEP 05 (2014) 104"
_ATLAS = "ATLAS, JHEP 04 (2015) 117"
_HERE = "this package"

BACK_TO_BACK = 1e-3
"""|sin(phi_tau - phi_lep)| below which the collinear fractions are not known: it is the resolution of the file."""


def _separations() -> list[Quantity]:
    """Distances of all pairs of visible objects, less those that are columns of the challenge already.

    |delta phi| of the pairs is left out: it brought nothing beside delta R and the azimuths of the canonical frame.
    """
    pairs = list(combinations(VISIBLE, 2))
    found = []
    for a, b in pairs:
        if (a, b) != (JET1, JET2):
            formula, name = f"|eta_{a.name} - eta_{b.name}|", f"deta_{a.name}_{b.name}"
            found.append(Quantity(name, abs_delta_eta(a, b), formula, "", _PDG, "separations"))
    for a, b in pairs:
        if (a, b) != (TAU, LEP):
            formula, name = f"sqrt(delta eta^2 + delta phi^2) of {a.name} and {b.name}", f"dr_{a.name}_{b.name}"
            found.append(Quantity(name, delta_r(a, b), formula, "", _PDG, "separations"))
    return found


def _collinear() -> list[Quantity]:
    """Visible momentum fractions and mass if the neutrinos fly along their visible tau decay products.

    MET = (1/x_tau - 1) pT_tau + (1/x_lep - 1) pT_lep, solved by cross products.
    """
    sine, cosine = pl.col("~lep_sin"), pl.col("~lep_cos")
    known = sine.abs() >= BACK_TO_BACK
    across = MET.px * sine - MET.py * cosine  # MET x lepton direction
    tau_part, lep_part = TAU.pt * sine, LEP.pt * sine
    x_tau = pl.when(known).then(present(tau_part / (tau_part + across)))
    x_lep = pl.when(known).then(present(lep_part / (lep_part + MET.py)))
    inverse = present((1 + across / tau_part) * (1 + MET.py / lep_part))  # 1 / (x_tau x_lep)
    mass = pl.when(known & (inverse > 0)).then(pl.col("DER_mass_vis") * inverse.sqrt())
    return [
        Quantity("x_tau", x_tau, "T x L / (T x L + MET x L), T, L = pT vectors of tau, lep", "", _ELLIS, "collinear"),
        Quantity("x_lep", x_lep, "T x L / (T x L + T x MET)", "", _ELLIS, "collinear"),
        Quantity(
            "mass_collinear", mass, "DER_mass_vis / sqrt(x_tau x_lep), where that is real", "GeV", _ELLIS, "collinear"
        ),
    ]


def _zeta() -> list[Quantity]:
    """Projections on the bisector of tau and lepton, which is at half the lepton's phi in the canonical frame."""
    half = LEP.phi / 2
    visible = (TAU.pt + LEP.pt) * half.cos()
    missing = MET.pt * (MET.phi - half).cos()
    return [
        Quantity("pzeta_vis", visible, "(T + L) . zeta, zeta = bisector of T and L", "GeV", _CDF, "p_zeta"),
        Quantity("pzeta_miss", missing, "MET . zeta", "GeV", _CDF, "p_zeta"),
        Quantity("pzeta", missing - 0.85 * visible, "pzeta_miss - 0.85 pzeta_vis", "GeV", _CMS, "p_zeta"),
    ]


def _masses() -> list[Quantity]:
    tau_lep, tau_met, lep_met = (transverse_mass_squared(a, b) for a, b in combinations((TAU, LEP, MET), 2))
    return [
        Quantity(
            "mmc_over_vis",
            present(pl.col("DER_mass_MMC") / pl.col("DER_mass_vis")),
            "DER_mass_MMC / DER_mass_vis",
            "",
            _HERE,
            "masses",
        ),
        Quantity(
            "mt_total",
            (tau_lep + tau_met + lep_met).sqrt(),
            "sqrt(mT^2(tau, lep) + mT^2(tau, MET) + mT^2(lep, MET)), mT^2 = 2 pT pT' (1 - cos(phi - phi'))",
            "GeV",
            "ATLAS, JHEP 11 (2014) 056",
            "masses",
        ),
    ]


def _event() -> list[Quantity]:
    sum_x, sum_y = TAU.px + LEP.px, LEP.py
    higgs = (sum_x + MET.px, sum_y + MET.py)
    dijet = (JET1.px + JET2.px, JET1.py + JET2.py)
    gap = JET1.pseudorapidity - JET2.pseudorapidity
    off_centre = TAU.pseudorapidity - (JET1.pseudorapidity + JET2.pseudorapidity) / 2
    centrality = present((-4 * off_centre * off_centre / (gap * gap)).exp())
    eta_vis = ((TAU.pz + LEP.pz) / hypot(sum_x, sum_y)).arcsinh()
    pt_share = pl.col("DER_pt_h") / (pl.col("DER_sum_pt") + MET.pt)
    return [
        Quantity(
            "met_significance",
            present(MET.pt / pl.col("PRI_met_sumet").sqrt()),
            "PRI_met / sqrt(PRI_met_sumet)",
            "sqrt(GeV)",
            "ATLAS, ATLAS-CONF-2018-038",
            "event",
        ),
        Quantity(
            "tau_eta_centrality",
            centrality,
            "exp(-4 / (eta_1 - eta_2)^2 * (eta_tau - (eta_1 + eta_2) / 2)^2)",
            "",
            _ATLAS,
            "event",
        ),
        Quantity(
            "dphi_h_jet1",
            opening_angle(*higgs, JET1.px, JET1.py),
            "angle between H = T + L + MET and the leading jet",
            "rad",
            _HERE,
            "event",
        ),
        Quantity("dphi_h_jj", opening_angle(*higgs, *dijet), "angle between H and the dijet", "rad", _HERE, "event"),
        Quantity("eta_vis", present(eta_vis), "arsinh(pz / pT) of tau + lep", "", _PDG, "event"),
        Quantity("pt_h_share", pt_share, "DER_pt_h / (DER_sum_pt + PRI_met)", "", _HERE, "event"),
    ]


def physics_quantities(schema: TableSchema) -> list[Quantity]:
    """The canonical set and the quantities of this module, for a layout."""
    return [*canonical_quantities(schema), *_separations(), *_collinear(), *_zeta(), *_masses(), *_event()]
