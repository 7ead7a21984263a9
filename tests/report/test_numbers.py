"""The arrays behind the figures, against slow plain versions."""

from __future__ import annotations

import numpy as np
import pytest

from higgsbench.metrics import ams
from higgsbench.report.context import Scores, histogram
from higgsbench.report.roc import efficiency
from higgsbench.report.rows import agreement, ams_curve, reliability, score_edges


@pytest.fixture(scope="module")
def scores() -> Scores:
    rng = np.random.default_rng(4)
    y = rng.random(3000) < 0.3
    weight = rng.uniform(0.5, 1.5, y.size)
    weight[y] *= 700.0 / weight[y].sum()
    weight[~y] *= 400_000.0 / weight[~y].sum()
    prior = np.log(700.0 / 400_000.0)
    exact = np.stack([2.0 * (rng.normal(size=y.size) + 2.0 * y) - 2.0 + prior for _ in range(2)])
    return Scores(y, weight, {"exact": exact, "flat": 0.5 * exact, "other": exact[::-1].copy()})


def test_the_curve_is_the_ams_of_the_selected_share(scores: Scores) -> None:
    curve = ams_curve(scores, "exact", 10.0, 0.5)
    for at in (0, 60, 239):
        plain = []
        for score in scores.by_row["exact"]:
            keep = score >= np.sort(score)[::-1][int(np.ceil(curve.fraction[at] * score.size)) - 1]
            w, y = scores.weight[keep], scores.y[keep]
            plain.append(ams(w[y].sum(), w[~y].sum()))
        assert curve.ams[at] == pytest.approx(np.mean(plain))
    assert curve.best[1] >= curve.ams.max() - 1e-12
    assert (curve.se > 0.0).all()


def test_histograms_lose_nothing(scores: Scores) -> None:
    values = scores.by_row["exact"]
    edges = score_edges([values])
    sums, squares = histogram(values, scores.weight, edges)
    assert sums.sum() == pytest.approx(scores.weight.sum())
    assert squares.sum() == pytest.approx((scores.weight**2).sum())
    plain = [np.histogram(np.clip(v, edges[0], edges[-1]), edges, weights=scores.weight)[0] for v in values]
    np.testing.assert_allclose(sums, np.mean(plain, axis=0))
    assert score_edges([np.full(5, 2.0)])[[0, -1]].tolist() == [1.5, 2.5]


def test_efficiencies_are_those_of_a_plain_cut(scores: Scores) -> None:
    found = efficiency(scores, "exact")
    y, w, at, plain = scores.y, scores.weight, 100, []
    for score in scores.by_row["exact"]:
        cuts = np.unique(score)[::-1]
        cut = next(t for t in cuts if w[y & (score >= t)].sum() / w[y].sum() >= found.signal[at] - 1e-12)
        plain.append(w[~y & (score >= cut)].sum() / w[~y].sum())
    assert found.background[at] == pytest.approx(np.mean(plain))
    assert (np.diff(found.background) >= 0.0).all()
    assert found.background[-1] <= 1.0


def test_errors_of_working_points_are_those_of_a_bootstrap(scores: Scores) -> None:
    rng, found, values = np.random.default_rng(7), efficiency(scores, "exact"), []
    for _ in range(60):
        at = rng.integers(0, scores.y.size, scores.y.size)
        again = Scores(scores.y[at], scores.weight[at], {"exact": scores.by_row["exact"][:1, at]})
        values.append(efficiency(again, "exact").background)
    for share in (100, 140, 180):
        assert found.se[share] == pytest.approx(np.std(values, axis=0)[share], rel=0.35)


def test_exact_log_odds_lie_on_the_diagonal_and_squeezed_ones_do_not(scores: Scores) -> None:
    exact = reliability(scores, "exact")
    pull = (exact.found - exact.predicted) / exact.se
    assert len(pull) >= 6
    assert np.mean(pull**2) < 2.5
    flat = reliability(scores, "flat")
    assert np.abs((flat.found - flat.predicted) / flat.se).max() > 10.0


def test_samples_of_one_distribution_agree_and_others_do_not(scores: Scores) -> None:
    first, second = scores.by_row["exact"][:1], scores.by_row["exact"][1:]
    one, two, far = (scores._replace(by_row={"exact": values}) for values in (first, second, second + 1.0))
    for of_signal in (True, False):
        near = agreement(one, two, "exact", of_signal=of_signal)
        assert min(near.ks_p, near.chi2_p) > 1e-3
        assert near.freedom == 19
        other = agreement(one, far, "exact", of_signal=of_signal)
        assert max(other.ks_p, other.chi2_p) < 1e-6
