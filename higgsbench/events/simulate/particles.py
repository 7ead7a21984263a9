"""Four-vectors and two-body decays, and what the decaying particles recoil against: jets and the soft term."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from higgsbench.events.derived import transverse, wrap
from higgsbench.events.simulate.processes import DETECTOR

if TYPE_CHECKING:
    from higgsbench.events.derived import FloatArray
    from higgsbench.events.simulate.processes import JetModel, ProcessModel


class FourVector(NamedTuple):
    """Momenta and energies of n particles, arrays of shape (n,), GeV."""

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
    """Decay each parent into two massless particles; return the daughters in the laboratory frame.

    The angles, of shape (n,), are those of the first daughter in the rest frame, about the beam axis.
    """
    mass = parent.mass
    half = mass / 2
    sin_theta = np.sqrt(np.maximum(1.0 - cos_theta**2, 0.0))
    qx, qy, qz = half * sin_theta * np.cos(phi), half * sin_theta * np.sin(phi), half * cos_theta
    # Lorentz boost by beta = p/E: p' = q + p (q.p / (m (E + m)) + e*/m).
    along = (qx * parent.px + qy * parent.py + qz * parent.pz) / mass
    factor = along / (parent.e + mass) + half / mass
    first = FourVector(
        qx + parent.px * factor, qy + parent.py * factor, qz + parent.pz * factor, half * parent.e / mass + along
    )
    second = FourVector(parent.px - first.px, parent.py - first.py, parent.pz - first.pz, parent.e - first.e)
    return first, second


_X = np.linspace(0.0, 1.0, 2001)
_CUMULATIVE = (5.0 * _X - 3.0 * _X**3 + _X**4) / 3.0


def visible_fraction_leptonic(uniform: FloatArray) -> FloatArray:
    """Momentum fraction x of the lepton in tau -> l nu nu, from uniform numbers in [0, 1), shape (n,).

    The density is (1 - x)(5 + 5x - 4x^2)/3, for an unpolarised tau with much more energy than mass.
    """
    return np.interp(uniform, _CUMULATIVE, _X)


_JET_PT_MIN = 30.0
_JET_ETA_MAX = 4.5
_PT_SHIFT = 25.0  # ln(pt - 25 GeV) is close to normal above the threshold of 30 GeV
_MIN_SEPARATION = 0.4  # two jets closer than this are one jet


class Recoil(NamedTuple):
    """Jets and soft term of n events, arrays of shape (n,), GeV and rad, NaN for jets that do not exist.

    `all_pt` and `rest` are scalar sums over jets and everything softer, (`px`, `py`) the vector sum of jets and `soft`.
    """

    pt1: FloatArray
    eta1: FloatArray
    phi1: FloatArray
    pt2: FloatArray
    eta2: FloatArray
    phi2: FloatArray
    all_pt: FloatArray
    rest: FloatArray
    soft: FloatArray
    px: FloatArray
    py: FloatArray


def azimuth(rng: np.random.Generator, n: int) -> FloatArray:
    """Draw n directions in rad."""
    return rng.uniform(-np.pi, np.pi, n)


def sign(rng: np.random.Generator, n: int) -> FloatArray:
    """Draw n signs, -1 or 1."""
    return np.where(rng.random(n) < 0.5, -1.0, 1.0)


def _above_threshold(rng: np.random.Generator, log_pt: tuple[float, float], n: int) -> FloatArray:
    """Shifted log-normal cut at 30 GeV, by folding the normal quantile function onto what is above the cut."""
    mean, width = log_pt
    below = ndtr((np.log(_JET_PT_MIN - _PT_SHIFT) - mean) / width)
    quantile = below + (1.0 - below) * rng.random(n)
    pt: FloatArray = _PT_SHIFT + np.exp(mean + width * np.minimum(ndtri(quantile), 4.0))
    return pt


def _second_jet(
    rng: np.random.Generator, model: JetModel, pt1: FloatArray, eta1: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Draw pt2, eta1, eta2 and signed dphi; tagging pairs replace eta1 too."""
    n = len(pt1)
    pt2 = _JET_PT_MIN + (pt1 - _JET_PT_MIN) * rng.beta(*model.ratio, n)
    eta2 = model.eta_slope * eta1 + model.eta_width * rng.normal(size=n)
    side = sign(rng, n)
    gap = np.abs(rng.normal(*model.tag_gap, n)) * side / 2
    centre = model.tag_centre * rng.normal(size=n) - model.tag_lean * side
    tagged = rng.random(n) < model.tag_share
    eta1 = np.where(tagged, centre + gap, eta1)
    eta2 = np.where(tagged, centre - gap, eta2)
    dphi = np.pi * rng.beta(*model.dphi, n)
    share, mass, width = model.resonance
    if share:
        resonant = rng.normal(mass, width, n) ** 2 / (2.0 * pt1 * pt2)
        cosine = np.cosh(eta1 - eta2) - resonant  # m^2 = 2 pt1 pt2 (cosh deta - cos dphi)
        solved = (np.abs(cosine) < 1.0) & (rng.random(n) < share)
        dphi = np.where(solved, np.arccos(np.clip(cosine, -1.0, 1.0)), dphi)
    return pt2, eta1, eta2, dphi * sign(rng, n)


def _pair(rng: np.random.Generator, model: JetModel, n: int, second: bool) -> FloatArray:
    """Draw pt1, eta1, pt2, eta2, dphi, shape (5, n), until the pair lies inside the detector and is resolved."""
    result = np.full((5, n), np.nan)
    pending = np.arange(n)
    while len(pending):
        k = len(pending)
        pt1 = _above_threshold(rng, model.log_pt, k)
        eta1 = _JET_ETA_MAX * rng.beta(*model.eta, k) * sign(rng, k)
        drawn = np.full((5, k), np.nan)
        good = np.ones(k, dtype=np.bool_)
        if second:
            pt2, eta1, eta2, dphi = _second_jet(rng, model, pt1, eta1)
            inside = (np.abs(eta1) < _JET_ETA_MAX) & (np.abs(eta2) < _JET_ETA_MAX)
            good = inside & (np.hypot(eta1 - eta2, dphi) > _MIN_SEPARATION)
            drawn[2:] = pt2, eta2, dphi
        drawn[:2] = pt1, eta1
        result[:, pending[good]] = drawn[:, good]
        pending = pending[~good]
    return result


def draw_recoil(rng: np.random.Generator, process: ProcessModel, jet_num: int, n: int) -> Recoil:
    """Draw jets and soft term of n events with a number of jets, where 3 means at least 3.

    The energy outside jets, `rest`, grows with the soft term, which comes mostly from the resolution of this energy.
    """
    pt1 = eta1 = phi1 = pt2 = eta2 = phi2 = np.full(n, np.nan)
    model = process.soft[jet_num]
    kind, (per_root, of_bump, of_tail, per_tail), (offset, scale) = rng.random(n), DETECTOR.rest, DETECTOR.rest_gamma
    core, bump, tail = rng.gamma(*model.core, n), np.abs(rng.normal(*model.bump, n)), rng.gamma(*model.tail, n)
    of_kind = [kind > 1.0 - model.tail_share, kind < model.bump_share]
    soft = np.select(of_kind, [tail, bump], core)
    mean = np.select(of_kind, [of_tail + per_tail * tail, np.full(n, of_bump)], per_root * np.sqrt(core))
    rest = scale * rng.standard_gamma((mean + offset) / scale) - offset
    total, all_pt = transverse(soft, azimuth(rng, n)), np.zeros(n)
    if jet_num > 0:
        jets = process.jets[jet_num - 1]
        pt1, eta1, pt2, eta2, dphi = _pair(rng, jets, n, second=jet_num > 1)
        phi1 = azimuth(rng, n)
        total, all_pt = total + transverse(pt1, phi1), pt1
        if jet_num > 1:
            phi2 = wrap(phi1 + dphi)
            total, all_pt = total + transverse(pt2, phi2), all_pt + pt2
        if jet_num > 2:
            other = _above_threshold(rng, jets.log_other, n)
            # Further jets are softer than the second one; what exceeds it is several jets in different directions.
            total, all_pt = total + transverse(np.minimum(other, pt2), azimuth(rng, n)), all_pt + other
    return Recoil(pt1, eta1, phi1, pt2, eta2, phi2, all_pt, rest, soft, *total.T)
