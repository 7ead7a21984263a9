"""The command features, and the page that lists the functions of expressions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from higgsbench.expressions import FUNCTIONS
from higgsbench.features import feature_sets
from higgsbench.schema import ATLAS_HIGGS
from tests.conftest import Call

PAGE = Path(__file__).parents[2] / "docs" / "features.md"


def test_the_sets_are_listed(call: Call) -> None:
    code, out, _ = call("features")
    assert code == 0
    for name in ("raw", "canonical", "physics", "momenta"):
        assert f"│ {name} " in out


@pytest.mark.parametrize("name", ["raw", "canonical", "physics", "momenta"])
def test_a_set_shows_formula_unit_and_source(call: Call, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    _, table, _ = call("features", name)
    code, out, _ = call("features", name, "--format", "json")
    assert code == 0
    rows = json.loads(out)
    expected = next(s for s in feature_sets() if s.name == name).quantities(ATLAS_HIGGS)
    assert [row["name"] for row in rows] == [q.name for q in expected]
    for row in rows:
        assert set(row) == {"name", "formula", "unit", "source", "group"}
        assert f" {row['name']} " in table
        assert row["formula"] in table


def test_an_unknown_set_is_one_line(call: Call) -> None:
    code, _, err = call("features", "phisics")
    assert code == 2
    assert err == "Error: no feature set named 'phisics' (did you mean 'physics'?)\n"


def test_the_page_names_every_function() -> None:
    start = PAGE.read_text(encoding="utf-8").split("and the functions ")[1].split(".")[0]
    assert set(re.findall(r"[a-z]\w*", start.replace("(x, base)", ""))) == FUNCTIONS
