"""What the toy simulation draws from: the shapes of each process and the settings of a data set.

The fitted numbers are in `processes.toml`, which says what each of them means; the records here have the same names.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import TypeAlias

from pydantic import TypeAdapter

from higgsbench.errors import ConfigError
from higgsbench.events.shifts import Shifts
from higgsbench.files import canonical_digest
from higgsbench.schema import SIMULATED_FROM

Pair: TypeAlias = tuple[float, float]
Triple: TypeAlias = tuple[float, float, float]
ByJets: TypeAlias = tuple[float, float, float, float]
"""One number each for 0, 1, 2 and at least 3 jets."""


@dataclass(frozen=True)
class Sample:
    """Events that were generated together and share one weight."""

    process: str
    events: int
    weight: float | ByJets
    jets: ByJets
    spread: ByJets = (0.0, 0.0, 0.0, 0.0)

    @property
    def signal(self) -> bool:
        """Whether its events are signal."""
        return PROCESSES[self.process].label == "s"


@dataclass(frozen=True)
class JetModel:
    """The jets of events with a given number of them."""

    log_pt: Pair
    eta: Pair
    ratio: Pair = (1.0, 1.0)
    eta_slope: float = 0.0
    eta_width: float = 1.0
    dphi: Pair = (1.0, 1.0)
    tag_share: float = 0.0
    tag_gap: Pair = (4.2, 1.5)
    tag_centre: float = 0.8
    tag_lean: float = 0.0
    resonance: Triple = (0.0, 84.0, 9.0)
    log_other: Pair = (3.0, 1.0)


@dataclass(frozen=True)
class SoftModel:
    """Size of the transverse momentum that no reconstructed object carries, a mixture of three parts."""

    core: Pair
    bump_share: float
    bump: Pair
    tail_share: float
    tail: Pair


@dataclass(frozen=True)
class ParentModel:
    """The boson (H, Z or W) that decays, or the two W of a top pair."""

    mass: float
    noise: float
    noise_stochastic: float
    noise_tail: float
    rapidity: ByJets
    rapidity_slope: ByJets
    response: ByJets = (1.0, 1.0, 1.0, 1.0)
    width: float = 0.0
    tail_share: float = 0.0
    tail: Pair = (100.0, 80.0)
    polarisation: float = 0.0


@dataclass(frozen=True)
class FakeTau:
    """A jet reconstructed as a hadronic tau."""

    pt: tuple[Pair, ...]
    eta: Pair
    response: float
    rapidity_slope: ByJets
    lepton_from_tau: float
    away: ByJets
    same_side: ByJets


@dataclass(frozen=True)
class ProcessModel:
    """One physics process."""

    label: str
    parent: ParentModel
    jets: tuple[JetModel, JetModel, JetModel]
    soft: tuple[SoftModel, SoftModel, SoftModel, SoftModel]
    hadronic_x: Triple = (0.18, 2.1, 1.6)
    correlation: float = 0.0
    invisible: ByJets = (0.0, 0.0, 0.0, 0.0)
    lepton_swap: float = 0.0
    companion: float = 0.0
    fake: FakeTau | None = None
    fake_share: float = 0.0


@dataclass(frozen=True)
class Detector:
    """Acceptance, efficiency and resolution that all processes share."""

    tau_pt_min: float
    lep_pt_min: float
    eta_max: float
    gaps: tuple[Triple, ...]
    fake_gaps: tuple[Triple, ...]
    min_dr_tau_lep: float
    min_dr_tau_jet: float
    min_dr_lep_jet: float
    tau_resolution: float
    lepton_resolution: float
    w_mass: float
    jet_mass: Triple
    jet_mass_ratio: float
    sumet_min: float
    electron: Triple
    rest: tuple[float, float, float, float]
    rest_gamma: Pair
    three_prong: Pair
    mmc_edge: Pair
    mmc_noise: float


_FITTED = tomllib.loads(resources.files(__package__).joinpath("processes.toml").read_text(encoding="utf-8"))

DETECTOR: Detector = TypeAdapter(Detector).validate_python(_FITTED["detector"])

PROCESSES: Mapping[str, ProcessModel] = MappingProxyType(
    TypeAdapter(dict[str, ProcessModel]).validate_python(_FITTED["processes"])
)
"""The shapes of each process."""

SAMPLES: tuple[Sample, ...] = TypeAdapter(tuple[Sample, ...]).validate_python(_FITTED["samples"])
"""Yields: which samples there are, how many events each has and the shares of the jet numbers."""

SIGNAL_FRACTION = sum(s.events for s in SAMPLES if s.signal) / sum(s.events for s in SAMPLES)
"""Signal events per event of the official file (unweighted)."""


SIMULATION_VERSION = 3  # increased whenever the same settings give different events: old results are not reused

_SET_NAMES = ("t", "b", "v", "u")
_HIGGS_MASSES = (100.0, 150.0)  # GeV; below, the Z overlaps; above, H -> tau tau is rare and nothing was fitted
_MOST_EVENTS = 2**63 - SIMULATED_FROM  # beyond this the last EventId does not fit into a signed number of 64 bits


@dataclass(frozen=True)
class SimulationSettings:
    """A simulated data set; equal settings give equal events with any number of processes.

    (Different numpy versions may give different random streams, and different CPUs may differ in the last digit.)

    A `ConfigError` names a value that is out of its range.
    """

    events: int  # at least 1
    seed: int = 0  # of all random streams, at least 0
    # Factors on the number of events of a process within its class; the class totals stay N_s and N_b.
    mix: Mapping[str, float] = field(default_factory=dict)
    signal_fraction: float = SIGNAL_FRACTION  # signal events per event of the file (unweighted), between 0 and 1
    higgs_mass: float = 125.0  # GeV, 100 to 150
    luminosity: float = 1.0  # multiplies N_s and N_b
    # Relative number of events in each KaggleSet.
    set_proportions: Mapping[str, float] = field(default_factory=lambda: {"t": 250.0, "b": 100.0, "v": 450.0})
    shifts: Shifts = field(default_factory=Shifts)  # applied after normalising the weights, so they may change totals

    def __post_init__(self) -> None:
        classes = (("s", "signal"), ("b", "background"))
        unknown = sorted(set(self.mix) - set(PROCESSES))
        wrong = {k: v for k, v in self.mix.items() if not (math.isfinite(v) and v >= 0.0)}
        present = {p.label for k, p in PROCESSES.items() if self.mix.get(k, 1.0) > 0.0}
        sets, shares = sorted(set(self.set_proportions) - set(_SET_NAMES)), list(self.set_proportions.values())
        share_rule = f"set_proportions must be numbers of at least 0, not all 0: {dict(self.set_proportions)}"
        rules = (
            (self.events >= 1, f"events must be at least 1, not {self.events}"),
            (
                self.events <= _MOST_EVENTS,
                f"events must be at most {_MOST_EVENTS}, because EventId has 64 bits, not {self.events}",
            ),
            (self.seed >= 0, f"seed must be at least 0, not {self.seed}"),
            (0.0 < self.signal_fraction < 1.0, f"signal_fraction must be between 0 and 1, not {self.signal_fraction}"),
            (
                _HIGGS_MASSES[0] <= self.higgs_mass <= _HIGGS_MASSES[1],
                f"higgs_mass must be in {_HIGGS_MASSES} GeV, not {self.higgs_mass}",
            ),
            (0.0 < self.luminosity < math.inf, f"luminosity must be a positive number, not {self.luminosity}"),
            (not unknown, f"mix names unknown processes {unknown}; choose from {list(PROCESSES)}"),
            (not wrong, f"mix must hold numbers of at least 0, not {wrong}"),
            *((label in present, f"mix leaves no {what} process") for label, what in classes),
            (not sets, f"set_proportions names unknown sets {sets}; choose from {list(_SET_NAMES)}"),
            (all(0.0 <= share < math.inf for share in shares) and sum(shares) > 0.0, share_rule),
        )
        for holds, message in rules:
            if not holds:
                raise ConfigError(message)

    def identity(self) -> str:
        """Digest (16 hexadecimal digits) of all that the events depend on: settings and version of the simulation."""
        content = vars(self) | {
            "simulation": SIMULATION_VERSION,
            "fitted": canonical_digest(_FITTED),
            "mix": {k: float(self.mix.get(k, 1.0)) for k in PROCESSES},
            "higgs_mass": float(self.higgs_mass),
            "luminosity": float(self.luminosity),
            "set_proportions": {k: float(self.set_proportions.get(k, 0.0)) for k in _SET_NAMES},
            "shifts": asdict(self.shifts),
        }
        return canonical_digest(content)[:16]
