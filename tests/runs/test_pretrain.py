"""Models that start from the built-in simulation: identity, cache, refusals, and what is declared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import higgsbench
from higgsbench.api.running import load_run_config, plan_run
from higgsbench.errors import ConfigError
from higgsbench.events.simulate import processes
from higgsbench.models.pretrain import resembling
from higgsbench.runs import RunResult, pretrain
from higgsbench.runs.cost import memory_need
from higgsbench.runs.pretrain import further_rounds
from higgsbench.runs.run import checked_plan
from tests.conftest import Call

from .conftest import Config, Notes, scores

PRETRAINED = """
data: {{path: {data}}}
models:
  - {{model: mlp, preset: quick, features: momenta, params: {{bag: 2}}, pretrain: {use}}}
  - {{label: trees, model: lightgbm, preset: quick, trained_on: {use}}}
  - {{label: plain, model: mlp, preset: quick, features: momenta}}
folds: 3
""".replace("{use}", "{{source: simulated, events: 3000, elsewhere: use}}")

BOTH = """
data: {{path: {data}}}
models:
  - {{label: both, model: lightgbm, preset: quick, trained_on: {both}}}
  - {{label: trees, model: lightgbm, preset: quick, trained_on: {{source: simulated, events: 3000, elsewhere: use}}}}
  - {{label: plain, model: lightgbm, preset: quick}}
folds: 3
stack: false
""".replace("{both}", "{{source: simulated+real, events: 3000, elsewhere: use}}")

TORCH = """
data: {{path: {data}}}
models:
  - model: torch_mlp
    params: {{hidden_layer_sizes: [8]}}
    pretrain: {{source: simulated, events: 3000, elsewhere: use}}
  - {{label: plain, model: torch_mlp, params: {{hidden_layer_sizes: [8]}}}}
preset: quick
folds: 2
"""


@pytest.fixture
def fresh(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # `call` has a cache of its own
    """An empty cache."""
    monkeypatch.setenv("HIGGSBENCH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "events"


def carried_out(file: Path, output: Path) -> tuple[RunResult, list[str]]:
    notes = Notes()
    return higgsbench.run(file, output=output, jobs=1, listener=notes), notes.lines


def simulated(lines: list[str]) -> int:
    return sum("training on 3,000 simulated events" in line for line in lines)


def test_made_once_declared_and_the_same_again(config: Config, tmp_path: Path, call: Call, fresh: Path) -> None:
    first, notes = carried_out(config(PRETRAINED), tmp_path / "a")
    assert simulated(notes) == 1
    declared = {row["name"]: row.get("simulation") for row in first.rows}
    assert declared == {"mlp": "pretrained on 3,000 events", "trees": "trained on 3,000 events", "plain": None,
                        "stack": "in members"}  # fmt: skip
    shown = call("leaderboard", tmp_path / "a")[1], call("compare", first.folder)[1]
    assert all("Uses simulation: " in text and "optimistic" in text for text in shown)
    again, notes = carried_out(config(PRETRAINED), tmp_path / "b")
    assert simulated(notes) == 0
    assert scores(first).equals(scores(again))
    for file in fresh.glob("*.model"):
        file.write_bytes(file.read_bytes()[:-1])
    third, notes = carried_out(config(PRETRAINED), tmp_path / "c")
    assert simulated(notes) == 1  # a damaged file is not used
    assert scores(first).equals(scores(third))
    assert not [file for file in fresh.iterdir() if file.suffix not in (".json", ".model", ".parquet")]
    fourth, _ = carried_out(first.folder / "config.yaml", tmp_path / "a")  # the resolved configuration
    assert fourth.trained == 0


def test_a_plan_names_what_is_not_in_the_cache(config: Config, tmp_path: Path, call: Call, fresh: Path) -> None:
    file = config(PRETRAINED)
    output = call("run", file, "--plan", "-j", "1")[1]
    assert "not part of this prediction: first training mlp on 3,000 simulated events, trees on 3,000" in output
    carried_out(file, tmp_path)
    again = plan_run(file, output=tmp_path / "another", jobs=1)
    assert (again.pretraining, again.rows[0].stored) == ((), 0)


def test_torch_goes_on_from_its_pretrained_networks(config: Config, tmp_path: Path, fresh: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra 'torch'")
    file = config(TORCH)
    first, notes = carried_out(file, tmp_path / "a")
    assert simulated(notes) == 1
    assert [row.get("simulation") for row in first.rows] == ["pretrained on 3,000 events", None, "in members"]
    pretrained, plain = (scores(first)[f"score:{name}"].to_numpy() for name in ("torch_mlp", "plain"))
    assert abs(pretrained - plain).mean() > 0.1
    again, notes = carried_out(file, tmp_path / "b")
    assert simulated(notes) == 0
    assert scores(first).equals(scores(again))


def test_stored_models_score_like_the_run(config: Config, tmp_path: Path, toys: Path) -> None:
    run, _ = carried_out(config(PRETRAINED, data=toys), tmp_path)
    for name in ("mlp", "trees"):
        found = higgsbench.predict(run.folder, toys, model=name, subsets=["b", "v"])
        assert found["score"].equals(scores(run, "test_scores.parquet")[f"score:{name}"].alias("score"))


def test_a_change_of_the_simulation_trains_again(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried_out(config(PRETRAINED), tmp_path)
    monkeypatch.setattr(processes, "SIMULATION_VERSION", processes.SIMULATION_VERSION + 1)
    run, notes = carried_out(config(PRETRAINED), tmp_path)
    assert (simulated(notes), run.trained) == (1, 6)  # not the row without simulation


def test_real_events_beside_simulated_ones(config: Config, tmp_path: Path, call: Call, fresh: Path, toys: Path) -> None:
    file = config(BOTH, data=toys)
    assert "not part of this prediction: first training trees on 3,000 simulated" in call("run", file, "--plan")[1]
    first, notes = carried_out(file, tmp_path / "a")
    assert simulated(notes) == 1  # for the row trained on these only
    declared = {row["name"]: row.get("simulation") for row in first.rows}
    assert declared == {"both": "trained on 3,000 events and the run's", "trees": "trained on 3,000 events",
                        "plain": None}  # fmt: skip
    both, trees, plain = (scores(first)[f"score:{name}"].to_numpy() for name in ("both", "trees", "plain"))
    assert min(abs(both - trees).mean(), abs(both - plain).mean()) > 0.1
    again, _ = carried_out(file, tmp_path / "b")
    assert scores(first).equals(scores(again))
    found = higgsbench.predict(first.folder, toys, model="both", subsets=["b", "v"])
    assert found["score"].equals(scores(first, "test_scores.parquet")["score:both"].alias("score"))
    assert carried_out(file, tmp_path / "a")[0].trained == 0


def test_the_memory_of_events_beside_those_of_the_run(config: Config) -> None:
    few, many = (
        memory_need(checked_plan(load_run_config(config(BOTH.replace("3000", number, 1))), Notes()), 1)
        for number in ("3000", "1_000_000")
    )
    assert many.of(0) - few.of(0) > 600e6  # measured: 550 bytes per event, 750 if they are not in the cache
    assert many.unit[1:] == few.unit[1:]
    with pytest.raises(ConfigError, match=r"both: needs about .* events and 1,000,000 simulated ones x 30 features"):
        higgsbench.run(config("memory_limit: 600MB\n" + BOTH.replace("3000", "1000000", 1)))


def test_simulated_events_come_to_resemble_real_ones() -> None:
    rng = np.random.default_rng(0)
    truth, others = rng.random(3000) < 0.4, rng.random(20_000) < 0.5
    X, more = (
        rng.normal(0.4 * truth[:, None], 1.0, (3000, 2)),
        rng.normal(0.4 * others[:, None] + 0.3, 1.0, (20_000, 2)),
    )
    weight, before = rng.uniform(0.5, 2.0, 3000), rng.uniform(0.5, 2.0, 20_000)
    after = resembling((X, truth, weight), (more, others, before), seed=0, threads=1)
    assert (after > 0).all()
    for label in (False, True):
        assert after[others == label].sum() == pytest.approx(weight[truth == label].sum())
        for column in (0, 1):
            real = np.average(X[truth == label, column], weights=weight[truth == label])
            far, near = (np.average(more[others == label, column], weights=w[others == label]) for w in (before, after))
            assert abs(near - real) < 0.4 * abs(far - real)


@pytest.mark.parametrize(("events", "epochs"), [(None, 5), (12_000, 5), (70_000, 7), (200_000, 20), (2_000_000, 20)])
def test_many_events_are_seen_more_often(events: int | None, epochs: int) -> None:
    assert further_rounds(5, events) == epochs


def test_the_epochs_follow_the_training_events_of_a_fit(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "EVENTS_PER_EPOCH", 10)
    rows = checked_plan(load_run_config(config(PRETRAINED)), Notes()).rows
    assert [row.params.get("max_iter") for row in rows] == [20, None, 6]
    chosen = PRETRAINED.replace("{bag: 2}", "{bag: 2, max_iter: 4}")
    assert checked_plan(load_run_config(config(chosen)), Notes()).rows[0].params["max_iter"] == 4


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("model: mlp, pretrain: simulated", "pretrain: the events of the run are simulated themselves; remove the key"),
        ("model: lightgbm, pretrain: simulated", "model 'lightgbm' cannot continue a fit; use mlp or torch_mlp"),
        ("model: mlp, pretrain: simulated, trained_on: simulated", "exclude each other; remove one of them"),
        ("model: mlp, pretrain: real", "pretrain: expected 'simulated', got 'real'"),
        ("model: mlp, pretrain: simulated+real", "pretrain: expected 'simulated', got 'simulated.real'"),
        ("model: mlp, trained_on: real", "trained_on: expected 'simulated' or 'simulated.real', got 'real'"),
        (
            "model: lightgbm, training_weights: none, trained_on: {{source: simulated+real, elsewhere: use}}",
            "simulated.real needs weights, and lightgbm trains without; use `trained_on: simulated` or other",
        ),
        (
            "model: mlp, jet_split: groups, pretrain: {{source: simulated, elsewhere: use}}",
            "`jet_split: groups`; remove",
        ),
    ],
)
def test_refused(config: Config, entry: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        higgsbench.run(config(f"data: {{{{path: {{data}}}}}}\nmodels: [{{{{{entry}}}}}]"))
    assert "\n" not in str(caught.value)


def test_skipped_where_it_does_not_apply(config: Config, tmp_path: Path) -> None:
    model = "{{model: mlp, preset: quick, pretrain: {{source: simulated, elsewhere: skip}}}}"
    text = "data: {{path: {data}}}\nmodels: [" + model + "]"
    run, notes = carried_out(config(text), tmp_path)
    assert any("mlp: trained without `pretrain`: the events of the run are simulated" in line for line in notes)
    assert "simulation" not in run.rows[0]
