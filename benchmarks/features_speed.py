"""The physics features of as many events as the full official file has, against the raw columns and against NumPy.

The raw columns are one pass over the same table that computes nothing. NumPy evaluates the part of the set that costs
most: momentum vectors and separations.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks._common import in_turn, median, publish, sample_events
from higgsbench.events.derived import columns_of, wrap
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.schema import ATLAS_HIGGS

EVENTS = 818_238
ROUNDS = 3
BOUND = 5.0


def trigonometry(frame: pl.DataFrame) -> list[NDArray[np.float64]]:
    """Momentum vectors and separations of all objects, as one would write them with NumPy."""
    c = columns_of(frame)
    prefixes = ("PRI_tau", "PRI_lep", "PRI_jet_leading", "PRI_jet_subleading")
    found = []
    for p in prefixes:
        pt, eta, phi = c[f"{p}_pt"], c[f"{p}_eta"], wrap(c[f"{p}_phi"] - c["PRI_tau_phi"])
        found += [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]
        for q in prefixes[: prefixes.index(p)]:
            found.append(np.hypot(eta - c[f"{q}_eta"], wrap(c[f"{p}_phi"] - c[f"{q}_phi"])))
    return found


def processor_time(function: Callable[[], object]) -> float:
    """CPU seconds of one call on all cores together; a busy machine lengthens the wall time only."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def main() -> None:
    events, name = sample_events()
    copies = -(-EVENTS // len(events))
    frame = pl.concat([events.frame] * copies).head(EVENTS).rechunk()
    raw, physics = (resolve_features(ATLAS_HIGGS, name=set_name) for set_name in ("raw", "physics"))
    ours, plain = in_turn(lambda: feature_matrix(frame, physics), lambda: feature_matrix(frame, raw), ROUNDS)
    again, numpy = in_turn(lambda: feature_matrix(frame, physics), lambda: trigonometry(frame), ROUNDS)
    canonical, _ = in_turn(
        lambda: feature_matrix(frame, resolve_features(ATLAS_HIGGS, name="canonical")), lambda: None, ROUNDS
    )
    busy = median([processor_time(lambda: feature_matrix(frame, physics)) for _ in range(ROUNDS)])
    publish(
        "features-speed",
        "Evaluating the physics features",
        [
            f"`physics` ({len(physics.columns)} features) of {EVENTS:,} events ({name}, repeated) to a float32 matrix: "
            f"**{median(ours):.2f} s** of wall time, {busy:.2f} s of processor time; bound {BOUND:.0f} s on two cores "
            f"(load average while measuring: {os.getloadavg()[0]:.0f}).",
            "",
            f"The same pass with the raw columns: {median(plain):.2f} s; `canonical`: {median(canonical):.2f} s. "
            f"Momentum vectors and separations alone with NumPy on one core: {median(numpy):.2f} s, against which the "
            f"whole set costs {median(again) / median(numpy):.2f} times. Medians of {ROUNDS} rounds in turn.",
        ],
    )


if __name__ == "__main__":
    main()
