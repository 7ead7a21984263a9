"""Events of the toy simulation as a table in memory, kept in the cache like a parsed file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.events.cache import cached_table
from higgsbench.events.read import normalised
from higgsbench.events.simulate import simulate
from higgsbench.events.table import Events
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from higgsbench.events.simulate import SimulationSettings

__all__ = ["simulated_events"]


def simulated_events(settings: SimulationSettings, jobs: int = 1) -> Events:
    """Simulate events, or take them from the cache.

    Args:
        settings: what to simulate.
        jobs: worker processes; the events do not depend on it.
    """
    frame, digest = cached_table(
        f"simulated:{settings.identity()}", lambda: normalised(simulate(settings, jobs), ATLAS_HIGGS)
    )
    return Events(frame, ATLAS_HIGGS, f"toy simulation (seed {settings.seed})", known_digest=digest)
