"""Builders of kinematic quantities as Polars expressions, on massless objects.

Transverse momenta, energies and masses in GeV, angles in rad. Every function is elementwise and passes null through: a
quantity of an object that does not exist is null. Formulas: Particle Data Group, Review of Particle Physics, chapter
"Kinematics" (Phys. Rev. D 110 (2024) 030001).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

__all__ = [
    "Momentum",
    "abs_delta_eta",
    "abs_delta_phi",
    "delta_r",
    "hypot",
    "invariant_mass",
    "opening_angle",
    "present",
    "signed_log1p",
    "transverse_mass_squared",
    "wrap",
]


@dataclass(frozen=True)
class Momentum:
    """A massless object; the missing transverse momentum has no `eta`.

    Attributes:
        name: short name, as in names of features.
        pt: transverse momentum in GeV.
        phi: azimuth in rad.
        eta: pseudorapidity, None for a purely transverse object.
    """

    name: str
    pt: pl.Expr
    phi: pl.Expr
    eta: pl.Expr | None = None

    @property
    def px(self) -> pl.Expr:
        """pt cos(phi) in GeV."""
        return self.pt * self.phi.cos()

    @property
    def py(self) -> pl.Expr:
        """pt sin(phi) in GeV."""
        return self.pt * self.phi.sin()

    @property
    def pz(self) -> pl.Expr:
        """pt sinh(eta) in GeV."""
        return self.pt * self.pseudorapidity.sinh()

    @property
    def pseudorapidity(self) -> pl.Expr:
        """`eta` of an object that has one."""
        if self.eta is None:
            raise TypeError(f"{self.name} is transverse and has no pseudorapidity")
        return self.eta


def wrap(phi: pl.Expr) -> pl.Expr:
    """Bring an angle to [-pi, pi)."""
    return phi - 2 * math.pi * ((phi + math.pi) / (2 * math.pi)).floor()


def hypot(x: pl.Expr, y: pl.Expr) -> pl.Expr:
    """sqrt(x^2 + y^2)."""
    return (x * x + y * y).sqrt()


def abs_delta_phi(a: Momentum, b: Momentum) -> pl.Expr:
    """|wrap(phi_a - phi_b)| in rad, 0 to pi."""
    return wrap(a.phi - b.phi).abs()


def abs_delta_eta(a: Momentum, b: Momentum) -> pl.Expr:
    """|eta_a - eta_b|."""
    return (a.pseudorapidity - b.pseudorapidity).abs()


def delta_r(a: Momentum, b: Momentum) -> pl.Expr:
    """sqrt(delta eta^2 + delta phi^2)."""
    return hypot(abs_delta_eta(a, b), abs_delta_phi(a, b))


def opening_angle(ax: pl.Expr, ay: pl.Expr, bx: pl.Expr, by: pl.Expr) -> pl.Expr:
    """Angle in rad, 0 to pi, between two transverse vectors; no wrapping and no cancellation at its ends."""
    return pl.arctan2((ax * by - ay * bx).abs(), ax * bx + ay * by)


def _half_angle_squared(a: Momentum, b: Momentum) -> pl.Expr:
    sine = ((a.phi - b.phi) / 2).sin()
    return sine * sine


def transverse_mass_squared(a: Momentum, b: Momentum) -> pl.Expr:
    """2 pt_a pt_b (1 - cos(phi_a - phi_b)) in GeV^2, written as 4 pt_a pt_b sin^2 so that nothing cancels."""
    return 4 * a.pt * b.pt * _half_angle_squared(a, b)


def invariant_mass(a: Momentum, b: Momentum) -> pl.Expr:
    """sqrt(2 pt_a pt_b (cosh(eta_a - eta_b) - cos(phi_a - phi_b))) in GeV, written so that nothing cancels."""
    opening = ((a.pseudorapidity - b.pseudorapidity) / 2).sinh()
    return 2 * (a.pt * b.pt * (opening * opening + _half_angle_squared(a, b))).sqrt()


def signed_log1p(x: pl.Expr) -> pl.Expr:
    """sign(x) ln(1 + |x|): a logarithm that keeps the sign and is linear around 0."""
    return x.sign() * x.abs().log1p()


def present(x: pl.Expr) -> pl.Expr:
    """Infinite and NaN results of a quotient become null: the quantity does not exist there."""
    return pl.when(x.is_finite()).then(x)
