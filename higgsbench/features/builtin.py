"""The built-in feature sets: the canonical frame, physics quantities, and inputs for neural networks."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.expressions import present
from higgsbench.features.quantity import (
    CHALLENGE,
    Momentum,
    Quantity,
    abs_delta_eta,
    delta_r,
    hypot,
    opening_angle,
    raw_quantities,
    signed_log1p,
    transverse_mass_squared,
    wrap,
)

if TYPE_CHECKING:
    from higgsbench.schema import TableSchema

_ALIGNED = 1e-6
"""|sin(delta phi)| below which two objects count as aligned. The file keeps angles to 0.001 rad; none of its values
except 0 comes this close to a multiple of pi, and the rounding of a rotated angle stays far below."""

_SOURCE = "symmetry of the collision; frame of this package"
_JETS = ("PRI_jet_leading", "PRI_jet_subleading")
_PREFIX = {"lep": "PRI_lep", "met": "PRI_met", "jet1": _JETS[0], "jet2": _JETS[1]}
_PT = {"lep": "PRI_lep_pt", "met": "PRI_met", "jet1": f"{_JETS[0]}_pt", "jet2": f"{_JETS[1]}_pt"}


def _leading_sign(values: list[pl.Expr], tolerance: float) -> pl.Expr:
    """Return the sign (+1 or -1) of the first existing value whose magnitude exceeds the tolerance, otherwise +1."""
    return pl.coalesce(*(pl.when(v.abs() > tolerance).then(v.sign()) for v in values), pl.lit(1.0))


def _steps() -> tuple[dict[str, pl.Expr], ...]:
    from_tau = {m: pl.col(f"{p}_phi") - pl.col("PRI_tau_phi") for m, p in _PREFIX.items()}
    etas = [pl.col(f"{p}_eta") for p in ("PRI_tau", "PRI_lep", *_JETS)]
    signs = {
        "~forward": _leading_sign(etas, 0.0),
        "~upward": _leading_sign([difference.sin() for difference in from_tau.values()], _ALIGNED),
    }
    angles = {f"~{m}_eta": pl.col("~forward") * pl.col(f"{_PREFIX[m]}_eta") for m in ("lep", "jet1", "jet2")}
    angles |= {f"~{m}_phi": wrap(pl.col("~upward") * difference) for m, difference in from_tau.items()}
    angles |= {"~tau_eta": pl.col("PRI_tau_eta").abs(), "~lep_phi": wrap(from_tau["lep"]).abs()}
    directions = {f"~{m}_cos": pl.col(f"~{m}_phi").cos() for m in _PREFIX}
    directions |= {f"~{m}_sin": pl.col(f"~{m}_phi").sin() for m in _PREFIX}
    parts = {f"~{m}_px": pl.col(pt) * pl.col(f"~{m}_cos") for m, pt in _PT.items()}
    parts |= {f"~{m}_py": pl.col(pt) * pl.col(f"~{m}_sin") for m, pt in _PT.items()}
    return signs, angles, directions, parts


STEPS: tuple[dict[str, pl.Expr], ...] = _steps()
"""Intermediate quantities for features, by name, in the order of evaluation: each step uses columns and earlier steps.
They are computed once for all features; Polars' own search for common parts of expressions misses most of these."""


def _in_frame(name: str) -> Momentum:
    phi, px, py = (pl.col(f"~{name}_{part}") for part in ("phi", "px", "py"))
    return Momentum(name, pl.col(_PT[name]), phi, px, py, None if name == "met" else pl.col(f"~{name}_eta"))


_TAU_PT = pl.col("PRI_tau_pt")
TAU = Momentum("tau", _TAU_PT, pl.lit(0.0), _TAU_PT, pl.lit(0.0), pl.col("~tau_eta"))
LEP, MET, JET1, JET2 = (_in_frame(name) for name in _PT)
VISIBLE = (TAU, LEP, JET1, JET2)
"""The objects with a pseudorapidity, in the canonical frame."""

_REPLACED = frozenset({f"{p}_{c}" for p in ("PRI_tau", "PRI_lep", *_JETS) for c in ("eta", "phi")} | {"PRI_met_phi"})
"""Columns that the canonical coordinates replace."""


def canonical_quantities(schema: TableSchema) -> list[Quantity]:
    """The columns of a layout with directions in the canonical frame, without the phi of the tau, which is always 0."""
    found = [q for q in raw_quantities(schema) if q.name not in _REPLACED]
    for m in VISIBLE:
        formula = "|eta_tau|" if m is TAU else f"eta_{m.name} * sign(eta_tau)"
        found.append(Quantity(f"{m.name}_eta_can", m.pseudorapidity, formula, "", _SOURCE, "canonical frame"))
    for m in (LEP, MET, JET1, JET2):
        formula = f"wrap((phi_{m.name} - phi_tau) * sign(wrap(phi_lep - phi_tau)))"
        formula = "|wrap(phi_lep - phi_tau)|" if m is LEP else formula
        found.append(Quantity(f"{m.name}_phi_can", m.phi, formula, "rad", _SOURCE, "canonical frame"))
    return found


_PDG = "Particle Data Group, Phys. Rev. D 110 (2024) 030001, Kinematics"
_ELLIS = "R. K. Ellis, I. Hinchliffe, M. Soldate, J. J. van der Bij, Nucl. Phys. B 297 (1988) 221"
_CDF = "CDF, Phys. Rev. Lett. 96 (2006) 011802"
_CMS = "CMS, JHEP 05 (2014) 104"
_ATLAS = "ATLAS, JHEP 04 (2015) 117"
_HERE = "this package"

_BACK_TO_BACK = 1e-3
"""|sin(phi_tau - phi_lep)| below which the collinear fractions are not known: it is the resolution of the file."""


def _separations() -> list[Quantity]:
    """Distances of all pairs of visible objects, except those that the file has as columns.

    |delta phi| of the pairs is left out: it added nothing to delta R and the azimuths of the canonical frame.
    """
    pairs = list(combinations(VISIBLE, 2))
    etas = [(f"deta_{a.name}_{b.name}", abs_delta_eta(a, b), f"|eta_{a.name} - eta_{b.name}|") for a, b in pairs]
    formula = "sqrt(delta eta^2 + delta phi^2) of"
    radii = [(f"dr_{a.name}_{b.name}", delta_r(a, b), f"{formula} {a.name} and {b.name}") for a, b in pairs]
    return [
        Quantity(name, value, formula, "", _PDG, "separations")
        for name, value, formula in etas + radii
        if name not in ("deta_jet1_jet2", "dr_tau_lep")
    ]


def _collinear() -> list[Quantity]:
    """Visible momentum fractions and mass if the neutrinos fly along their visible tau decay products.

    MET = (1/x_tau - 1) pT_tau + (1/x_lep - 1) pT_lep, solved by cross products.
    """
    sine, cosine = pl.col("~lep_sin"), pl.col("~lep_cos")
    known = sine.abs() >= _BACK_TO_BACK
    across = MET.px * sine - MET.py * cosine  # MET x lepton direction
    tau_part, lep_part = TAU.pt * sine, LEP.pt * sine
    x_tau = pl.when(known).then(present(tau_part / (tau_part + across)))
    x_lep = pl.when(known).then(present(lep_part / (lep_part + MET.py)))
    inverse = present((1 + across / tau_part) * (1 + MET.py / lep_part))  # 1 / (x_tau x_lep)
    mass = pl.when(known & (inverse > 0)).then(pl.col("DER_mass_vis") * inverse.sqrt())
    real = "DER_mass_vis / sqrt(x_tau x_lep), where that is real"
    return [
        Quantity("x_tau", x_tau, "T x L / (T x L + MET x L), T, L = pT vectors of tau, lep", "", _ELLIS, "collinear"),
        Quantity("x_lep", x_lep, "T x L / (T x L + T x MET)", "", _ELLIS, "collinear"),
        Quantity("mass_collinear", mass, real, "GeV", _ELLIS, "collinear"),
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


def _event() -> list[Quantity]:
    """Masses, and quantities of the event as a whole."""
    tau_lep, tau_met, lep_met = (transverse_mass_squared(a, b) for a, b in combinations((TAU, LEP, MET), 2))
    ratio, total = present(pl.col("DER_mass_MMC") / pl.col("DER_mass_vis")), (tau_lep + tau_met + lep_met).sqrt()
    masses = "sqrt(mT^2(tau, lep) + mT^2(tau, MET) + mT^2(lep, MET)), mT^2 = 2 pT pT' (1 - cos(phi - phi'))"
    sum_x, sum_y = TAU.px + LEP.px, LEP.py
    higgs = (sum_x + MET.px, sum_y + MET.py)
    dijet = (JET1.px + JET2.px, JET1.py + JET2.py)
    gap = JET1.pseudorapidity - JET2.pseudorapidity
    off_centre = TAU.pseudorapidity - (JET1.pseudorapidity + JET2.pseudorapidity) / 2
    centrality = present((-4 * off_centre * off_centre / (gap * gap)).exp())
    eta_vis = ((TAU.pz + LEP.pz) / hypot(sum_x, sum_y)).arcsinh()
    pt_share = pl.col("DER_pt_h") / (pl.col("DER_sum_pt") + MET.pt)
    significance = present(MET.pt / pl.col("PRI_met_sumet").sqrt())
    to_jet, to_dijet = opening_angle(*higgs, JET1.px, JET1.py), opening_angle(*higgs, *dijet)
    conf, formula = "ATLAS, ATLAS-CONF-2018-038", "exp(-4 / (eta_1 - eta_2)^2 * (eta_tau - (eta_1 + eta_2) / 2)^2)"
    jet_formula = "angle between H = T + L + MET and the leading jet"
    return [
        Quantity("mmc_over_vis", ratio, "DER_mass_MMC / DER_mass_vis", "", _HERE, "masses"),
        Quantity("mt_total", total, masses, "GeV", "ATLAS, JHEP 11 (2014) 056", "masses"),
        Quantity("met_significance", significance, "PRI_met / sqrt(PRI_met_sumet)", "sqrt(GeV)", conf, "event"),
        Quantity("tau_eta_centrality", centrality, formula, "", _ATLAS, "event"),
        Quantity("dphi_h_jet1", to_jet, jet_formula, "rad", _HERE, "event"),
        Quantity("dphi_h_jj", to_dijet, "angle between H and the dijet", "rad", _HERE, "event"),
        Quantity("eta_vis", present(eta_vis), "arsinh(pz / pT) of tau + lep", "", _PDG, "event"),
        Quantity("pt_h_share", pt_share, "DER_pt_h / (DER_sum_pt + PRI_met)", "", _HERE, "event"),
    ]


def physics_quantities(schema: TableSchema) -> list[Quantity]:
    """The canonical set and common analysis variables, for a layout."""
    return [*canonical_quantities(schema), *_separations(), *_collinear(), *_zeta(), *_event()]


_PT_SCALE = 20.0
"""GeV: where log1p(pt / scale) turns from linear to logarithmic, the lowest threshold of the selection."""


_LOGARITHMS = (
    "DER_mass_MMC",
    "DER_mass_transverse_met_lep",
    "DER_mass_vis",
    "DER_pt_h",
    "DER_mass_jet_jet",
    "DER_prodeta_jet_jet",
    "DER_pt_tot",
    "DER_sum_pt",
    "DER_pt_ratio_lep_tau",
    "PRI_met_sumet",
    "PRI_jet_all_pt",
)
_AS_THEY_ARE = ("DER_deltaeta_jet_jet", "DER_deltar_tau_lep", "DER_met_phi_centrality", "DER_lep_eta_centrality")
_MAY_BE_NULL = "DER_mass_MMC"


def momenta_quantities(schema: TableSchema) -> list[Quantity]:
    """Inputs for a neural network; the same for every layout that has the challenge's columns."""
    del schema
    found = []
    for m in (TAU, LEP, MET, JET1, JET2):
        size = (m.pt / _PT_SCALE).log1p()
        formula = f"log1p(pt_{m.name} / 20 GeV)"
        if m is TAU:
            found.append(Quantity("tau_lx", size, formula, "", _HERE, "vectors"))
            continue
        for axis, function in (("x", "cos"), ("y", "sin")):
            part = (size * pl.col(f"~{m.name}_{function}")).fill_null(0.0)
            shown = f"{formula} * {function}({m.name}_phi_can); 0 without the object"
            found.append(Quantity(f"{m.name}_l{axis}", part, shown, "", _HERE, "vectors"))
    for m in VISIBLE:
        shown = f"{m.name}_eta_can; 0 without the object"
        found.append(Quantity(f"{m.name}_eta_in", m.pseudorapidity.fill_null(0.0), shown, "", _HERE, "vectors"))
    for name in _LOGARITHMS:
        value = signed_log1p(pl.col(name))
        kept = value if name == _MAY_BE_NULL else value.fill_null(0.0)
        shown = f"sign(x) log1p(|x|), x = {name}; 0 without the jets"
        found.append(Quantity(f"log_{name[4:]}", kept, shown, "", CHALLENGE, "logs"))
    for name in _AS_THEY_ARE:
        shown = f"{name}; 0 without the jets"
        found.append(Quantity(name[4:], pl.col(name).fill_null(0.0), shown, "", CHALLENGE, "angles"))
    flags = {f"jet_num_is_{n}": (pl.col("PRI_jet_num") == n, f"PRI_jet_num = {n}") for n in range(4)}
    flags["mmc_missing"] = (pl.col(_MAY_BE_NULL).is_null(), f"{_MAY_BE_NULL} is missing")
    return found + [
        Quantity(name, flag.cast(pl.Float32), f"1 if {condition}", "", _HERE, "flags")
        for name, (flag, condition) in flags.items()
    ]
