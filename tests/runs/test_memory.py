"""Runs within a memory limit."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from pathlib import Path
from typing import Any

import pytest

import higgsbench
from higgsbench.api.running import load_run_config
from higgsbench.config.load import LoadedConfig
from higgsbench.errors import ConfigError
from higgsbench.events import cache
from higgsbench.models import building as device
from higgsbench.runs import budget, cost, unit
from higgsbench.runs.dataset import Dataset, load_dataset
from higgsbench.runs.plan import Plan, make_plan
from tests.conftest import Call
from tests.runs.conftest import Config, Notes, scores

TREES = """
data: {{source: file, path: {data}}}
models:
  - {{model: xgboost, params: {{n_estimators: 10, max_depth: 3, min_child_weight: 1}}, jet_split: both}}
  - {{model: xgboost, label: bagged, params: {{n_estimators: 8, max_depth: 2, min_child_weight: 1, bag: 2}}}}
folds: 2
seed: 5
"""


def planned(config: Path, limit: str | None = None) -> tuple[LoadedConfig, Dataset, Plan]:
    settings = () if limit is None else (f"memory_limit={limit}",)
    loaded = load_run_config(config, settings=settings)
    dataset = load_dataset(loaded.config)
    return loaded, dataset, make_plan(loaded, dataset)


def test_events_on_disk_run_alike(config: Config, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config(TREES, data=toys)  # with held-out events in the same file
    in_memory = higgsbench.run(file, output=tmp_path / "a", jobs=1, only=["xgboost"])
    monkeypatch.setattr(higgsbench.events, "LARGE_FILE", 0)
    monkeypatch.setattr(higgsbench.events.open_events, "__kwdefaults__", {"large": 0})
    monkeypatch.setattr(cache, "BATCH", 500)
    dataset = load_dataset(load_run_config(file).config)
    assert isinstance(dataset.train, cache.StoredEvents)
    assert isinstance(dataset.test, cache.StoredEvents)
    from_disk = higgsbench.run(file, output=tmp_path / "b", jobs=1, only=["xgboost"])
    assert from_disk.folder.name == in_memory.folder.name
    assert scores(from_disk).equals(scores(in_memory))
    assert scores(from_disk, "test_scores.parquet").equals(scores(in_memory, "test_scores.parquet"))
    assert {p.name for p in (from_disk.folder / "units").iterdir()} == {
        p.name for p in (in_memory.folder / "units").iterdir()
    }


class TestFromDisk:
    def test_same_scores_under_another_identity(self, config: Config, tmp_path: Path) -> None:
        file = config(TREES)
        loaded, dataset, plan = planned(file)
        names = frozenset(row.name for row in plan.rows)
        disk = make_plan(loaded, dataset, names)
        assert all(row.from_disk for row in disk.rows)
        assert not {u.key for u in plan.units} & {u.key for u in disk.units}
        assert [u.key for u in make_plan(loaded, dataset).units] == [u.key for u in plan.units]

    @pytest.mark.skipif(
        int(importlib.metadata.version("xgboost").split(".")[0]) < 3, reason="XGBoost trains from disk since 3.0"
    )
    def test_a_run_from_disk(self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = config(TREES)
        in_memory = higgsbench.run(file, output=tmp_path / "a", jobs=1)
        only_disk_fits(monkeypatch)
        listener = Notes()
        disk = higgsbench.run(file, output=tmp_path / "b", jobs=1, listener=listener)
        assert not disk.failures
        assert [note.split(":")[0] for note in listener.lines] == ["xgboost", "xgboost [jets]", "bagged"]
        assert all("trained from disk; in memory it needs about" in note for note in listener.lines)
        assert all(row["from_disk"] for row in disk.rows if row["label"] != "stack")
        assert not any("from_disk" in row for row in in_memory.rows)
        # With so few events even the bits are the same; what is promised is the AUC.
        for a, b in zip(in_memory.rows, disk.rows, strict=True):
            assert a["auc"] == pytest.approx(b["auc"], abs=2e-3)
        assert scores(disk).equals(scores(in_memory))
        again = Notes()
        assert higgsbench.run(file, output=tmp_path / "b", jobs=1, listener=again).trained == 0

    def test_the_number_of_processes_does_not_decide_it(self, config: Config) -> None:
        """Scores from disk differ in their last bits, and scores may not depend on `--jobs`."""
        loaded, _, plan = planned(config(TREES))
        need = cost.memory_need(plan, 1)
        between = f"{int(need.total + 1e6)}B"
        loaded, _, plan = planned(config(TREES), between)
        assert budget.fit_to_memory(loaded, plan, 1)[0] == plan
        with pytest.raises(ConfigError, match=r"memory_limit is .* MB: use --jobs 1, or fewer events"):
            budget.fit_to_memory(loaded, plan, 4)

    def test_stored_rows_stay_in_memory(self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = higgsbench.run(config(TREES), output=tmp_path, jobs=1)
        only_disk_fits(monkeypatch)
        second = higgsbench.run(config(TREES), output=tmp_path, jobs=1)
        assert (second.trained, second.rows) == (0, first.rows)


def only_disk_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the limit between what rows need from disk and in memory, as if each matrix were large."""
    real = cost._fit_bytes
    monkeypatch.setattr(cost, "_fit_bytes", lambda row, events: 0.0 if row.from_disk else 1e12 + real(row, events))
    monkeypatch.setattr(budget, "available_memory", lambda: int(1e11))


class TestRefusal:
    @pytest.mark.parametrize("how", ["--jobs 2", "--plan --jobs 2"])
    def test_by_numbers_before_anything_is_trained(self, config: Config, call: Call, how: str) -> None:
        code, _, error = call("run", config(), "--output", "out", "--memory-limit", "50MB", *how.split())
        assert code == 2
        assert "logistic: needs about " in error
        assert re.search(r"for \d+ events x 30 features x 2 processes; memory_limit is 50 MB: use fewer", error)
        assert len(error.strip().splitlines()) == 1
        assert not Path("out").exists()

    def test_from_disk_may_be_too_much_too(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded, _, plan = planned(config(TREES), "100MB")
        with pytest.raises(ConfigError, match=r"xgboost: needs about \d+ MB for"):  # blocks larger than these events
            budget.fit_to_memory(loaded, plan, 2)
        only_disk_fits(monkeypatch)
        with pytest.raises(ConfigError, match=r"xgboost: needs about \d+ MB even from disk for"):
            budget.fit_to_memory(loaded, plan, 2)


def test_the_need_grows_with_events_columns_and_processes(config: Config) -> None:
    _, _, plan = planned(config())
    one, two = (cost.memory_need(plan, jobs) for jobs in (1, 2))
    assert one.total < two.total
    large = cost.memory_need(plan, 2, events=10_000_000)
    matrix = 4.0 * 10_000_000 * 30
    assert large.total > 2 * 2.0 * matrix
    assert large.processes == 2
    disk = dataclasses.replace(plan, rows=tuple(dataclasses.replace(r, from_disk=True) for r in plan.rows))
    assert cost.memory_need(disk, 2, events=10_000_000).total < large.total


def test_device_fallback_is_told_and_stored(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device.unusable.cache_clear()
    monkeypatch.setattr(device, "cuda_devices", lambda: 0)
    listener = Notes()
    file = config(TREES)
    processor = higgsbench.run(file, output=tmp_path, jobs=1, only=["xgboost"])
    asked = higgsbench.run(file, output=tmp_path, jobs=1, only=["xgboost"], settings=["device=cuda"], listener=listener)
    device.unusable.cache_clear()
    assert listener.lines.count("xgboost: no usable CUDA device; trained on the processor") == 1
    assert asked.trained == 0  # the units are those of the processor
    assert scores(asked).equals(scores(processor))
    notes = [row.get("device_note") for row in asked.rows if row["label"] == "xgboost"]
    assert notes == ["xgboost: no usable CUDA device; trained on the processor"] * 2
    assert "device_note" not in processor.rows[0]


def test_mapped_rows_are_copied_once_and_let_go(tmp_path: Path) -> None:
    import numpy as np

    from higgsbench.runs.unit import BLOCK, chosen_rows

    space = unit.Workspace(str(tmp_path))
    values = np.arange(3 * (2 * BLOCK + 5), dtype=np.float32).reshape(-1, 3)
    with space.matrix("X", values.shape) as file:
        for first in range(0, len(values), 1000):
            file.write(values[first : first + 1000].data)
    X: Any = space.load("X")
    assert np.array_equal(X, values)
    rows, numbers = np.arange(0, len(values), 2), np.arange(len(values)) % 4
    found = chosen_rows(X, rows, numbers)
    assert np.array_equal(found, np.column_stack([values[rows], numbers[rows].astype(np.float32)]))
    assert np.array_equal(chosen_rows(X, rows, None), values[rows])
    assert found.dtype == np.float32
