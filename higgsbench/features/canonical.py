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
from higgsbench.features.quantity import Quantity
from higgsbench.features.raw import raw_quantities

if TYPE_CHECKING:
    from higgsbench.schema import TableSchema

__all__ = [
    "JET1",
    "JET2",
    "LEP",
    "MET",
    "REPLACED",
    "STEPS",
    "TAU",
    "VISIBLE",
    "canonical_quantities",
]

ALIGNED = 1e-6
"""|sin(delta phi)| below which two objects count as aligned. The file keeps 0.001 rad, of which no multiple but 0 comes
this close to a multiple of pi; rounding of a rotated angle stays far below it."""

_SOURCE = "symmetry of the collision; frame of this package"
_JETS = ("PRI_jet_leading", "PRI_jet_subleading")
_PREFIX = {"lep": "PRI_lep", "met": "PRI_met", "jet1": _JETS[0], "jet2": _JETS[1]}
_PT = {"lep": "PRI_lep_pt", "met": "PRI_met", "jet1": f"{_JETS[0]}_pt", "jet2": f"{_JETS[1]}_pt"}


def _leading_sign(values: list[pl.Expr], tolerance: float) -> pl.Expr:
    """+-1: the sign of the first of the values that exists and exceeds the tolerance in size; +1 without one."""
    return pl.coalesce(*(pl.when(v.abs() > tolerance).then(v.sign()) for v in values), pl.lit(1.0))


def _steps() -> tuple[dict[str, pl.Expr], ...]:
    from_tau = {m: pl.col(f"{p}_phi") - pl.col("PRI_tau_phi") for m, p in _PREFIX.items()}
    etas = [pl.col(f"{p}_eta") for p in ("PRI_tau", "PRI_lep", *_JETS)]
    signs = {
        "~forward": _leading_sign(etas, 0.0),
        "~upward": _leading_sign([difference.sin() for difference in from_tau.values()], ALIGNED),
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
"""What features are made of besides columns of the layout, by name and in the order of evaluation: each step uses
columns and earlier steps. They are computed once for all features; Polars' own search for common parts of expressions
misses most of these."""


def _in_frame(name: str) -> Momentum:
    eta = None if name == "met" else pl.col(f"~{name}_eta")
    return Momentum(name, pl.col(_PT[name]), pl.col(f"~{name}_phi"), pl.col(f"~{name}_px"), pl.col(f"~{name}_py"), eta)


_TAU_PT = pl.col("PRI_tau_pt")
TAU = Momentum("tau", _TAU_PT, pl.lit(0.0), _TAU_PT, pl.lit(0.0), pl.col("~tau_eta"))
LEP, MET, JET1, JET2 = (_in_frame(name) for name in _PREFIX)
VISIBLE = (TAU, LEP, JET1, JET2)
"""The objects with a pseudorapidity, in the canonical frame."""

REPLACED = frozenset(
    {f"{p}_{c}" for p in ("PRI_tau", "PRI_lep", *_JETS) for c in ("eta", "phi")} | {"PRI_met_phi"},
)
"""Columns whose place the canonical coordinates take."""


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
