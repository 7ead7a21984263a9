from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import spearmanr

from higgsbench.events import derived as mmc
from higgsbench.events.derived import columns_of, derive

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

Columns = dict[str, "npt.NDArray[np.float64]"]


def reference(tau: tuple[float, float], lep: tuple[float, float], met: tuple[float, float], sumet: float) -> float:
    """Factor from visible to full mass by the plain double loop of the definition, NaN where missing."""
    had = [0.25 + 0.75 * (i + 0.5) / 16 for i in range(16)]
    fine = np.linspace(0, 1, 200_001)
    cumulative = np.cumsum((1 - fine) * (5 + 5 * fine - 4 * fine**2) / 3) / 200_000
    leptonic = [float(fine[np.searchsorted(cumulative, (i + 0.5) / 16)]) for i in range(16)]
    variance = 6.0**2 + sumet
    points = []
    for xh in had:
        for xl in leptonic:
            nx = tau[0] * (1 / xh - 1) + lep[0] * (1 / xl - 1)
            ny = tau[1] * (1 / xh - 1) + lep[1] * (1 / xl - 1)
            chi2 = ((met[0] - nx) ** 2 + (met[1] - ny) ** 2) / variance
            points.append((chi2, math.log(xh * xl)))
    best = min(c for c, _ in points)
    if best > 13.0:
        return math.nan
    weights = [math.exp(-(c - best) / 2 + 1.5 * log) for c, log in points]
    mean = sum(w * -0.5 * log for w, (_, log) in zip(weights, points, strict=True)) / sum(weights)
    return math.exp(mean)


def random_primaries(n: int, seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    columns = {name: rng.uniform(-math.pi, math.pi, n) for name in ("PRI_tau_phi", "PRI_lep_phi", "PRI_met_phi")}
    columns |= {name: rng.uniform(-2.4, 2.4, n) for name in ("PRI_tau_eta", "PRI_lep_eta")}
    columns |= {"PRI_tau_pt": 20 + rng.exponential(20, n), "PRI_lep_pt": 26 + rng.exponential(20, n)}
    columns |= {"PRI_met": rng.exponential(40, n), "PRI_met_sumet": rng.uniform(30, 500, n)}
    return columns


def test_equals_the_scalar_double_loop() -> None:
    columns = random_primaries(60, 3)
    found = mmc.mmc_lite_from_primaries(columns)
    visible = derive(columns, ["DER_mass_vis"])["DER_mass_vis"]
    for i in range(60):
        tau, lep, met = (
            (columns[pt][i] * math.cos(columns[phi][i]), columns[pt][i] * math.sin(columns[phi][i]))
            for pt, phi in (("PRI_tau_pt", "PRI_tau_phi"), ("PRI_lep_pt", "PRI_lep_phi"), ("PRI_met", "PRI_met_phi"))
        )
        expected = visible[i] * reference(tau, lep, met, float(columns["PRI_met_sumet"][i]))
        assert found[i] == pytest.approx(expected, rel=2e-3, nan_ok=True)
    assert np.isnan(found).any()
    assert not np.isnan(found).all()


def test_result_does_not_depend_on_the_other_events_of_the_call() -> None:
    columns = random_primaries(5000, 4)
    together = mmc.mmc_lite_from_primaries(columns)
    part = mmc.mmc_lite_from_primaries({k: v[1000:1300] for k, v in columns.items()})
    np.testing.assert_array_equal(part, together[1000:1300])


def test_never_below_the_visible_mass() -> None:
    columns = random_primaries(3000, 5)
    found = mmc.mmc_lite_from_primaries(columns)
    visible = derive(columns, ["DER_mass_vis"])["DER_mass_vis"]
    present = ~np.isnan(found)
    assert (found[present] >= visible[present]).all()


def test_rotation_leaves_the_mass_alone() -> None:
    columns = random_primaries(1000, 6)
    turned = {k: v + 1.234 if k.endswith("_phi") else v for k, v in columns.items()}
    np.testing.assert_allclose(mmc.mmc_lite_from_primaries(turned), mmc.mmc_lite_from_primaries(columns), rtol=1e-3)


def test_no_events_give_no_masses() -> None:
    assert len(mmc.mmc_lite_from_primaries({k: v[:0] for k, v in random_primaries(1, 0).items()})) == 0


def test_extreme_missing_momentum_is_missing_not_an_error() -> None:
    columns = random_primaries(10, 7)
    columns["PRI_met"] = np.full(10, 1e6)
    assert np.isnan(mmc.mmc_lite_from_primaries(columns)).all()


@pytest.mark.parametrize(("label", "least"), [("s", 0.92), ("b", 0.96)])
def test_ranks_real_events_like_the_file(real_events: pl.DataFrame, label: str, least: float) -> None:
    events = real_events.filter(real_events["Label"] == label)
    lite = mmc.mmc_lite_from_primaries(columns_of(events))
    stored = columns_of(events, ["DER_mass_MMC"])["DER_mass_MMC"]
    both = ~np.isnan(lite) & ~np.isnan(stored)
    assert spearmanr(lite[both], stored[both]).statistic >= least
    assert (np.isnan(lite) == np.isnan(stored)).mean() > 0.96
