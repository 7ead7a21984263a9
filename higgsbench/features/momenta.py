"""Inputs for neural networks: momentum vectors in the canonical frame, logarithms, flags; nothing but MMC is null."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from higgsbench.features.canonical import JET1, JET2, LEP, MET, TAU, VISIBLE
from higgsbench.features.kinematics import signed_log1p
from higgsbench.features.quantity import CHALLENGE, Quantity

if TYPE_CHECKING:
    from higgsbench.schema import TableSchema

__all__ = ["momenta_quantities"]

_PT_SCALE = 20.0
"""GeV: where log1p(pt / scale) turns from linear to logarithmic, the lowest threshold of the selection."""

_HERE = "this package"

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
_AS_THEY_ARE = (
    "DER_deltaeta_jet_jet",
    "DER_deltar_tau_lep",
    "DER_met_phi_centrality",
    "DER_lep_eta_centrality",
)
_MAY_BE_NULL = "DER_mass_MMC"


def _vectors() -> list[Quantity]:
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
    return found


def _invariants() -> list[Quantity]:
    found = []
    for name in _LOGARITHMS:
        value = signed_log1p(pl.col(name))
        kept = value if name == _MAY_BE_NULL else value.fill_null(0.0)
        short = name.removeprefix("DER_").removeprefix("PRI_")
        found.append(
            Quantity(f"log_{short}", kept, f"sign(x) log1p(|x|), x = {name}; 0 without the jets", "", CHALLENGE, "logs")
        )
    for name in _AS_THEY_ARE:
        short = name.removeprefix("DER_")
        shown = f"{name}; 0 without the jets"
        found.append(Quantity(short, pl.col(name).fill_null(0.0), shown, "", CHALLENGE, "angles"))
    return found


def _flags() -> list[Quantity]:
    jets = pl.col("PRI_jet_num")
    found = [
        Quantity(f"jet_num_is_{n}", (jets == n).cast(pl.Float32), f"1 if PRI_jet_num = {n}", "", _HERE, "flags")
        for n in range(4)
    ]
    missing = pl.col(_MAY_BE_NULL).is_null().cast(pl.Float32)
    return [*found, Quantity("mmc_missing", missing, "1 if DER_mass_MMC is missing", "", _HERE, "flags")]


def momenta_quantities(schema: TableSchema) -> list[Quantity]:
    """Inputs for a neural network; the same for every layout that has the challenge's columns."""
    del schema
    return [*_vectors(), *_invariants(), *_flags()]
