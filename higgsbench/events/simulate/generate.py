"""Events of one process and jet number: decays repeated until the selection passes, then what the file stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from higgsbench.events.derived import derive
from higgsbench.events.mmc import mmc_lite
from higgsbench.events.simulate.constants import DETECTOR
from higgsbench.events.simulate.decays import DECAYS, Visible
from higgsbench.events.simulate.recoil import Recoil, draw_recoil

if TYPE_CHECKING:
    import numpy.typing as npt

    from higgsbench.events.simulate.models import ProcessModel

FloatArray: TypeAlias = "npt.NDArray[np.float64]"
BoolArray: TypeAlias = "npt.NDArray[np.bool_]"

__all__ = ["generate"]

_FEW = 512
"""When fewer events than this still wait for a decay that passes, each of them tries several decays at once."""

_PATIENCE = 12
"""Rounds after which jets and soft term are drawn again too: some recoils leave no decay that can pass."""


def _wrapped_distance(eta1: FloatArray, phi1: FloatArray, eta2: FloatArray, phi2: FloatArray) -> FloatArray:
    dphi = np.abs(phi1 - phi2)
    return np.hypot(eta1 - eta2, np.minimum(dphi, 2.0 * np.pi - dphi))


def _passes(rng: np.random.Generator, seen: Visible, recoil: Recoil, jet_num: int) -> BoolArray:
    """The selection: thresholds, acceptance and isolation, and the leptons lost in the gap of the calorimeter."""
    detector = DETECTOR
    abs_eta = np.abs(seen.lep_eta)
    in_crack = (abs_eta > detector.crack[0]) & (abs_eta < detector.crack[1])
    good = (seen.tau_pt >= detector.tau_pt_min) & (seen.lep_pt >= detector.lep_pt_min)
    good &= (np.abs(seen.tau_eta) <= detector.eta_max) & (abs_eta <= detector.eta_max)
    good &= ~(in_crack & (rng.random(len(abs_eta)) < detector.crack_loss))
    tau, lep = (seen.tau_eta, seen.tau_phi), (seen.lep_eta, seen.lep_phi)
    good &= _wrapped_distance(*tau, *lep) > detector.min_dr_tau_lep
    jets = ((recoil.eta1, recoil.phi1), (recoil.eta2, recoil.phi2))[:jet_num]
    for jet in jets:
        good &= _wrapped_distance(*tau, *jet) > detector.min_dr_tau_jet
        good &= _wrapped_distance(*lep, *jet) > detector.min_dr_lep_jet
    return good


def _select(rng: np.random.Generator, key: str, process: ProcessModel, jet_num: int, n: int) -> tuple[Recoil, Visible]:
    """Draw n recoils and, for each, decays until one passes."""
    recoil = draw_recoil(rng, process, jet_num, n)
    recoils = np.stack([getattr(recoil, name) for name in Recoil.__slots__])
    visible = np.empty((len(Visible.__slots__), n))
    pending, rounds = np.arange(n), 0
    while len(pending):
        rounds += 1
        if rounds % _PATIENCE == 0:
            fresh = draw_recoil(rng, process, jet_num, len(pending))
            recoils[:, pending] = [getattr(fresh, name) for name in Recoil.__slots__]
        tries = np.repeat(pending, max(1, _FEW // len(pending)))
        attempt = Recoil(*recoils[:, tries])
        seen = DECAYS[key](rng, process, attempt, jet_num)
        passed = np.flatnonzero(_passes(rng, seen, attempt, jet_num))
        # A pending event may have several good tries; the first one counts (unique returns first positions).
        done, first = np.unique(tries[passed], return_index=True)
        chosen = seen.take(passed[first])
        visible[:, done] = [getattr(chosen, name) for name in Visible.__slots__]
        pending = np.setdiff1d(pending, done, assume_unique=True)
    return Recoil(*recoils), Visible(*visible)


def _sumet(rng: np.random.Generator, process: ProcessModel, recoil: Recoil, seen: Visible, jet_num: int) -> FloatArray:
    model = process.sumet[jet_num]
    shape, scale, offset = model.gamma
    rest = rng.gamma(shape, scale, len(recoil.px)) + offset
    objects = model.slope_visible * (seen.tau_pt + seen.lep_pt) + model.slope_jets * recoil.all_pt
    total = objects + model.slope_soft * recoil.soft + rest
    # A file has no event below about 20 GeV; fold what the Gamma's offset takes below instead of piling it up there.
    return DETECTOR.sumet_min + np.abs(total - DETECTOR.sumet_min)


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
    """Generate selected events.

    Args:
        rng: source of random numbers.
        key: name of the process, a key of `decays.DECAYS`.
        process: constants of the process.
        jet_num: number of jets, 0 to 3, where 3 means at least 3.
        n: number of events.

    Returns:
        The 30 features by name, arrays of shape (n,), unrounded, GeV and rad, NaN where missing.
    """
    recoil, seen = _select(rng, key, process, jet_num, n)
    tau = np.stack([seen.tau_pt * np.cos(seen.tau_phi), seen.tau_pt * np.sin(seen.tau_phi)], axis=1)
    lep = np.stack([seen.lep_pt * np.cos(seen.lep_phi), seen.lep_pt * np.sin(seen.lep_phi)], axis=1)
    met = -(tau + lep + np.stack([recoil.px, recoil.py], axis=1))
    columns = {
        "PRI_tau_pt": seen.tau_pt,
        "PRI_tau_eta": seen.tau_eta,
        "PRI_tau_phi": seen.tau_phi,
        "PRI_lep_pt": seen.lep_pt,
        "PRI_lep_eta": seen.lep_eta,
        "PRI_lep_phi": seen.lep_phi,
        "PRI_met": np.hypot(met[:, 0], met[:, 1]),
        "PRI_met_phi": np.arctan2(met[:, 1], met[:, 0]),
        "PRI_met_sumet": _sumet(rng, process, recoil, seen, jet_num),
        "PRI_jet_num": np.full(n, float(jet_num)),
        "PRI_jet_leading_pt": recoil.pt1,
        "PRI_jet_leading_eta": recoil.eta1,
        "PRI_jet_leading_phi": recoil.phi1,
        "PRI_jet_subleading_pt": recoil.pt2,
        "PRI_jet_subleading_eta": recoil.eta2,
        "PRI_jet_subleading_phi": recoil.phi2,
        "PRI_jet_all_pt": recoil.all_pt,
    }
    columns |= derive(columns)
    columns["DER_mass_jet_jet"] = _massive_pair(rng, recoil, columns["DER_mass_jet_jet"])
    mass = mmc_lite(tau, lep, met, columns["PRI_met_sumet"], columns["DER_mass_vis"])
    columns["DER_mass_MMC"] = mass * DETECTOR.mmc_scale[jet_num]
    return columns
