"""Events of one process and jet number: decays repeated until the selection passes, then the features of the file."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import betaincinv, ndtr

from higgsbench.events.derived import delta_r, derive, transverse, wrap
from higgsbench.events.ditau import Hidden, ditau_mass
from higgsbench.events.simulate.particles import (
    FourVector,
    Recoil,
    azimuth,
    decay_to_massless,
    draw_recoil,
    from_transverse,
    sign,
    visible_fraction_leptonic,
)
from higgsbench.events.simulate.processes import DETECTOR
from higgsbench.schema import PRIMARY

if TYPE_CHECKING:
    from collections.abc import Callable

    from higgsbench.events.derived import BoolArray, FloatArray
    from higgsbench.events.simulate.processes import FakeTau, ParentModel, ProcessModel


class Visible(NamedTuple):
    """The reconstructed hadronic tau and the lepton of n events, arrays of shape (n,), GeV and rad."""

    tau_pt: FloatArray
    tau_eta: FloatArray
    tau_phi: FloatArray
    lep_pt: FloatArray
    lep_eta: FloatArray
    lep_phi: FloatArray


@lru_cache(maxsize=32)
def _beta_quantiles(a: float, b: float) -> FloatArray:
    return np.asarray(betaincinv(a, b, np.linspace(0.0, 1.0, 513)), dtype=np.float64)


def _hadronic_fraction(process: ProcessModel, uniform: FloatArray) -> FloatArray:
    least, a, b = process.hadronic_x
    table = _beta_quantiles(a, b)
    return least + (1.0 - least) * np.interp(uniform, np.linspace(0.0, 1.0, len(table)), table)


def _parent_mass(rng: np.random.Generator, model: ParentModel, n: int) -> FloatArray:
    """Breit-Wigner mass within 15 widths, or an exponential tail above it."""
    edge = np.arctan(30.0) / np.pi
    mass = model.mass + model.width / 2 * np.tan(np.pi * rng.uniform(-edge, edge, n))
    tail = model.tail[0] + rng.exponential(model.tail[1], n)
    return np.asarray(np.where(rng.random(n) < model.tail_share, tail, mass), dtype=np.float64)


def _noise(rng: np.random.Generator, model: ParentModel, recoil: Recoil, jet_num: int) -> tuple[FloatArray, FloatArray]:
    n = len(recoil.px)
    width = np.sqrt(model.noise**2 + model.noise_stochastic**2 * (recoil.all_pt + recoil.soft))
    width = np.where(rng.random(n) < model.noise_tail, 2.0 * width, width)
    x, y = rng.normal(size=(2, n))
    lost = 1.0 - model.response[jet_num]
    return width * x + lost * recoil.px, width * y + lost * recoil.py


def _rapidity(rng: np.random.Generator, model: ParentModel, recoil: Recoil, jet_num: int) -> FloatArray:
    towards = model.rapidity_slope[jet_num] * recoil.eta1 if jet_num else 0.0
    return towards + model.rapidity[jet_num] * rng.normal(size=len(recoil.px))


def _cos_theta(rng: np.random.Generator, quadratic: float, n: int) -> FloatArray:
    """Density 1 + a cos^2 on [-1, 1], by choosing between the flat part and the quadratic part."""
    flat, cubed = rng.uniform(-1.0, 1.0, (2, n))
    cosine: FloatArray = np.where(rng.random(n) < quadratic / (3.0 + quadratic), np.cbrt(cubed), flat)
    return cosine


def _decay(rng: np.random.Generator, parent: FourVector, cos_theta: FloatArray) -> tuple[FourVector, FourVector]:
    return decay_to_massless(parent, cos_theta, azimuth(rng, len(cos_theta)))


def _seen(rng: np.random.Generator, tau: FourVector, lep: FourVector) -> Visible:
    """Smear the momenta only, because the resolution of the directions does not matter here."""
    first, second = rng.normal(size=(2, len(tau.px)))
    tau_pt = tau.pt * np.maximum(1.0 + DETECTOR.tau_resolution * first, 0.05)
    lep_pt = lep.pt * np.maximum(1.0 + DETECTOR.lepton_resolution * second, 0.05)
    return Visible(tau_pt, tau.eta, tau.phi, lep_pt, lep.eta, lep.phi)


def _decay_ditau(rng: np.random.Generator, process: ProcessModel, recoil: Recoil, jet_num: int) -> Visible:
    """H or Z -> tau tau -> hadrons + lepton; in VH, the other boson may be lost or give the lepton."""
    model, n = process.parent, len(recoil.px)
    noise_x, noise_y = _noise(rng, model, recoil, jet_num)
    mass = _parent_mass(rng, model, n)
    lost_px, lost_py = np.zeros(n), np.zeros(n)
    invisible = process.invisible[jet_num]
    if invisible:
        size = np.where(rng.random(n) < invisible, rng.gamma(2.0, process.companion / 2, n), 0.0)
        lost_px, lost_py = transverse(size, azimuth(rng, n)).T
    parent = from_transverse(
        noise_x - recoil.px - lost_px, noise_y - recoil.py - lost_py, _rapidity(rng, model, recoil, jet_num), mass
    )
    tau_had, tau_lep = _decay(rng, parent, _cos_theta(rng, model.polarisation, n))
    # The visible fractions of the two taus are correlated through a Gaussian copula.
    first, second = rng.normal(size=(2, n))
    mixed = process.correlation * first + np.sqrt(1.0 - process.correlation**2) * second
    lepton = tau_lep.scaled(visible_fraction_leptonic(ndtr(mixed)))
    if invisible:
        boson = from_transverse(lost_px, lost_py, rng.normal(size=n), np.full(n, DETECTOR.w_mass))
        from_boson, _ = _decay(rng, boson, _cos_theta(rng, 0.0, n))
        swap = (size > 0.0) & (rng.random(n) < process.lepton_swap)
        lepton = FourVector(*(np.where(swap, new, old) for new, old in zip(from_boson, lepton, strict=True)))
    return _seen(rng, tau_had.scaled(_hadronic_fraction(process, ndtr(first))), lepton)


def _fake_tau(
    rng: np.random.Generator, fake: FakeTau, recoil: Recoil, jet_num: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw pt, eta and phi of a jet that passes as a tau."""
    n = len(recoil.px)
    shape, scale = fake.pt[jet_num]
    pt = DETECTOR.tau_pt_min + scale * rng.weibull(shape, n)
    same = rng.random(n) < (1.0 + fake.same_side[jet_num]) / 2
    side = np.where(same, 1.0, -1.0) * np.where(np.isnan(recoil.eta1), sign(rng, n), np.sign(recoil.eta1))
    eta = DETECTOR.eta_max * rng.beta(*fake.eta, n) * side
    opposite = np.where(np.isnan(recoil.phi1), 0.0, recoil.phi1 + np.pi)
    return pt, eta, wrap(opposite + rng.vonmises(0.0, fake.away[jet_num], n))


def _decay_w_with_fake_tau(rng: np.random.Generator, process: ProcessModel, recoil: Recoil, jet_num: int) -> Visible:
    """W -> l nu (or tau nu -> l nu nu nu) recoiling against jets, one of which passes as a hadronic tau."""
    model, fake, n = process.parent, process.fake, len(recoil.px)
    assert fake is not None  # noqa: S101  # a constant of the process, not an input
    pt, eta, phi = _fake_tau(rng, fake, recoil, jet_num)
    noise_x, noise_y = _noise(rng, model, recoil, jet_num)
    jet_pt = fake.response * pt
    rapidity = _rapidity(rng, model, recoil, jet_num) + fake.rapidity_slope[jet_num] * eta
    boson = from_transverse(
        noise_x - recoil.px - jet_pt * np.cos(phi),
        noise_y - recoil.py - jet_pt * np.sin(phi),
        rapidity,
        _parent_mass(rng, model, n),
    )
    # V - A: the lepton's direction has the density 1 + a sign(y) cos, because the quark more often moves to the boson's
    # side. To draw from this density, flip a uniform cosine with the right probability.
    slope, cosine = model.polarisation * np.tanh(2.0 * rapidity), rng.uniform(-1.0, 1.0, n)
    kept = rng.random(n) < (1.0 + slope * cosine) / 2
    lepton, _ = _decay(rng, boson, np.where(kept, cosine, -cosine))
    x = np.where(rng.random(n) < fake.lepton_from_tau, visible_fraction_leptonic(rng.random(n)), 1.0)
    lep = lepton.scaled(x)
    smear = 1.0 + DETECTOR.lepton_resolution * rng.normal(size=n)
    return Visible(pt, eta, phi, lep.pt * smear, lep.eta, lep.phi)


def _decay_top_pair(rng: np.random.Generator, process: ProcessModel, recoil: Recoil, jet_num: int) -> Visible:
    """Two W of a top pair: one gives the lepton, the other a hadronic tau, or a jet passes as one."""
    model, fake, n = process.parent, process.fake, len(recoil.px)
    assert fake is not None  # noqa: S101  # a constant of the process, not an input
    noise_x, noise_y = _noise(rng, model, recoil, jet_num)
    size = rng.gamma(2.0, process.companion / 2, n)
    split_x, split_y = transverse(size, azimuth(rng, n)).T
    total_x, total_y = noise_x - recoil.px, noise_y - recoil.py
    bosons = [
        from_transverse(
            total_x / 2 + side * split_x,
            total_y / 2 + side * split_y,
            _rapidity(rng, model, recoil, jet_num),
            _parent_mass(rng, model, n),
        )
        for side in (1.0, -1.0)
    ]
    lepton, _ = _decay(rng, bosons[0], _cos_theta(rng, 0.0, n))
    tau, _ = _decay(rng, bosons[1], _cos_theta(rng, 0.0, n))
    seen = _seen(rng, tau.scaled(_hadronic_fraction(process, rng.random(n))), lepton)
    pt, eta, phi = _fake_tau(rng, fake, recoil, jet_num)
    faked = rng.random(n) < process.fake_share
    return seen._replace(
        tau_pt=np.where(faked, pt, seen.tau_pt),
        tau_eta=np.where(faked, eta, seen.tau_eta),
        tau_phi=np.where(faked, phi, seen.tau_phi),
    )


DECAYS: dict[str, Callable[[np.random.Generator, ProcessModel, Recoil, int], Visible]] = {
    **dict.fromkeys(("ggF", "VBF", "VH", "Z"), _decay_ditau),
    "ttbar": _decay_top_pair,
    "W": _decay_w_with_fake_tau,
}
"""How each process decays: functions that turn its constants, the recoil of n events and the number of jets (0 to 3)
into the visible particles before any selection."""

_FEW = 512  # if fewer events than this still lack a decay that passes, several are tried at once for each of them
_PATIENCE = 12  # rounds after which jets and soft term are drawn again too, as with some recoils no decay can pass


def _passes(rng: np.random.Generator, process: ProcessModel, seen: Visible, recoil: Recoil, jet_num: int) -> BoolArray:
    """The selection: thresholds, acceptance and isolation, and the leptons lost in the gaps of the detector."""
    detector = DETECTOR
    abs_eta = np.abs(seen.lep_eta)
    good = (seen.tau_pt >= detector.tau_pt_min) & (seen.lep_pt >= detector.lep_pt_min)
    good &= (np.abs(seen.tau_eta) <= detector.eta_max) & (abs_eta <= detector.eta_max)
    for eta, gaps in ((abs_eta, detector.gaps), (np.abs(seen.tau_eta), detector.fake_gaps if process.fake else ())):
        for low, high, loss in gaps:
            good &= (eta < low) | (eta > high) | (rng.random(len(eta)) > loss)
    tau, lep = (seen.tau_eta, seen.tau_phi), (seen.lep_eta, seen.lep_phi)
    good &= delta_r(*tau, *lep) > detector.min_dr_tau_lep
    jets = ((recoil.eta1, recoil.phi1), (recoil.eta2, recoil.phi2))[:jet_num]
    for jet in jets:
        good &= delta_r(*tau, *jet) > detector.min_dr_tau_jet
        good &= delta_r(*lep, *jet) > detector.min_dr_lep_jet
    return good


def _select(rng: np.random.Generator, key: str, process: ProcessModel, jet_num: int, n: int) -> tuple[Recoil, Visible]:
    """Draw n recoils and, for each, decays until one passes."""
    recoils = np.stack(draw_recoil(rng, process, jet_num, n))
    visible = np.empty((len(Visible._fields), n))
    pending, rounds = np.arange(n), 0
    while len(pending):
        rounds += 1
        if rounds % _PATIENCE == 0:
            recoils[:, pending] = draw_recoil(rng, process, jet_num, len(pending))
        each = max(1, _FEW // len(pending))
        attempt = Recoil(*recoils[:, np.repeat(pending, each)])
        seen = DECAYS[key](rng, process, attempt, jet_num)
        passed = np.flatnonzero(_passes(rng, process, seen, attempt, jet_num))
        # A pending event may have several good tries; the first one counts (unique returns first positions).
        done, first = np.unique(passed // each, return_index=True)
        visible[:, pending[done]] = np.stack(seen)[:, passed[first]]
        pending = np.delete(pending, done)
    return Recoil(*recoils), Visible(*visible)


def _massive_pair(rng: np.random.Generator, recoil: Recoil, massless: FloatArray) -> FloatArray:
    """Mass of the jet pair when each jet has a mass proportional to its momentum, GeV."""
    n = len(massless)
    median, width, largest = DETECTOR.jet_mass
    ratio = np.minimum(median * np.exp(width * rng.normal(size=(2, n))), largest)
    pt, eta = np.stack([recoil.pt1, recoil.pt2]), np.stack([recoil.eta1, recoil.eta2])
    momentum, mass = pt * np.cosh(eta), ratio * pt
    gained = np.sqrt(momentum**2 + mass**2) - momentum  # energy by which a massive jet exceeds a massless one
    cross = gained[0] * momentum[1] + gained[1] * momentum[0] + gained[0] * gained[1]
    together: FloatArray = np.sqrt(massless**2 + mass[0] ** 2 + mass[1] ** 2 + 2.0 * cross)
    return np.minimum(together, DETECTOR.jet_mass_ratio * massless)


def generate(rng: np.random.Generator, key: str, process: ProcessModel, jet_num: int, n: int) -> dict[str, FloatArray]:
    """Generate n selected events of one process and jet number (3 means at least 3).

    The result holds the 30 features by name, shape (n,), unrounded, GeV and rad, NaN where missing.
    """
    recoil, seen = _select(rng, key, process, jet_num, n)
    tau, lep = transverse(seen.tau_pt, seen.tau_phi), transverse(seen.lep_pt, seen.lep_phi)
    met = -(tau + lep + np.stack([recoil.px, recoil.py], axis=1))
    share, as_electron, as_muon = DETECTOR.electron
    offset, width = DETECTOR.mmc_edge
    electron = rng.random(n) < share
    seen_lep = seen.lep_pt * np.where(electron, as_electron, as_muon)
    total = seen.tau_pt + seen_lep + recoil.all_pt + recoil.rest
    # The file has no events below about 20 GeV: reflect what the Gamma's offset moves below instead of clipping it.
    sumet = DETECTOR.sumet_min + np.abs(total - DETECTOR.sumet_min)
    of_met = (np.hypot(met[:, 0], met[:, 1]), np.arctan2(met[:, 1], met[:, 0]), sumet)
    columns = dict(zip(PRIMARY, (*seen, *of_met, np.full(n, float(jet_num)), *recoil[:7]), strict=True))
    columns |= derive(columns)
    columns["DER_mass_jet_jet"] = _massive_pair(rng, recoil, columns["DER_mass_jet_jet"])
    three_prong = rng.random(n) < DETECTOR.three_prong[process.fake is not None]
    hidden = Hidden(electron, three_prong, offset + width * rng.logistic(size=n))
    columns["DER_mass_MMC"] = ditau_mass(columns, hidden) * np.exp(DETECTOR.mmc_noise * rng.laplace(size=n))
    return columns
