"""Folds by an expression of each event, and scores of the models that did not see an event."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

import higgsbench
from higgsbench.api.scoring import predict
from higgsbench.config.document import read_yaml
from higgsbench.config.load import load_config
from higgsbench.errors import ConfigError, DataError, HiggsbenchWarning
from higgsbench.runs import predict as predict_module
from higgsbench.runs import unit as blocks

MODELS = """
  - {model: logistic, preset: quick, params: {max_iter: 60}}
  - {model: xgboost, params: {n_estimators: 4, bag: 2}, training_weights: sqrt_balanced, calibration: logit,
     jet_split: groups}
  - {model: lightgbm, params: {n_estimators: 4}, features: {drop: [DER_mass_MMC]}}
"""
ROWS = ["logistic", "xgboost [jets]", "lightgbm", "stack"]


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Score in many blocks, as large files are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 211)
        patch.setattr(predict_module, "BLOCK", 211)
        patch.setattr(predict_module, "_READ_BYTES", 40_000)
        yield


def made(place: Path, data: Path, *settings: str, only: Sequence[str] = ()) -> Path:
    (place / "c.yaml").write_text(f"data: {{path: {data}}}\nmodels:{MODELS}stack: nonnegative\n")
    return higgsbench.run(place / "c.yaml", output=place / "out", jobs=1, settings=settings, only=only).folder


@pytest.fixture(scope="module")
def by_number(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("by"), toys, "folds={by: EventId % 3}")


@pytest.fixture(scope="module")
def by_number_and_seeds(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("seeds"), toys, "folds={by: EventId % 3}", "seed=[5, 6]")


@pytest.fixture(scope="module")
def repeated(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with random folds, twice."""
    return made(tmp_path_factory.mktemp("repeated"), toys, "folds=2", "repeats=2")


def test_the_rule_makes_the_folds(by_number: Path) -> None:
    table = pl.read_parquet(by_number / "scores.parquet")
    assert (table["EventId"] % 3 == table["fold"]).all()
    assert read_yaml(by_number / "config.yaml").value["folds"] == {"k": 3, "by": "EventId % 3"}
    stored = higgsbench.Leaderboard.read(by_number.parent).tables[0]
    assert "3 folds" in stored.title


def test_the_resolved_configuration_runs_again_unchanged(by_number: Path) -> None:
    again = higgsbench.run(by_number / "config.yaml", output=by_number.parent, jobs=1)
    assert (again.folder, again.trained) == (by_number, 0)
    assert load_config(by_number / "config.yaml", ["folds=4"]).config.folds == 4


def stored(run: Path, name: str) -> pl.DataFrame:
    """Return the scores of a run: the mean over the repeats."""
    table = pl.read_parquet(run / "scores.parquet")
    parts = [part[f"score:{name}"].to_numpy() for part in table.partition_by("repeat")]
    first = table.filter(pl.col("repeat") == 0)["EventId"]
    return pl.DataFrame({"EventId": first, "score": sum(parts[1:], start=parts[0]) / len(parts)})


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("kind", ["by_number", "by_number_and_seeds", "repeated"])
def test_training_events_score_as_in_the_run(kind: str, jobs: int, toys: Path, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    for name in ROWS:
        found = predict(run, toys, model=name, jobs=jobs, subsets=["t"], out_of_fold="always")
        assert found.select("EventId", "score").equals(stored(run, name)), name


@pytest.fixture
def renumbered(toys: Path, tmp_path: Path) -> Path:
    """The events without truth; every second one has the number of no training event."""
    events = pl.read_csv(toys, infer_schema_length=None).drop("Label", "Weight", "KaggleSet", "KaggleWeight")
    odd = pl.int_range(events.height) % 2
    events.with_columns(pl.col("EventId") + 3_000_000 * odd).write_csv(tmp_path / "new.csv")
    return tmp_path / "new.csv"


def test_a_rule_is_for_all_events(by_number: Path, renumbered: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An event with another number and the same remainder has the same score, trained on or not."""
    with caplog.at_level(logging.INFO, "higgsbench"), warnings.catch_warnings(action="error"):
        found = predict(by_number, renumbered, model="lightgbm")
    assert "new.csv: 2,400 of 2,400 events scored out of fold, by models that did not see them" in caplog.text
    back = found.with_columns(pl.col("EventId") - 3_000_000 * (pl.int_range(found.height) % 2))
    both = back.join(stored(by_number, "lightgbm"), "EventId")
    assert both.height > 500
    assert both["score"].equals(both["score_right"].alias("score"))


def test_new_events_are_scored_by_all_models(
    repeated: Path, renumbered: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = pl.int_range(2400) % 2 == 1
    with caplog.at_level(logging.INFO, "higgsbench"), warnings.catch_warnings(action="error"):
        found = predict(repeated, renumbered, model="xgboost [jets]", jobs=2)
    with pytest.warns(HiggsbenchWarning, match="the run was trained on; their scores are optimistic"):
        never = predict(repeated, renumbered, model="xgboost [jets]", out_of_fold="never")
    assert found.filter(new).equals(never.filter(new))
    own = found.filter(~new).join(stored(repeated, "xgboost [jets]"), "EventId")
    assert own["score"].equals(own["score_right"].alias("score"))
    assert f"new.csv: {own.height:,} of 2,400 events scored out of fold" in caplog.text
    with pytest.raises(DataError, match=r"new.csv: row \d+ \(line \d+\): event \d+ has no fold"):
        predict(repeated, renumbered, out_of_fold="always")


def test_a_refit_has_no_models_of_folds(toys: Path, tmp_path: Path) -> None:
    run = made(tmp_path, toys, "folds={by: EventId % 3}", "test_prediction=refit", only=["lightgbm"])
    with pytest.warns(HiggsbenchWarning, match="was trained on, and it has no models of its folds; their scores are"):
        found = predict(run, toys)
    assert found.height == 2400
    with pytest.raises(ConfigError, match=r"--out-of-fold always: .* has no models of its folds"):
        predict(run, toys, out_of_fold="always")


def test_members_and_copied_columns(by_number: Path, toys: Path) -> None:
    found = predict(by_number, toys, subsets=["t"], members=True, columns=["Label", "DER_mass_MMC", "Weight"])
    names = ["score_logistic", "score_xgboost_jets", "score_lightgbm"]
    assert found.columns == ["EventId", "score", "selected", *names, "Label", "DER_mass_MMC", "Weight"]
    assert found["score"].equals(stored(by_number, "stack")["score"])
    for column, name in zip(names, ROWS, strict=False):
        assert found[column].equals(stored(by_number, name)["score"].alias(column))
    events = pl.read_csv(toys, infer_schema_length=None).filter(pl.col("KaggleSet") == "t")
    assert found.select("Label", "DER_mass_MMC", "Weight").equals(events.select("Label", "DER_mass_MMC", "Weight"))
    for columns, message in (
        (["Wight"], r"toys.csv has no column 'Wight' \(did you mean 'Weight'\?\)"),
        (["EventId"], "the table already has a column 'EventId'"),
        (["Label", "Label"], "the table already has a column 'Label'"),
    ):
        with pytest.raises(DataError, match=message):
            predict(by_number, toys, columns=columns)
    with pytest.raises(ConfigError, match="--members: lightgbm is not a stack; leave out --members"):
        predict(by_number, toys, model="lightgbm", members=True)


def test_wrong_choice(by_number: Path, toys: Path) -> None:
    with pytest.raises(ConfigError, match="--out-of-fold sometimes: expected auto, never or always"):
        predict(by_number, toys, out_of_fold="sometimes")
