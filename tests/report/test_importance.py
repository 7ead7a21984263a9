from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from higgsbench.errors import StoreError
from higgsbench.pages.pictures import Pictures
from higgsbench.report.importance import permutation_importance
from higgsbench.report.page import render_report

from .conftest import Make


class Sum:
    """Scores that depend on some columns only."""

    name = "sum"

    def __init__(self, **factors: float) -> None:
        self.factors = factors

    def scores(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        columns: list[Any] = [factor * frame[name].fill_null(0.0).to_numpy() for name, factor in self.factors.items()]
        return np.asarray(np.sum(columns, axis=0), dtype=np.float64)


def test_what_matters_comes_first_and_what_is_not_used_costs_nothing() -> None:
    rng = np.random.default_rng(6)
    y = rng.random(2000) < 0.5
    frame = pl.DataFrame({"weak": rng.normal(size=y.size) + 0.3 * y, "strong": rng.normal(size=y.size) + 2.0 * y,
                          "unused": rng.normal(size=y.size)})  # fmt: skip
    scorer = Sum(strong=2.0, weak=0.3)
    weight = rng.uniform(0.5, 1.5, y.size)
    found = permutation_importance(scorer, frame, y, weight, ["unused", "weak", "strong"])
    assert [entry.feature for entry in found] == ["strong", "weak", "unused"]
    assert found[-1].loss == pytest.approx(0.0, abs=1e-12)
    assert found[0].loss > 0.2
    assert found == permutation_importance(scorer, frame, y, weight, ["unused", "weak", "strong"])


@pytest.mark.usefixtures("undrawn")
def test_a_report_with_a_scorer(make: Make) -> None:
    pytest.importorskip("mplhep", reason="needs the extra 'report'")
    scorer = Sum(DER_mass_MMC=0.01)
    text = render_report(make(), Pictures(), scorer=scorer)
    assert "Permutation importance of sum on held-out events; largest losses of weighted AUC: DER_mass_MMC" in text
    with pytest.raises(StoreError, match="needs held-out events"):
        render_report(make("other", test=False), Pictures(), scorer=scorer)
