"""Made-up events with a known likelihood."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from higgsbench.config.regions import StatisticalModel
from higgsbench.events import Events
from higgsbench.inference.events import Moved
from higgsbench.inference.regions import ModelEvents, RowModel, Side, row_model
from higgsbench.metrics import processes_of
from higgsbench.schema import TableSchema

SCHEMA = TableSchema("made-up", ("x",), "Label", weight="Weight", event_id="EventId", process="Process")


@pytest.fixture
def made_up() -> Callable[..., tuple[ModelEvents, RowModel]]:
    """Build events and their statistical model."""
    return _made_up


def _made_up(n: int = 6000, *, mc_stat: bool = True, **model: Any) -> tuple[ModelEvents, RowModel]:
    """Events with a falling background, a signal at 2, and an energy scale that moves x by 0.03."""
    rng = np.random.default_rng(5)
    process = np.repeat(["H", "Z", "W"], [n // 4, n // 2, n - n // 4 - n // 2])
    x = np.where(process == "H", rng.normal(2.0, 0.6, n), rng.exponential(np.where(process == "Z", 0.8, 1.2)))
    total = {"H": 60.0, "Z": 900.0, "W": 500.0}
    weight = np.array([total[name] for name in process]) / np.array([(process == name).sum() for name in process])
    label = np.where(process == "H", "s", "b")
    columns = {"x": x, "Label": label, "Weight": weight, "EventId": np.arange(n), "Process": process}
    events = Events(pl.DataFrame(columns), SCHEMA, "made-up events")
    given = {
        "regions": [
            {"name": "low", "select": "x < 1", "observable": "x", "control": True},
            {"name": "high", "select": "x >= 1", "observable": "score", "edges": [1, 1.5, 2, 2.5, 3]},
        ],
        "systematics": [{"name": "scale", "shift": "tes=0.03"}, {"name": "lumi", "norm": 0.05}],
        "templates": {"mc_stat": mc_stat, "smooth": 0.0, "prune": 0.0},
    }
    sides = [
        Side(Moved("", events.frame.with_columns(pl.col("x") + step), np.arange(n), weight), weight)
        for step in (0.03, -0.03)
    ]
    processes = processes_of(events.process, events.y, weight)
    assert processes is not None
    scores = {"x": [x, x + 0.03, x - 0.03]}
    model_ = StatisticalModel.model_validate(given | model)
    shifts = {at: (sides[0], sides[1]) for at, entry in enumerate(model_.systematics or ()) if entry.shift}
    found = ModelEvents(
        cast("Any", None), model_, events, events, "made-up events", weight,
        processes, shifts, scores, (),
    )  # fmt: skip
    return found, row_model(found, cast("Any", SimpleNamespace(name="x")))
