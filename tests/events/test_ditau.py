"""The estimate of the di-tau mass against the plain double loop of its definition, and against real events."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr

from higgsbench.events.derived import columns_of, derive, wrap
from higgsbench.events.ditau import Hidden, ditau_mass

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

Columns = dict[str, "npt.NDArray[np.float64]"]


def events(n: int, seed: int) -> Columns:
    """Events of all kinds: with and without jets, low and high missing momentum, back to back or not."""
    rng = np.random.default_rng(seed)
    phi = rng.uniform(-math.pi, math.pi, n)
    return {
        "PRI_tau_pt": 20.0 + rng.exponential(15.0, n),
        "PRI_tau_eta": rng.uniform(-2.5, 2.5, n),
        "PRI_tau_phi": phi,
        "PRI_lep_pt": 26.0 + rng.exponential(15.0, n),
        "PRI_lep_eta": rng.uniform(-2.5, 2.5, n),
        "PRI_lep_phi": wrap(phi + rng.uniform(2.4, 3.6, n)),
        "PRI_met": rng.uniform(0.0, 70.0, n),
        "PRI_met_phi": rng.uniform(-math.pi, math.pi, n),
        "PRI_met_sumet": rng.uniform(20.0, 300.0, n),
        "PRI_jet_num": rng.integers(0, 2, n).astype(np.float64),
    }


def decay(r: float, momentum: float, prongs: int, back: bool, low: bool) -> float:
    """Probability of the hadronic tau's decay, r = 1 / x - 1; its visible momentum in GeV."""
    if not back:
        return 1.0 / (1.0 + r) ** 2
    if low:
        mean, width = ((-1.34, 0.84), (-0.72, 0.505))[prongs]
        return math.exp(-(((r - mean) / width) ** 2) / 2)
    above, edge, u, v, w = ((3.706, 45.0, 1.019, 0.0074, 0.059), (5.845, 40.0, 1.24, 0.0062, 0.033))[prongs]
    p = momentum * (1 + r)
    k = above if p > edge else u / max(v * p - w, 0.01)
    return k * math.exp(-k * r)


def factor(e: dict[str, float], electron: bool, prongs: int, further: float) -> float:
    """Factor from visible to full mass by the plain double loop of the definition, NaN where missing."""
    tau, lep, met = (
        e[f"PRI_{pt}"] * complex(math.cos(e[f"PRI_{phi}"]), math.sin(e[f"PRI_{phi}"]))
        for pt, phi in (("tau_pt", "tau_phi"), ("lep_pt", "lep_phi"), ("met", "met_phi"))
    )
    dphi = abs(math.remainder(e["PRI_tau_phi"] - e["PRI_lep_phi"], 2 * math.pi))
    low, jets = e["PRI_met"] < 20, e["PRI_jet_num"] > 0
    back = not jets and dphi > (2.95 if low else 2.8)
    root = math.sqrt(max(e["PRI_met_sumet"] - electron * e["PRI_lep_pt"], 0.0))
    sigma = 5.94 + 0.85 * root if jets else 5.38 + 0.32 * root if low else 4.16 + 0.87 * root
    a, b, scale = 2.16, 1.55, 1.0155
    if back:
        sigma, a, b, scale = (4.822, 4.66, 2.55, 1.063) if low else (7.5, 3.79, 4.26, 1.0054)
        met = -tau - lep
    less = 132.1 - 79.26 * dphi + 11.77 * dphi**2 if low else 51.28 - 23.56 * dphi + 2.637 * dphi**2
    least, momentum = ((0.8, 1.2)[prongs] / 1.777) ** 2, e["PRI_tau_pt"] * math.cosh(e["PRI_tau_eta"])
    density = np.zeros(52)
    for i, j in itertools.product(range(16), range(37)):
        xh, xl = math.exp(-0.09 * (i + 0.5)), math.exp(-0.09 * (j + 0.5))
        neutrinos = tau * (1 / xh - 1) + lep * (1 / xl - 1)
        distance = abs(met - neutrinos) / sigma
        if not back and distance > 3.0 + further:
            continue
        chi2 = distance**2 + (((abs(met) - abs(neutrinos) - less) / sigma) ** 2 / 2 if back else 0.0)
        prior = xh**1.06 * (1 - xh) ** 0.58 * max(1 - least / xh, 1e-4) ** 0.73 * xl**a * (1 - xl) ** b
        density[i + j] += math.exp(-chi2 / 2) * prior * decay(1 / xh - 1, momentum, prongs, back, low)
    if not density.any():
        return math.nan
    kernel = [[math.exp(-(((a - b) / 0.8) ** 2) / 2) * (abs(a - b) <= 4) for b in range(52)] for a in range(52)]
    smooth = [math.log(density @ np.array(kernel)[:, b] / np.sum(kernel, axis=0)[b] + 1e-300) for b in range(52)]
    top = min(max(int(np.argmax(smooth)), 1), 50)
    left, middle, right = smooth[top - 1 : top + 2]
    moved = min(max((left - right) / min(2 * (left - 2 * middle + right), -1e-9), -1.5), 0.5)
    return scale * math.exp(0.045 * (top + 1 + moved))


def test_the_mass_equals_the_scalar_double_loop() -> None:
    n, columns, rng = 120, events(120, 3), np.random.default_rng(0)
    hidden = Hidden(rng.random(n) < 0.5, rng.random(n) < 0.5, rng.uniform(0.0, 0.3, n))
    visible = derive(columns, ["DER_mass_vis"])["DER_mass_vis"]
    nothing = Hidden(np.zeros(n, bool), np.zeros(n, bool), np.zeros(n))
    for known, argument in ((hidden, hidden), (nothing, None)):
        found = ditau_mass(columns, argument)
        for i in range(n):
            of_event = {name: float(values[i]) for name, values in columns.items()}
            known_here = bool(known.electron[i]), int(known.three_prong[i]), float(known.edge[i])
            expected = visible[i] * factor(of_event, *known_here)
            assert found[i] == pytest.approx(expected, rel=2e-3, nan_ok=True), of_event
        assert 0 < np.isnan(found).sum() < n / 2


def test_a_mass_does_not_depend_on_the_other_events_of_the_call() -> None:
    columns = events(3000, 4)
    together = ditau_mass(columns)
    for part in (slice(1000, 1300), slice(0, 0)):
        np.testing.assert_array_equal(ditau_mass({k: v[part] for k, v in columns.items()}), together[part])


def test_rotation_leaves_the_mass_alone() -> None:
    columns = events(3000, 5)
    turned = {k: wrap(v + 1.234) if k.endswith("_phi") else v for k, v in columns.items()}
    np.testing.assert_allclose(ditau_mass(turned), ditau_mass(columns), rtol=1e-3)


def test_extreme_missing_momentum_is_missing_not_an_error() -> None:
    columns = events(200, 7) | {"PRI_met": np.full(200, 1e6)}
    dphi = np.abs(wrap(columns["PRI_tau_phi"] - columns["PRI_lep_phi"]))
    back = (columns["PRI_jet_num"] == 0) & (dphi > 2.8)  # there the visible momenta take its place
    np.testing.assert_array_equal(np.isnan(ditau_mass(columns)), ~back)


@pytest.mark.parametrize(("label", "least"), [("s", 0.97), ("b", 0.985)])
def test_the_mass_ranks_real_events_like_the_file(real_events: pl.DataFrame, label: str, least: float) -> None:
    chosen = real_events.filter(real_events["Label"] == label)
    estimate = ditau_mass(columns_of(chosen))
    stored = columns_of(chosen, ["DER_mass_MMC"])["DER_mass_MMC"]
    both = ~np.isnan(estimate) & ~np.isnan(stored)
    assert spearmanr(estimate[both], stored[both]).statistic >= least
    assert (np.isnan(estimate) == np.isnan(stored)).mean() > 0.96
