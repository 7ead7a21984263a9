"""Training that keeps the score from following a column: flat training weights and a penalty in the networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import higgsbench
from higgsbench.errors import ConfigError
from higgsbench.validation import planed

from .conftest import scores

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


FLAT = f"training_weights: {{{{flat_in: {MASS}}}}}"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("model: lightgbm, training_weights: {{flat_in: DER_mas_MMC}}", "training_weights.flat_in: .*DER_mass_MMC"),
        ("model: lightgbm, training_weights: {{flat: DER_mass_MMC}}", "unknown key 'flat'.*flat_in"),
        (f"model: lightgbm, trained_on: simulated, {FLAT}", "flat_in: cannot be combined with `pretrain` or"),
        (f"model: lightgbm, decorrelate: {{{{column: {MASS}}}}}", "'lightgbm' has no such penalty; use torch_mlp"),
        ("model: lightgbm, decorrelate: {{column: DER_mass_MMC, strength: 0}}", "strength: .*greater than 0"),
    ],
)
def test_impossible_choices_are_refused(config: Config, tmp_path: Path, keys: str, message: str) -> None:
    file = config(f"data: {{{{path: {{data}}}}}}\nmodels: [{{{{{keys}}}}}]\n")
    with pytest.raises(ConfigError, match=message):
        higgsbench.run(file, output=tmp_path / "out", jobs=1)
