"""What the toy simulation draws from."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from higgsbench.errors import ConfigError
from higgsbench.events.shifts import Shifts
from higgsbench.schema import SIMULATED_FROM

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_SETS",
    "DETECTOR",
    "PROCESSES",
    "SAMPLES",
    "SIGNAL_FRACTION",
    "SIMULATION_VERSION",
    "Detector",
    "FakeTau",
    "JetModel",
    "ParentModel",
    "ProcessModel",
    "Sample",
    "SimulationSettings",
    "SoftModel",
    "SumEtModel",
]


@dataclass(frozen=True)
class Sample:
    """Events that were generated together and share one weight.

    Attributes:
        process: key of the process they belong to.
        share: fraction of the events of their class in the official file (unweighted).
        weight: weight of an event relative to the other samples of its class. W + jets has one per jet number.
        jets: fraction of the sample's events with 0, 1, 2 and at least 3 jets (unweighted).
        spread: standard deviation of ln(weight) by jet number; 0 means every event weighs the same.
    """

    process: str
    share: float
    weight: tuple[float, float, float, float]
    jets: tuple[float, float, float, float]
    spread: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class JetModel:
    """The jets of events with a given number of them.

    Attributes:
        log_pt: mean and standard deviation of ln(pt_1 - 25 GeV), cut at pt_1 >= 30 GeV.
        eta: Beta parameters of abs(eta_1) / 4.5.
        ratio: Beta parameters of (pt_2 - 30) / (pt_1 - 30).
        eta_slope: mean of eta_2 is this times eta_1 ...
        eta_width: ... and its Gaussian width is this; cut at abs(eta_2) <= 4.5.
        dphi: Beta parameters of abs(dphi_12) / pi.
        tag_share: fraction of events with two tagging jets, as vector boson fusion has.
        tag_gap: mean and width of abs(deta_12) in those.
        tag_centre: Gaussian width of (eta_1 + eta_2)/2 in those.
        resonance: fraction of events whose two jets come from a boson (VH), mean and width of its mass, GeV.
        log_other: mean and standard deviation of ln(pt sum of further jets - 25 GeV), cut at 30 GeV.
    """

    log_pt: tuple[float, float]
    eta: tuple[float, float]
    ratio: tuple[float, float] = (1.0, 1.0)
    eta_slope: float = 0.0
    eta_width: float = 1.0
    dphi: tuple[float, float] = (1.0, 1.0)
    tag_share: float = 0.0
    tag_gap: tuple[float, float] = (4.2, 1.5)
    tag_centre: float = 0.8
    resonance: tuple[float, float, float] = (0.0, 84.0, 9.0)
    log_other: tuple[float, float] = (3.0, 1.0)


@dataclass(frozen=True)
class SoftModel:
    """Size of the transverse momentum that no reconstructed object carries, a mixture of three parts.

    Attributes:
        core: Gamma shape and scale (GeV) of soft tracks and energy clusters.
        bump_share: fraction with one jet just below the jet threshold ...
        bump: ... Gaussian mean and width of its pt, GeV.
        tail_share: fraction with something larger lost ...
        tail: ... least size and mean excess (exponential), GeV.
    """

    core: tuple[float, float]
    bump_share: float
    bump: tuple[float, float]
    tail_share: float
    tail: tuple[float, float]


@dataclass(frozen=True)
class SumEtModel:
    """Scalar sum of transverse energy: slope_visible (tau + lep) + slope_jets jets + slope_soft soft + Gamma.

    Attributes:
        slope_visible: weight of the transverse momenta of tau and lepton.
        slope_jets: weight of PRI_jet_all_pt.
        slope_soft: weight of the size of the soft term.
        gamma: shape, scale (GeV) and offset (GeV) of the rest.
    """

    slope_visible: float
    slope_jets: float
    slope_soft: float
    gamma: tuple[float, float, float]


@dataclass(frozen=True)
class ParentModel:
    """The boson (H, Z or W) that decays, or the two W of a top pair.

    Attributes:
        mass: pole mass, GeV.
        width: Breit-Wigner width, GeV.
        tail_share: fraction of heavier parents (Drell-Yan continuum and look-alikes) ...
        tail: ... least mass and mean excess (exponential), GeV.
        noise: Gaussian width per axis, GeV, between the true transverse momentum and the measured recoil ...
        noise_stochastic: ... grows in quadrature by this times sqrt(PRI_jet_all_pt) ...
        noise_tail: ... and this fraction of the events has twice the width.
        rapidity: Gaussian width of the rapidity ...
        rapidity_slope: ... about this times eta of the leading jet (0 without jets).
        polarisation: coefficient of cos^2 of the decay angle about the beam (Z), or 2 cos of the V - A decay (W).
    """

    mass: float
    width: float = 0.0
    tail_share: float = 0.0
    tail: tuple[float, float] = (100.0, 80.0)
    noise: float = 15.0
    noise_stochastic: float = 0.5
    noise_tail: float = 0.0
    rapidity: tuple[float, float, float, float] = (1.2, 1.1, 1.1, 1.0)
    rapidity_slope: tuple[float, float, float, float] = (0.0, 0.1, 0.1, 0.1)
    polarisation: float = 0.0


@dataclass(frozen=True)
class FakeTau:
    """A jet reconstructed as a hadronic tau.

    Attributes:
        pt: Weibull shape and scale (GeV) of pt - 20 GeV, by jet number.
        eta: Beta parameters of abs(eta) / 2.5.
        response: transverse momentum of the jet over that of the fake tau.
        rapidity_slope: mean of the W's rapidity is this times eta of the fake tau.
        lepton_from_tau: fraction of W -> tau nu, tau -> l nu nu.
        away: strength of the preference for the direction opposite to the leading jet (von Mises kappa).
    """

    pt: tuple[tuple[float, float], ...]
    eta: tuple[float, float]
    response: float
    rapidity_slope: float
    lepton_from_tau: float
    away: tuple[float, float, float, float]


@dataclass(frozen=True)
class ProcessModel:
    """One physics process.

    Attributes:
        label: "s" or "b".
        parent: what decays.
        jets: models for 1, 2 and at least 3 jets.
        soft: models for 0, 1, 2 and at least 3 jets.
        sumet: by jet number.
        hadronic_x: least value and Beta parameters of the momentum fraction of the visible hadronic tau.
        correlation: of the two visible fractions, -1 to 1 (spin of the parent).
        invisible: by jet number, fraction of events whose associated boson is lost in neutrinos or acceptance (VH) ...
        lepton_swap: ... and fraction of those in which the lepton comes from that boson.
        companion: mean transverse momentum of the associated boson or, for top pairs, of the W relative to the
            recoil, GeV.
        fake: the fake tau; None where the tau is real.
        fake_share: fraction of events with a fake tau in a process that also has real ones.
    """

    label: str
    parent: ParentModel
    jets: tuple[JetModel, JetModel, JetModel]
    soft: tuple[SoftModel, SoftModel, SoftModel, SoftModel]
    sumet: tuple[SumEtModel, SumEtModel, SumEtModel, SumEtModel]
    hadronic_x: tuple[float, float, float] = (0.18, 2.1, 1.6)
    correlation: float = 0.0
    invisible: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    lepton_swap: float = 0.0
    companion: float = 0.0
    fake: FakeTau | None = None
    fake_share: float = field(default=0.0)


SIGNAL_FRACTION = 5143 / 15000
"""Signal events per event of the file (unweighted)."""


@dataclass(frozen=True)
class Detector:
    """Acceptance, efficiency and resolution that all processes share.

    Attributes:
        tau_pt_min: least transverse momentum of the hadronic tau, GeV.
        lep_pt_min: of the lepton, GeV.
        eta_max: largest abs(eta) of both.
        crack: abs(eta) range where the calorimeter has a gap ...
        crack_loss: ... and the share of leptons lost there.
        min_dr_tau_lep: least separation of tau and lepton.
        min_dr_tau_jet: of tau and jets.
        min_dr_lep_jet: of lepton and jets.
        tau_resolution: relative resolution of the tau's momentum.
        lepton_resolution: of the lepton's.
        w_mass: GeV.
        jet_mass: median of mass over pt of a jet, width of its logarithm, and largest value.
        jet_mass_ratio: largest mass of two jets over that of massless jets (the file's largest is 1.39).
        sumet_min: least sumet, GeV.
        mmc_scale: median of the file's DER_mass_MMC over the MMC-lite mass, by jet number.
    """

    tau_pt_min: float = 20.0
    lep_pt_min: float = 26.0
    eta_max: float = 2.5
    crack: tuple[float, float] = (1.37, 1.52)
    crack_loss: float = 0.33
    min_dr_tau_lep: float = 0.23
    min_dr_tau_jet: float = 0.40
    min_dr_lep_jet: float = 0.21
    tau_resolution: float = 0.10
    lepton_resolution: float = 0.015
    w_mass: float = 80.4
    jet_mass: tuple[float, float, float] = (0.10, 0.35, 0.2)
    jet_mass_ratio: float = 1.4
    sumet_min: float = 20.0
    mmc_scale: tuple[float, float, float, float] = (0.98, 1.018, 1.02, 1.024)


DETECTOR = Detector()

SAMPLES: tuple[Sample, ...] = (
    # signal: one weight per production process (VH is WH and ZH)
    Sample("ggF", 1986 / 5143, (0.00572068250088,) * 4, (0.584, 0.288, 0.097, 0.031)),
    Sample("VBF", 2245 / 5143, (0.000461281573949,) * 4, (0.068, 0.361, 0.476, 0.095)),
    Sample("VH", 474 / 5143, (0.00081448039868,) * 4, (0.219, 0.343, 0.306, 0.132)),
    Sample("VH", 438 / 5143, (0.000461025356734,) * 4, (0.228, 0.317, 0.306, 0.149)),
    # Z -> tau tau: thirteen samples by number of partons, from few jets to many
    Sample("Z", 1066 / 9857, (0.512739889611,) * 4, (0.440, 0.540, 0.016, 0.004)),
    Sample("Z", 395 / 9857, (0.443597626883,) * 4, (0.157, 0.436, 0.382, 0.025)),
    Sample("Z", 124 / 9857, (0.418760425129,) * 4, (0.121, 0.242, 0.435, 0.202)),
    Sample("Z", 25 / 9857, (0.240714551172,) * 4, (0.080, 0.280, 0.400, 0.240)),
    Sample("Z", 14 / 9857, (0.130775103251,) * 4, (0.070, 0.070, 0.140, 0.720)),
    Sample("Z", 85 / 9857, (0.109322374518,) * 4, (0.012, 0.070, 0.212, 0.706)),
    Sample("Z", 268 / 9857, (0.0944595938766,) * 4, (0.067, 0.343, 0.522, 0.068)),
    Sample("Z", 218 / 9857, (0.0936590129021,) * 4, (0.018, 0.197, 0.441, 0.344)),
    Sample("Z", 40 / 9857, (0.0917702760288,) * 4, (0.005, 0.075, 0.200, 0.720)),
    Sample("Z", 68 / 9857, (0.0254337596084,) * 4, (0.015, 0.044, 0.132, 0.809)),
    Sample("Z", 315 / 9857, (0.0225325724501,) * 4, (0.063, 0.390, 0.470, 0.077)),
    Sample("Z", 290 / 9857, (0.0217574936722,) * 4, (0.010, 0.190, 0.459, 0.341)),
    Sample("Z", 184 / 9857, (0.0195327618805,) * 4, (0.006, 0.065, 0.239, 0.690)),
    Sample("ttbar", 580 / 9857, (0.226870077356,) * 4, (0.071, 0.245, 0.328, 0.356)),
    # W + jets: continuous weights around a mean that falls with the jet number
    Sample(
        "W",
        6185 / 9857,
        (1.2565, 0.7515, 0.6145, 0.4270),
        (0.612, 0.280, 0.080, 0.028),
        (0.42, 0.35, 0.43, 0.36),
    ),
)
"""Yields: which samples there are, how many events each has and how they share among jet numbers."""

_GGF = ProcessModel(
    label="s",
    parent=ParentModel(
        mass=125.0,
        noise=15.1,
        noise_stochastic=1.52,
        noise_tail=0.05,
        rapidity=(1.31, 1.23, 0.965, 1.21),
        rapidity_slope=(0.0, 0.18, 0.03, 0.07),
    ),
    jets=(
        JetModel(log_pt=(2.97, 1.1), eta=(1.2, 2.28)),
        JetModel(
            log_pt=(3.8, 0.91),
            eta=(1.16, 2.46),
            ratio=(0.661, 1.22),
            eta_slope=0.218,
            eta_width=2.11,
            dphi=(1.16, 1.16),
        ),
        JetModel(
            log_pt=(4.25, 0.69),
            eta=(1.6, 3.94),
            ratio=(1.38, 1.42),
            eta_slope=0.24,
            eta_width=1.62,
            dphi=(0.86, 1.03),
            log_other=(2.3, 1.3),
        ),
    ),
    soft=(
        SoftModel((1.8, 1.83), 0.23, (25.0, 4.6), 0.18, (6.0, 19.1)),
        SoftModel((2.0, 1.6), 0.23, (24.6, 4.5), 0.3, (6.0, 21.0)),
        SoftModel((1.6, 2.3), 0.18, (24.4, 4.0), 0.38, (6.0, 25.0)),
        SoftModel((1.6, 2.3), 0.18, (24.4, 4.0), 0.38, (6.0, 25.0)),
    ),
    sumet=(
        SumEtModel(0.85, 1.0, 1.48, (9.79, 12.3, -74.4)),
        SumEtModel(0.84, 1.0, 1.6, (12.0, 12.0, -95.0)),
        SumEtModel(0.87, 1.0, 1.35, (12.3, 12.8, -97.4)),
        SumEtModel(0.92, 1.0, 0.8, (7.49, 22.0, -65.1)),
    ),
    hadronic_x=(0.163, 1.99, 1.42),
    correlation=0.178,
)

_VBF = ProcessModel(
    label="s",
    parent=ParentModel(
        mass=125.0,
        noise=16.1,
        noise_stochastic=0.914,
        noise_tail=0.014,
        rapidity=(1.18, 1.19, 1.05, 1.08),
        rapidity_slope=(0.0, -0.014, 0.219, 0.158),
    ),
    jets=(
        JetModel(log_pt=(3.64, 0.98), eta=(1.54, 1.89)),
        JetModel(
            log_pt=(4.15, 0.77),
            eta=(1.81, 2.4),
            ratio=(0.762, 1.39),
            eta_slope=0.03,
            eta_width=1.37,
            dphi=(1.26, 1.16),
            tag_share=0.805,
            tag_gap=(4.52, 1.09),
            tag_centre=0.694,
        ),
        JetModel(
            log_pt=(4.37, 0.68),
            eta=(1.64, 2.86),
            ratio=(1.09, 1.2),
            eta_slope=0.1,
            eta_width=1.7,
            dphi=(0.92, 0.83),
            tag_share=0.6,
            tag_gap=(4.1, 1.4),
            tag_centre=0.75,
            log_other=(2.44, 1.19),
        ),
    ),
    soft=(
        SoftModel((1.87, 1.5), 0.29, (25.8, 3.5), 0.36, (6.0, 23.0)),
        SoftModel((1.81, 1.47), 0.23, (25.5, 3.9), 0.34, (6.0, 24.6)),
        SoftModel((1.84, 1.7), 0.2, (24.4, 4.8), 0.19, (6.0, 34.0)),
        SoftModel((1.84, 1.7), 0.2, (24.4, 4.8), 0.19, (6.0, 34.0)),
    ),
    sumet=(
        SumEtModel(0.82, 1.0, 1.51, (4.66, 17.4, -40.2)),
        SumEtModel(0.86, 1.0, 1.35, (19.5, 9.4, -143.0)),
        SumEtModel(0.74, 1.0, 0.9, (27.8, 8.9, -189.0)),
        SumEtModel(0.83, 1.0, 0.8, (11.8, 14.8, -104.0)),
    ),
    hadronic_x=(0.143, 2.43, 1.35),
    correlation=0.001,
)

_VH = ProcessModel(
    label="s",
    parent=ParentModel(
        mass=125.0,
        noise=14.8,
        noise_stochastic=0.774,
        noise_tail=0.04,
        rapidity=(1.4, 1.21, 0.978, 0.799),
        rapidity_slope=(0.0, 0.794, 0.852, 0.839),
    ),
    jets=(
        JetModel(log_pt=(3.3, 1.04), eta=(1.08, 2.88)),
        JetModel(
            log_pt=(3.86, 0.76),
            eta=(1.31, 4.04),
            ratio=(0.781, 1.3),
            eta_slope=0.54,
            eta_width=0.911,
            dphi=(1.06, 1.53),
            resonance=(0.8, 84.0, 9.0),
        ),
        JetModel(
            log_pt=(4.36, 0.69),
            eta=(1.17, 3.92),
            ratio=(1.12, 1.19),
            eta_slope=0.51,
            eta_width=1.2,
            dphi=(0.79, 0.88),
            resonance=(0.4, 84.0, 9.0),
            log_other=(2.7, 1.37),
        ),
    ),
    soft=(
        SoftModel((1.5, 1.8), 0.2, (25.8, 4.8), 0.36, (6.0, 21.0)),
        SoftModel((1.9, 1.4), 0.28, (25.6, 4.8), 0.36, (6.0, 22.5)),
        SoftModel((1.76, 2.02), 0.29, (24.5, 4.5), 0.19, (6.0, 24.9)),
        SoftModel((1.76, 2.02), 0.29, (24.5, 4.5), 0.19, (6.0, 24.9)),
    ),
    sumet=(
        SumEtModel(0.79, 1.0, 0.0, (5.41, 23.9, -64.7)),
        SumEtModel(0.72, 1.0, 0.98, (8.68, 16.7, -80.9)),
        SumEtModel(0.73, 1.0, 1.34, (9.45, 15.1, -88.7)),
        SumEtModel(0.83, 1.0, 0.8, (6.39, 24.1, -86.0)),
    ),
    hadronic_x=(0.204, 1.79, 1.48),
    correlation=0.227,
    invisible=(0.823, 0.189, 0.0, 0.289),
    lepton_swap=0.265,
    companion=61.1,
)

_Z = ProcessModel(
    label="b",
    parent=ParentModel(
        mass=91.19,
        width=2.5,
        tail_share=0.05,
        tail=(95.0, 48.8),
        noise=15.8,
        noise_stochastic=0.491,
        noise_tail=0.008,
        rapidity=(2.09, 1.79, 1.51, 1.48),
        rapidity_slope=(0.0, 1.18, 0.325, 0.03),
        polarisation=0.195,
    ),
    jets=(
        JetModel(log_pt=(2.79, 0.985), eta=(1.2, 3.15)),
        JetModel(
            log_pt=(3.92, 0.86),
            eta=(1.16, 3.6),
            ratio=(0.717, 1.75),
            eta_slope=0.663,
            eta_width=1.69,
            dphi=(1.19, 0.726),
        ),
        JetModel(
            log_pt=(4.26, 0.75),
            eta=(1.24, 3.61),
            ratio=(1.08, 1.03),
            eta_slope=0.21,
            eta_width=1.55,
            dphi=(1.24, 0.87),
            log_other=(2.14, 1.42),
        ),
    ),
    soft=(
        SoftModel((1.9, 1.44), 0.39, (25.9, 3.5), 0.33, (6.0, 21.9)),
        SoftModel((1.72, 1.86), 0.22, (24.9, 4.6), 0.22, (6.0, 21.1)),
        SoftModel((1.71, 2.26), 0.19, (25.2, 3.5), 0.3, (6.0, 22.8)),
        SoftModel((1.71, 2.26), 0.19, (25.2, 3.5), 0.3, (6.0, 22.8)),
    ),
    sumet=(
        SumEtModel(0.76, 1.0, 1.2, (5.45, 17.4, -44.0)),
        SumEtModel(0.72, 1.0, 1.47, (9.76, 13.1, -77.9)),
        SumEtModel(0.7, 1.0, 1.0, (15.2, 11.7, -119.0)),
        SumEtModel(0.89, 1.0, 0.8, (8.41, 20.5, -105.0)),
    ),
    hadronic_x=(0.118, 2.15, 1.47),
    correlation=0.06,
)

_TTBAR = ProcessModel(
    label="b",
    parent=ParentModel(
        mass=80.4,
        width=2.1,
        noise=16.1,
        noise_stochastic=0.392,
        noise_tail=0.016,
        rapidity=(0.978, 1.03, 0.989, 1.1),
        rapidity_slope=(0.0, 0.528, 0.426, 0.754),
    ),
    jets=(
        JetModel(log_pt=(3.56, 0.92), eta=(1.28, 3.64)),
        JetModel(
            log_pt=(3.88, 0.75),
            eta=(1.07, 2.76),
            ratio=(0.687, 1.23),
            eta_slope=0.168,
            eta_width=1.47,
            dphi=(1.08, 0.8),
        ),
        JetModel(
            log_pt=(4.2, 0.63),
            eta=(1.48, 3.59),
            ratio=(1.54, 1.35),
            eta_slope=0.16,
            eta_width=1.56,
            dphi=(1.16, 0.76),
            log_other=(3.17, 1.1),
        ),
    ),
    soft=(
        SoftModel((2.0, 1.6), 0.27, (25.1, 4.0), 0.53, (6.0, 26.0)),
        SoftModel((2.0, 1.6), 0.27, (25.1, 4.0), 0.5, (6.0, 26.0)),
        SoftModel((1.8, 2.1), 0.23, (25.1, 4.0), 0.53, (6.0, 27.5)),
        SoftModel((1.8, 2.1), 0.23, (25.1, 4.0), 0.53, (6.0, 27.5)),
    ),
    sumet=(
        SumEtModel(0.76, 1.0, 1.17, (4.17, 33.2, -74.4)),
        SumEtModel(0.85, 1.0, 0.77, (5.92, 25.6, -84.7)),
        SumEtModel(0.69, 1.0, 1.13, (6.28, 24.0, -78.6)),
        SumEtModel(0.74, 1.0, 0.8, (7.53, 26.1, -105.0)),
    ),
    hadronic_x=(0.159, 2.48, 1.15),
    companion=62.1,
    fake=FakeTau(
        pt=((0.85, 12.0), (0.85, 13.6), (0.85, 12.0), (0.85, 12.0)),
        eta=(1.0, 1.5),
        response=1.0,
        rapidity_slope=0.0,
        lepton_from_tau=0.0,
        away=(0.0, 0.04, 0.05, 0.193),
    ),
    fake_share=0.143,
)

_W = ProcessModel(
    label="b",
    parent=ParentModel(
        mass=80.4,
        width=2.1,
        noise=14.7,
        noise_stochastic=0.277,
        noise_tail=0.07,
        rapidity=(1.43, 1.37, 1.23, 1.33),
        rapidity_slope=(0.0, 0.508, 0.241, 0.172),
        polarisation=0.919,
    ),
    jets=(
        JetModel(log_pt=(2.74, 1.0), eta=(1.06, 2.28)),
        JetModel(
            log_pt=(3.58, 0.82),
            eta=(1.09, 2.6),
            ratio=(0.785, 1.44),
            eta_slope=0.336,
            eta_width=1.86,
            dphi=(1.11, 0.692),
        ),
        JetModel(
            log_pt=(4.0, 0.8),
            eta=(1.15, 2.6),
            ratio=(1.2, 1.13),
            eta_slope=0.06,
            eta_width=1.64,
            dphi=(1.18, 0.8),
            log_other=(1.6, 1.5),
        ),
    ),
    soft=(
        SoftModel((1.69, 1.57), 0.18, (24.5, 4.2), 0.19, (6.0, 17.9)),
        SoftModel((1.63, 1.97), 0.21, (24.8, 3.8), 0.26, (6.0, 22.4)),
        SoftModel((2.2, 1.6), 0.24, (25.4, 4.2), 0.38, (6.0, 28.0)),
        SoftModel((2.2, 1.6), 0.24, (25.4, 4.2), 0.38, (6.0, 28.0)),
    ),
    sumet=(
        SumEtModel(0.59, 1.0, 1.77, (9.72, 13.0, -74.1)),
        SumEtModel(0.74, 1.0, 1.33, (15.3, 11.8, -130.0)),
        SumEtModel(0.84, 1.0, -0.31, (9.91, 18.9, -111.0)),
        SumEtModel(0.68, 1.0, 0.8, (7.32, 21.5, -71.4)),
    ),
    fake=FakeTau(
        pt=((0.957, 8.14), (1.03, 10.5), (0.831, 9.99), (0.846, 10.1)),
        eta=(0.947, 1.24),
        response=1.09,
        rapidity_slope=0.593,
        lepton_from_tau=0.401,
        away=(0.0, 0.736, 1.13, 0.546),
    ),
)

PROCESSES: Mapping[str, ProcessModel] = MappingProxyType(
    {"ggF": _GGF, "VBF": _VBF, "VH": _VH, "Z": _Z, "ttbar": _TTBAR, "W": _W}
)
"""The shapes of each process."""


SIMULATION_VERSION = 1
"""Raised whenever the same settings give other events, so that nothing stored under the old identity is reused."""

DEFAULT_SETS: Mapping[str, float] = MappingProxyType({"t": 250.0, "b": 100.0, "v": 450.0})
"""Proportions of training, public and private test set, those of the challenge."""

_SET_NAMES = ("t", "b", "v", "u")
_HIGGS_MASSES = (
    100.0,
    150.0,
)  # GeV; below, the Z overlaps, above, H -> tau tau is rare and the fit says nothing

_MOST_EVENTS = 2**63 - SIMULATED_FROM
"""Beyond this the last EventId does not fit into a signed number of 64 bits."""


@dataclass(frozen=True)
class SimulationSettings:
    """A simulated data set; equal settings give equal events with any number of processes.

    (As far as numpy keeps its random streams: its versions may differ, and processors in the last digit.)

    Attributes:
        events: number of events, at least 1.
        seed: seed of all random streams, at least 0.
        mix: multiplies the number of events of a process (`constants.PROCESSES`) within its class; processes that are
            not named keep 1. The class totals stay N_s and N_b: this changes the composition, not the rate.
        signal_fraction: signal events per event of the file (unweighted), between 0 and 1.
        higgs_mass: GeV, 100 to 150.
        luminosity: multiplies N_s and N_b.
        set_proportions: relative number of events in each KaggleSet.
        shifts: systematic shifts applied to every event, after the weights are normalised: a scaled process changes
            the totals.

    Raises:
        ConfigError: if a value is out of its range; the message names it.
    """

    events: int
    seed: int = 0
    mix: Mapping[str, float] = field(default_factory=dict)
    signal_fraction: float = SIGNAL_FRACTION
    higgs_mass: float = 125.0
    luminosity: float = 1.0
    set_proportions: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SETS))
    shifts: Shifts = field(default_factory=Shifts)

    def __post_init__(self) -> None:
        if self.events < 1:
            raise ConfigError(f"events must be at least 1, not {self.events}")
        if self.events > _MOST_EVENTS:
            raise ConfigError(f"events must be at most {_MOST_EVENTS}, for EventId has 64 bits, not {self.events}")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, not {self.seed}")
        if not 0.0 < self.signal_fraction < 1.0:
            raise ConfigError(f"signal_fraction must lie between 0 and 1, not be {self.signal_fraction}")
        if not _HIGGS_MASSES[0] <= self.higgs_mass <= _HIGGS_MASSES[1]:
            raise ConfigError(f"higgs_mass must lie in {_HIGGS_MASSES} GeV, not be {self.higgs_mass}")
        if not (math.isfinite(self.luminosity) and self.luminosity > 0.0):
            raise ConfigError(f"luminosity must be a positive number, not {self.luminosity}")
        self._check_mix()
        self._check_sets()

    def _check_mix(self) -> None:
        unknown = sorted(set(self.mix) - set(PROCESSES))
        if unknown:
            raise ConfigError(f"mix names unknown processes {unknown}; known are {list(PROCESSES)}")
        wrong = {k: v for k, v in self.mix.items() if not (math.isfinite(v) and v >= 0.0)}
        if wrong:
            raise ConfigError(f"mix must hold numbers of at least 0, not {wrong}")
        for label, what in (("s", "signal"), ("b", "background")):
            if not any(self.mix.get(k, 1.0) > 0.0 for k, p in PROCESSES.items() if p.label == label):
                raise ConfigError(f"mix leaves no {what} process")

    def _check_sets(self) -> None:
        unknown = sorted(set(self.set_proportions) - set(_SET_NAMES))
        if unknown:
            raise ConfigError(f"set_proportions names unknown sets {unknown}; known are {list(_SET_NAMES)}")
        values = list(self.set_proportions.values())
        if not values or any(not math.isfinite(v) or v < 0.0 for v in values) or sum(values) <= 0.0:
            raise ConfigError(f"set_proportions must be numbers of at least 0, not all 0: {dict(self.set_proportions)}")

    def identity(self) -> str:
        """A digest of everything the events depend on: these settings and the version of the simulation.

        Returns:
            16 hexadecimal digits, the same on every machine.
        """
        content = {
            "simulation": SIMULATION_VERSION,
            "events": self.events,
            "seed": self.seed,
            "mix": {k: float(self.mix.get(k, 1.0)) for k in PROCESSES},
            "signal_fraction": self.signal_fraction,
            "higgs_mass": float(self.higgs_mass),
            "luminosity": float(self.luminosity),
            "set_proportions": {k: float(self.set_proportions.get(k, 0.0)) for k in _SET_NAMES},
            "shifts": asdict(self.shifts),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
