"""The canonical frame: every event turned and mirrored into one standard orientation.

The beams have no preferred azimuth, and the physics does not change under a reflection of the beam axis or of the
transverse plane, so that 1 + 1 + 1 of the coordinates of an event carry nothing. The frame removes them exactly:

- rotate about the beam so that the tau is at phi = 0,
- reflect the beam axis so that the tau has eta > 0,
- reflect the transverse plane so that the lepton has 0 <= phi <= pi.

An event that lies on a boundary (tau at eta = 0; lepton exactly along or opposite to the tau in phi) is oriented by
the next object that is off it: lepton, leading and subleading jet for the beam axis; missing momentum, leading and
subleading jet for the transverse plane. An event with no such object is its own mirror image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from higgsbench.features.kinematics import Momentum, wrap
from higgsbench.features.quantity import CHALLENGE, Quantity
from higgsbench.schema import UNITS

if TYPE_CHECKING:
    from higgsbench.schema import TableSchema

__all__ = ["JET1", "JET2", "LEP", "MET", "REPLACED", "TAU", "VISIBLE", "canonical_quantities", "raw_quantities"]

ALIGNED = 1e-6
"""|sin(delta phi)| below which two objects count as aligned. The file keeps 0.001 rad, of which no multiple but 0 comes
this close to a multiple of pi; rounding of a rotated angle stays far below it."""

_SOURCE = "symmetry of the collision; frame of this package"


def _eta(prefix: str) -> pl.Expr:
    return pl.col(f"{prefix}_eta")


def _from_tau(phi: str) -> pl.Expr:
    return pl.col(phi) - pl.col("PRI_tau_phi")


_JETS = ("PRI_jet_leading", "PRI_jet_subleading")


def _forward() -> pl.Expr:
    """+-1: the sign that makes the first pseudorapidity that is not 0 positive; +1 without one."""
    etas = [_eta(p) for p in ("PRI_tau", "PRI_lep", *_JETS)]
    return pl.coalesce(*(pl.when(eta != 0).then(eta.sign()) for eta in etas), pl.lit(1.0))


def _upward() -> pl.Expr:
    """+-1: the sign that brings the first object that is not aligned with the tau above it; +1 without one."""
    sines = [_from_tau(phi).sin() for phi in ("PRI_lep_phi", "PRI_met_phi", *(f"{p}_phi" for p in _JETS))]
    return pl.coalesce(*(pl.when(sine.abs() > ALIGNED).then(sine.sign()) for sine in sines), pl.lit(1.0))


def _turned(phi: str) -> pl.Expr:
    return wrap(_upward() * _from_tau(phi))


TAU = Momentum("tau", pl.col("PRI_tau_pt"), pl.lit(0.0), _eta("PRI_tau").abs())
LEP = Momentum("lep", pl.col("PRI_lep_pt"), wrap(_from_tau("PRI_lep_phi")).abs(), _forward() * _eta("PRI_lep"))
MET = Momentum("met", pl.col("PRI_met"), _turned("PRI_met_phi"))
JET1, JET2 = (
    Momentum(name, pl.col(f"{prefix}_pt"), _turned(f"{prefix}_phi"), _forward() * _eta(prefix))
    for name, prefix in zip(("jet1", "jet2"), _JETS, strict=True)
)
VISIBLE = (TAU, LEP, JET1, JET2)
"""The objects with a pseudorapidity, in the canonical frame."""

REPLACED = frozenset(
    {f"{p}_{c}" for p in ("PRI_tau", "PRI_lep", *_JETS) for c in ("eta", "phi")} | {"PRI_met_phi"},
)
"""Columns whose place the canonical coordinates take."""


def raw_quantities(schema: TableSchema) -> list[Quantity]:
    """All measured columns of a layout, as they stand in the file."""
    challenge = {name: CHALLENGE for name in UNITS}
    return [
        Quantity(name, pl.col(name), "column of the file", UNITS.get(name, ""), challenge.get(name, "the file"), "raw")
        for name in schema.features
    ]


def canonical_quantities(schema: TableSchema) -> list[Quantity]:
    """The columns of a layout with every direction in the canonical frame; the phi of the tau, always 0, is left out.

    Args:
        schema: the layout of the events.

    Returns:
        The columns that are invariant already, then pseudorapidities and azimuths in the frame.
    """
    etas = [
        Quantity(
            f"{m.name}_eta_can",
            m.pseudorapidity,
            "|eta_tau|" if m is TAU else f"eta_{m.name} * sign(eta_tau)",
            "",
            _SOURCE,
            "canonical frame",
        )
        for m in VISIBLE
    ]
    phis = [
        Quantity(
            f"{m.name}_phi_can",
            m.phi,
            "|wrap(phi_lep - phi_tau)|"
            if m is LEP
            else f"wrap((phi_{m.name} - phi_tau) * sign(wrap(phi_lep - phi_tau)))",
            "rad",
            _SOURCE,
            "canonical frame",
        )
        for m in (LEP, MET, JET1, JET2)
    ]
    return [q for q in raw_quantities(schema) if q.name not in REPLACED] + etas + phis
