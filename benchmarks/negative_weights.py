"""Measure the weighted AUC of each policy for negative weights, and the time of resampling.

The events imitate next-to-leading order: the share of negative weights, a fifth on average, grows with the momentum of
an additional jet, faster in background. All policies train on the same events; other events with signed weights score
them. The time is for 100,000 events with 30 features on one core.

Usage: python -m benchmarks.negative_weights [--events N] [--sets N]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from higgsbench import BuildContext, PhysicalClassifier
from higgsbench.metrics import roc_auc
from higgsbench.models import get_model
from higgsbench.models.building import build_estimator, log_odds_reader
from higgsbench.validation import NEGATIVE_WEIGHTS, resampled

TEST = 150_000


def events(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    """Return six features (n, 6), truth (n,) and signed weights (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.5
    X = rng.normal(size=(n, 6))
    X[:, 5] = rng.exponential(1.0, n)
    X += y[:, None] * np.array([0.8, 0.5, 0.3, 0.0, 0.0, 0.0])
    X[:, 5] += 0.4 * y * rng.exponential(1.0, n)
    share = np.clip(0.08 + np.where(y, 0.06, 0.14) * X[:, 5], 0.0, 0.45)
    return X.astype(np.float32), y, np.where(rng.random(n) < share, -1.0, 1.0) * rng.lognormal(0.0, 0.3, n)


def trained(name: str, policy: str, n: int, seed: int) -> float:
    """Return the weighted AUC of a model with the preset `good` under a policy."""
    spec = get_model(name)
    params = spec.preset("good").params
    inner = build_estimator(spec, params, BuildContext(seed, 1))
    model = PhysicalClassifier(inner, log_odds=log_odds_reader(spec, params), negative_weights=policy)
    X, y, w = events(n, seed)
    unseen, truth, weight = events(TEST, 99)
    return roc_auc(truth, model.fit(X, y, w).decision_function(unseen), weight).value


def resampling_time(n: int = 100_000) -> float:
    """Return the seconds to resample events with 30 features, a fifth of them negative, with some missing values."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 30)).astype(np.float32)
    X[rng.random(n) < 0.4, :8] = np.nan
    w = np.where(rng.random(n) < 0.2, -1.0, 1.0) * rng.lognormal(0.0, 0.5, n)
    begin = time.perf_counter()
    with threadpool_limits(limits=1):
        resampled(X, rng.random(n) < 0.3, w)
    return time.perf_counter() - begin


def main() -> None:
    """Print a table of weighted AUC, and the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--sets", type=int, default=3)
    given = parser.parse_args()
    print(f"resampling 100,000 events of 30 features: {resampling_time():.1f} s")
    policies = ("resample", *(policy for policy in NEGATIVE_WEIGHTS if policy != "resample"))
    for name in ("lightgbm", "logistic"):
        found = {
            policy: [trained(name, policy, given.events, seed) for seed in range(given.sets)] for policy in policies
        }
        for policy, values in found.items():
            loss = np.subtract(values, found["resample"])
            error = loss.std(ddof=1) / given.sets**0.5
            print(f"{name:10} {policy:10} {np.mean(values):.4f}  {loss.mean():+.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()
