"""Four-vectors, two-body decays and tau decays, vectorised over events (GeV, rad, c = 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

FloatArray: TypeAlias = "npt.NDArray[np.float64]"

__all__ = ["FourVector", "decay_to_massless", "from_transverse", "visible_fraction_leptonic"]


@dataclass(frozen=True, slots=True)
class FourVector:
    """Momenta and energies of n particles.

    Attributes:
        px: GeV, shape (n,); so are `py`, `pz` and `e`.
        py: see `px`.
        pz: see `px`.
        e: see `px`.
    """

    px: FloatArray
    py: FloatArray
    pz: FloatArray
    e: FloatArray

    @property
    def pt(self) -> FloatArray:
        """Transverse momentum, GeV."""
        return np.hypot(self.px, self.py)

    @property
    def phi(self) -> FloatArray:
        """Azimuth in (-pi, pi], rad."""
        return np.arctan2(self.py, self.px)

    @property
    def eta(self) -> FloatArray:
        """Pseudorapidity."""
        return np.arcsinh(self.pz / np.maximum(self.pt, 1e-9))

    @property
    def mass(self) -> FloatArray:
        """Invariant mass, GeV (0 where rounding makes its square negative)."""
        squared = self.e**2 - self.px**2 - self.py**2 - self.pz**2
        return np.sqrt(np.maximum(squared, 0.0))

    def scaled(self, factor: FloatArray) -> FourVector:
        """The same directions with momentum and energy times `factor`, shape (n,)."""
        return FourVector(self.px * factor, self.py * factor, self.pz * factor, self.e * factor)


def from_transverse(px: FloatArray, py: FloatArray, rapidity: FloatArray, mass: FloatArray) -> FourVector:
    """Build four-vectors from transverse momentum, rapidity and mass, each of shape (n,)."""
    transverse_mass = np.sqrt(px**2 + py**2 + mass**2)
    return FourVector(px, py, transverse_mass * np.sinh(rapidity), transverse_mass * np.cosh(rapidity))


def decay_to_massless(parent: FourVector, cos_theta: FloatArray, phi: FloatArray) -> tuple[FourVector, FourVector]:
    """Decay each parent into two massless particles.

    Args:
        parent: n massive particles.
        cos_theta: cosine of the polar angle of the first daughter in the rest frame, about the beam axis, shape (n,).
        phi: its azimuth, shape (n,).

    Returns:
        First and second daughter in the laboratory frame.
    """
    mass = parent.mass
    half = mass / 2
    sin_theta = np.sqrt(np.maximum(1.0 - cos_theta**2, 0.0))
    qx, qy, qz = half * sin_theta * np.cos(phi), half * sin_theta * np.sin(phi), half * cos_theta
    # Lorentz boost by beta = p/E: p' = q + p (q.p / (m (E + m)) + e*/m).
    along = (qx * parent.px + qy * parent.py + qz * parent.pz) / mass
    factor = along / (parent.e + mass) + half / mass
    first = FourVector(
        qx + parent.px * factor,
        qy + parent.py * factor,
        qz + parent.pz * factor,
        half * parent.e / mass + along,
    )
    second = FourVector(parent.px - first.px, parent.py - first.py, parent.pz - first.pz, parent.e - first.e)
    return first, second


_X = np.linspace(0.0, 1.0, 2001)
_CUMULATIVE = (5.0 * _X - 3.0 * _X**3 + _X**4) / 3.0


def visible_fraction_leptonic(uniform: FloatArray) -> FloatArray:
    """Momentum fraction x of the lepton in tau -> l nu nu, from uniform numbers in [0, 1), shape (n,).

    The density is (1 - x)(5 + 5x - 4x^2)/3: an unpolarised tau much faster than its mass.
    """
    return np.interp(uniform, _CUMULATIVE, _X)
