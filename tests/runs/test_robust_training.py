"""Training that should be robust: flat training weights, a penalty in the networks, shifted copies of events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

import higgsbench
from higgsbench.config.training import Augmentation
from higgsbench.errors import ConfigError
from higgsbench.events.shifts import Shifts
from higgsbench.features import resolve_features
from higgsbench.runs.dataset import Matrix
from higgsbench.runs.robust import _drawn
from higgsbench.validation import planed

from .conftest import Register, scores

Config = Callable[..., Path]
MASS = "DER_mass_MMC"
PLANED = """
data: {{path: {data}}}
models:
  - {{model: lightgbm, preset: quick}}
  - {{model: lightgbm, preset: quick, label: flat, training_weights: {{flat_in: DER_mass_MMC}}, jet_split: both}}
folds: 2
stack: false
spectators: [DER_mass_MMC]
"""


def test_planing_makes_both_classes_flat_in_each_part() -> None:
    rng = np.random.default_rng(1)
    y, part = rng.random(6000) < 0.3, rng.integers(0, 2, 6000)
    mass = np.where(y, rng.normal(130.0, 50.0, 6000), rng.gamma(4.0, 25.0, 6000))
    mass[rng.random(6000) < np.where(y, 0.02, 0.1)] = np.nan
    weight = rng.gamma(2.0, size=6000) * np.where(y, 1e-3, 1.0)
    found = planed(y, weight, mass, part)
    assert (found > 0.0).all()
    for number in (0, 1):
        own = [(part == number) & members for members in (y, ~y)]
        for members in own:
            assert found[members].sum() == pytest.approx(weight[members].sum())
        edges = np.nanquantile(mass[own[0]], np.linspace(0.05, 0.95, 6))
        signal, background = (np.histogram(mass[m], edges, weights=found[m])[0] / found[m].sum() for m in own)
        assert signal == pytest.approx(background, rel=0.1)
        missing = [found[m & np.isnan(mass)].sum() / found[m].sum() for m in own]
        assert missing[0] == pytest.approx(missing[1], rel=0.05)


def test_a_bin_without_positive_weight_stays_as_it_is() -> None:
    y, mass = np.array([1, 1, 0, 0, 0], bool), np.array([1.0, 2.0, 1.0, 2.0, 2.0])
    weight = np.array([1.0, 1.0, 2.0, 1.0, -1.0])
    found = planed(y, weight, mass, np.zeros(5, np.int64))
    assert found[3] == -found[4]
    assert found[~y].sum() == pytest.approx(2.0)


def test_flat_training_weights_reach_the_fit_and_only_that(config: Config, tmp_path: Path) -> None:
    result = higgsbench.run(config(PLANED), output=tmp_path, jobs=1)
    rows = {row["name"]: row for row in result.rows}
    assert {row["training_weights"] for row in rows.values()} == {"balanced", f"flat in {MASS}"}
    assert [rows[name]["calibration"] for name in ("lightgbm", "flat", "flat [jets]")] == ["prior", "logit", "logit"]
    assert rows["flat"][f"jsd:{MASS}"] < rows["lightgbm"][f"jsd:{MASS}"]
    assert len({scores(result)[f"score:{name}"].sum() for name in rows}) == 3
    again = higgsbench.run(result.folder / "config.yaml", output=tmp_path, jobs=1)
    assert (again.trained, again.folder) == (0, result.folder)
    plain = higgsbench.run(config(PLANED), only=["lightgbm"], output=tmp_path, jobs=1)
    assert plain.trained == 0  # the other rows do not change what identifies its fits


NETWORKS = """
data: {{path: {data}}}
models:
  - {{model: torch_mlp, preset: quick}}
  - {{model: torch_mlp, preset: quick, label: free, params: {{bag: 2}},
      decorrelate: {{column: DER_mass_MMC, strength: 5}}, jet_split: both}}
folds: 2
stack: false
spectators: [DER_mass_MMC]
"""


def test_the_penalty_frees_the_score_from_the_column(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra 'torch'")
    result = higgsbench.run(config(NETWORKS), output=tmp_path, jobs=1)
    assert not result.failures
    rows = {row["name"]: row for row in result.rows}
    key = f"dcor_background:{MASS}"
    assert rows["free"][key] < 0.8 * rows["torch_mlp"][key]
    assert (rows["free"]["decorrelated"], rows["free"]["calibration"]) == (MASS, "logit")
    again = higgsbench.run(result.folder / "config.yaml", output=tmp_path, jobs=1)
    assert (again.trained, again.folder) == (0, result.folder)


COPIES = """
data: {{path: {data}}}
models:
  - {{model: counts}}
  - {{model: counts, label: copies, training: {{augment: [tes=0.03, jes=0.02], copies: 2}}, jet_split: both}}
folds: 2
stack: false
store_models: false
calibration: prior
"""


class Counts(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Scores every event by the number of events that it was trained on."""

    def fit(self, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[Any] | None = None) -> Counts:
        self.classes_, self.events_ = np.unique(y), len(X)
        return self

    def decision_function(self, X: NDArray[Any]) -> NDArray[Any]:
        return np.full(len(X), float(self.events_))


def test_copies_reach_the_fit(config: Config, tmp_path: Path, registered: Register) -> None:
    registered("counts", lambda params, context: Counts())
    result = higgsbench.run(config(COPIES), output=tmp_path, jobs=1)
    assert not result.failures
    found = {name: scores(result)[f"score:{name}"].to_numpy() for name in ("counts", "copies")}
    n = len(found["counts"])
    # The prior shift is the same, and each fit sees half of the events three times.
    np.testing.assert_allclose(found["copies"] - found["counts"], 2.0 * (n - n // 2), atol=2.0)
    rows = {row["name"]: row.get("shifted_copies") for row in result.rows}
    assert rows == {"counts": None, "copies": 2, "copies [jets]": 2}
    again = higgsbench.run(result.folder / "config.yaml", output=tmp_path, jobs=1)
    assert (again.trained, again.folder) == (0, result.folder)


def test_copies_have_shifted_features_whose_mean_shift_is_none(training_only: Path) -> None:
    drawn = _drawn(Augmentation(augment=["tes=3%", "soft_met=2"], copies=6))
    assert np.sum([[shifts.tes, shifts.soft_met] for shifts in drawn], axis=0) == pytest.approx([0.0, 0.0])
    assert 0.01 < np.std([shifts.tes for shifts in drawn]) < 0.06
    events = higgsbench.load_events(training_only)
    features = resolve_features(events.schema, columns=["PRI_tau_pt", "PRI_lep_pt", MASS])
    nominal, moved = (Matrix(features, shifts) for shifts in (None, Shifts(tes=0.1)))
    before, after = (matrix.values(events.frame, events.schema) for matrix in (nominal, moved))
    np.testing.assert_allclose(after[:, 0], 1.1 * before[:, 0], atol=1e-3)
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    assert np.nanmean(after[:, 2] / before[:, 2]) > 1.01
    assert nominal.name == f"X-{features.digest}" != moved.name


def test_events_without_momenta_cannot_be_shifted(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("x,label\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    schema = {"features": ["x"], "label": "label", "signal": 1}
    models = [{"model": "lightgbm", "training": {"augment": ["tes=0.03"]}}]
    with pytest.raises(ConfigError, match=r"training\.augment: energy shifts need the momentum columns"):
        higgsbench.run({"data": {"path": str(table), "schema": schema}, "models": models}, output=tmp_path / "out")


FLAT = f"training_weights: {{{{flat_in: {MASS}}}}}"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("model: lightgbm, training_weights: {{flat_in: DER_mas_MMC}}", "training_weights.flat_in: .*DER_mass_MMC"),
        ("model: lightgbm, training_weights: {{flat: DER_mass_MMC}}", "unknown key 'flat'.*flat_in"),
        (f"model: lightgbm, trained_on: simulated, {FLAT}", "flat_in: cannot be combined with `pretrain` or"),
        (f"model: lightgbm, decorrelate: {{{{column: {MASS}}}}}", "'lightgbm' has no such penalty; use torch_mlp"),
        ("model: lightgbm, decorrelate: {{column: DER_mass_MMC, strength: 0}}", "strength: .*greater than 0"),
        ("model: lightgbm, training: {{augment: [tes=0.9]}}", "expected NAME=SIZE, such as tes=0.03.*'tes=0.9'"),
        ("model: lightgbm, training: {{augment: [soft_met=3%]}}", "expected NAME=SIZE.*'soft_met=3%'"),
        ("model: lightgbm, training: {{augment: [z_scale=0.1]}}", "expected NAME=SIZE.*'z_scale=0.1'"),
        ("model: lightgbm, training: {{augment: [tes=0.01, tes=0.02]}}", "shift 'tes' is named twice"),
        ("model: lightgbm, training: {{augment: [tes=0.01], copies: 3}}", "copies: .*multiple of 2"),
        ("model: lightgbm, preset: best, training: {{augment: [tes=0.01]}}", "combined with early stopping"),
    ],
)
def test_impossible_choices_are_refused(config: Config, tmp_path: Path, keys: str, message: str) -> None:
    file = config(f"data: {{{{path: {{data}}}}}}\nmodels: [{{{{{keys}}}}}]\n")
    with pytest.raises(ConfigError, match=message):
        higgsbench.run(file, output=tmp_path / "out", jobs=1)
