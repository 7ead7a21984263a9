"""Every number of the toy simulation that was fitted to real events, in one place, with its meaning.

Fitted to 15,000 events of the official file (CERN Open Data record 328): yields and jet numbers by counting, shapes of
jets, soft term and sumet by maximum likelihood, decays and efficiencies by comparing simulated with real
distributions. What each number means is documented with the models in `higgsbench.events.simulate.models`. They
describe the selected events of that file, whatever made them so: a share of W -> tau nu, say, also absorbs what the
model leaves out, and none of them is a measurement.

This module is longer than others on purpose: it is a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from higgsbench.events.simulate.models import (
    FakeTau,
    JetModel,
    ParentModel,
    ProcessModel,
    Sample,
    SoftModel,
    SumEtModel,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DETECTOR", "PROCESSES", "SAMPLES", "SIGNAL_FRACTION", "Detector"]

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
