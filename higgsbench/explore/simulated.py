"""Simulated events as a stream that explores like a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.events.read import normalised
from higgsbench.events.simulate import OFFICIAL_COLUMNS, SimulationSettings, simulate_batches
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

__all__ = ["SimulatedStream"]


class SimulatedStream:
    """Events of the built-in toy simulation, made while they are read."""

    def __init__(self, settings: SimulationSettings) -> None:
        self.settings = settings
        self.schema = ATLAS_HIGGS
        self.columns: tuple[str, ...] = tuple(OFFICIAL_COLUMNS)
        self.source = f"toy simulation ({settings.events} events, seed {settings.seed})"

    def batches(self, *, check: bool = True) -> Iterator[pl.DataFrame]:
        """Yield the parts, missing values as null.

        Args:
            check: without effect, as the simulation is trusted to follow its layout.
        """
        del check
        for frame in simulate_batches(self.settings):
            yield normalised(frame, self.schema)
