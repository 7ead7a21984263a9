"""The shapes that the simulator draws from: which numbers a process has, and what each of them means.

The numbers themselves are in `higgsbench.events.simulate.constants`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["FakeTau", "JetModel", "ParentModel", "ProcessModel", "Sample", "SoftModel", "SumEtModel"]


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
