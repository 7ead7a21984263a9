"""The columns of a layout as features, and what the challenge's columns mean."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.features.quantity import CHALLENGE, Quantity
from higgsbench.schema import UNITS

if TYPE_CHECKING:
    from higgsbench.schema import TableSchema

__all__ = ["MEANING", "raw_quantities"]

MEANING: Mapping[str, str] = MappingProxyType(
    {
        "DER_mass_MMC": "mass of the Higgs candidate by the missing mass calculator; missing without a solution",
        "DER_mass_transverse_met_lep": "sqrt(2 pt_lep met (1 - cos(phi_lep - phi_met)))",
        "DER_mass_vis": "invariant mass of tau and lepton",
        "DER_pt_h": "size of the vector sum of tau, lepton and MET",
        "DER_deltaeta_jet_jet": "|eta_1 - eta_2| of the two leading jets",
        "DER_mass_jet_jet": "invariant mass of the two leading jets",
        "DER_prodeta_jet_jet": "eta_1 * eta_2 of the two leading jets",
        "DER_deltar_tau_lep": "sqrt(delta eta^2 + delta phi^2) of tau and lepton",
        "DER_pt_tot": "size of the vector sum of tau, lepton, MET and the two leading jets",
        "DER_sum_pt": "pt_tau + pt_lep + PRI_jet_all_pt",
        "DER_pt_ratio_lep_tau": "pt_lep / pt_tau",
        "DER_met_phi_centrality": "where MET points: sqrt 2 on the bisector of tau and lepton, 1 along either",
        "DER_lep_eta_centrality": "exp(-4 / (eta_1 - eta_2)^2 * (eta_lep - (eta_1 + eta_2) / 2)^2)",
        "PRI_tau_pt": "transverse momentum of the hadronic tau",
        "PRI_tau_eta": "pseudorapidity of the hadronic tau",
        "PRI_tau_phi": "azimuth of the hadronic tau",
        "PRI_lep_pt": "transverse momentum of the electron or muon",
        "PRI_lep_eta": "pseudorapidity of the electron or muon",
        "PRI_lep_phi": "azimuth of the electron or muon",
        "PRI_met": "missing transverse energy",
        "PRI_met_phi": "azimuth of the missing transverse momentum",
        "PRI_met_sumet": "total transverse energy in the detector",
        "PRI_jet_num": "number of jets, 3 for three and more",
        "PRI_jet_leading_pt": "transverse momentum of the leading jet",
        "PRI_jet_leading_eta": "pseudorapidity of the leading jet",
        "PRI_jet_leading_phi": "azimuth of the leading jet",
        "PRI_jet_subleading_pt": "transverse momentum of the subleading jet",
        "PRI_jet_subleading_eta": "pseudorapidity of the subleading jet",
        "PRI_jet_subleading_phi": "azimuth of the subleading jet",
        "PRI_jet_all_pt": "scalar sum of the transverse momenta of all jets",
    }
)
"""What each column of the challenge holds."""


def raw_quantities(schema: TableSchema) -> list[Quantity]:
    """All measured columns of a layout, as they stand in the file."""
    return [
        Quantity(
            name,
            pl.col(name),
            MEANING.get(name, "column of the file"),
            UNITS.get(name, ""),
            CHALLENGE if name in MEANING else f"layout {schema.name}",
            "columns",
        )
        for name in schema.features
    ]
