"""What share of one-cell corruptions is noticed; benchmarks/validation_corruptions.py prints the whole table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.validation_corruptions import KINDS, corruptions_caught, total_share

if TYPE_CHECKING:
    import polars as pl

    from benchmarks.validation_corruptions import Caught

# Measured shares are 1 to 3 percentage points higher; a rule that stops working costs more than that.
LEAST = {
    "sign flipped": 0.96,
    "times 10": 0.88,
    "plus 1": 0.87,
    "last digit plus 1": 0.18,
    "another event's value": 0.87,
    "value to missing": 0.94,
    "missing to value": 0.92,
    "another Label": 0.98,
}
BLIND = {"DER_mass_MMC", "PRI_met_sumet"}
"""No other column says what these ought to be."""


def check(results: list[Caught]) -> None:
    for kind in dict.fromkeys(result.kind for result in results):
        share = total_share([r for r in results if r.kind == kind])
        sys.stdout.write(f"{kind:<25}{sum(r.cells for r in results if r.kind == kind):>8,}{share:>8.1%}\n")
        assert share >= LEAST.get(kind, 0.0), kind
    plain = [r for r in results if r.kind not in ("last digit plus 1", "another KaggleSet")]
    assert sum(r.cells for r in plain) > 10_000
    assert total_share(plain) > 0.9
    assert total_share([r for r in plain if r.column not in BLIND]) > 0.95
    assert total_share(plain, strict=True) >= total_share(plain)


def test_simulated_events(toys: pl.DataFrame) -> None:
    results = corruptions_caught(toys, seed=1)
    assert {result.kind for result in results} == {*KINDS, "another Label", "another KaggleSet"}
    check(results)
    # With several sets in the file, each has its ratio of weights.
    assert total_share([r for r in results if r.kind == "another KaggleSet"]) > 0.95


def test_real_events(sample: pl.DataFrame) -> None:
    check(corruptions_caught(sample, seed=1))


def test_weights_cannot_be_changed_unnoticed(toys: pl.DataFrame) -> None:
    results = [r for r in corruptions_caught(toys, seed=2) if r.column in ("Weight", "KaggleWeight")]
    results = [r for r in results if r.kind != "last digit plus 1"]  # below the tolerance for large weights
    assert total_share(results) == pytest.approx(1.0)


def test_same_seed_same_answer(toys: pl.DataFrame) -> None:
    assert corruptions_caught(toys.head(500), seed=3) == corruptions_caught(toys.head(500), seed=3)
