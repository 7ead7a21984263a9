"""What a simulated file depends on."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from higgsbench.errors import ConfigError
from higgsbench.events.shifts import Shifts
from higgsbench.events.simulate.constants import PROCESSES, SIGNAL_FRACTION
from higgsbench.schema import SIMULATED_FROM

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_SETS", "SIMULATION_VERSION", "SimulationSettings"]

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
