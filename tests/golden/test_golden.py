"""Rows, cuts, scores, predictions and the commands' output are those of the golden files.

On the versions and the kind of machine that the files were written with, everything is compared: scores bit for bit,
derived numbers to nine digits. Elsewhere the libraries may train other models, so rows are compared within tolerances.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tests.golden.measure import CASES, SAMPLE, leaves, measure, versions

# The new events of the golden files have numbers of training events.
pytestmark = pytest.mark.filterwarnings("ignore:.*the run was trained on:higgsbench.errors.HiggsbenchWarning")

FOLDER = Path(__file__).parent
QUICK = ("exact-toy", "quick-toy")
CHANGED = ("random_forest", "logistic", "stack")
"""Rows whose models changed since the files were written, and the blend that has them as members."""

Golden = tuple[str, dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module", params=CASES)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Name of a case, its golden file, and what this code gives."""
    name = request.param
    if name not in QUICK and os.environ.get("HIGGSBENCH_GOLDEN") != "all":
        pytest.skip("takes minutes; `nox -s golden` runs it")
    if CASES[name].sample and not SAMPLE.is_file():
        pytest.skip("the sample of real events (../shared/data) is not there")
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return name, stored, measure(CASES[name], tmp_path_factory.mktemp(name))


def same_libraries(stored: dict[str, Any]) -> None:
    own = versions()
    different = [name for name, version in stored["versions"].items() if own.get(name) != version]
    if different:
        pytest.skip(f"written with other versions of {', '.join(different)}")


def may_change(case: str, row: str) -> bool:
    """Whether a row of a case may differ within tolerances."""
    return not case.startswith("exact") and not case.startswith("best") and row.startswith(CHANGED)


def test_rows(golden: Golden) -> None:
    case, stored, found = golden
    assert sorted(found["rows"]) == sorted(stored["rows"])
    same = versions() == stored["versions"]
    for row, wanted in stored["rows"].items():
        got = found["rows"][row]
        assert set(got) >= set(wanted), row
        if same and not may_change(case, row):
            assert {name: got[name] for name in wanted} == pytest.approx(wanted, rel=1e-9, abs=1e-12), row
        else:
            # The sample has 15,000 events, the toys fewer than 2,000.
            auc, ams = (1e-4, 0.02) if same and CASES[case].sample else (0.01, 0.3)
            assert math.isclose(got["auc"], wanted["auc"], abs_tol=auc), row
            assert math.isclose(got["ams_cv"], wanted["ams_cv"], abs_tol=ams), row


def test_stack(golden: Golden) -> None:
    case, stored, found = golden
    assert found["stack"]["method"] == stored["stack"]["method"]
    assert [m["name"] for m in found["stack"]["members"]] == [m["name"] for m in stored["stack"]["members"]]
    same_libraries(stored)
    if may_change(case, "stack"):
        pytest.skip("its members may change within tolerances")
    assert list(leaves(found["stack"])) == pytest.approx(list(leaves(stored["stack"])), rel=1e-9, abs=1e-12)


def test_events_and_folds(golden: Golden) -> None:
    """The folds and the simulated events depend on no library that trains."""
    _, stored, found = golden
    for kind in ("scores", "test_scores"):
        for what in ("events", "folds"):
            assert found.get(kind, {}).get(what) == stored.get(kind, {}).get(what), (kind, what)
    same_libraries(stored)
    assert found["new_events"] == stored["new_events"]


@pytest.mark.parametrize("kind", ["scores", "test_scores"])
def test_scores_bit_for_bit(golden: Golden, kind: str) -> None:
    case, stored, found = golden
    same_libraries(stored)
    assert sorted(found.get(kind, {})) == sorted(stored.get(kind, {}))
    for row, wanted in stored.get(kind, {}).items():
        if isinstance(wanted, dict) and not may_change(case, row):
            assert found[kind][row]["some"] == wanted["some"], row
            assert found[kind][row]["digest"] == wanted["digest"], row


def test_predictions_bit_for_bit(golden: Golden) -> None:
    case, stored, found = golden
    same_libraries(stored)
    if may_change(case, "stack"):
        pytest.skip("members of the stack may change within tolerances")
    assert found["predictions"] == stored["predictions"]
    assert found["submission"] == stored["submission"]


@pytest.mark.parametrize("command", ["compare", "stats", "members", "explore"])
def test_commands(golden: Golden, command: str) -> None:
    _, stored, found = golden
    if "commands" not in stored:
        pytest.skip("pinned for other cases")
    same_libraries(stored)
    wanted, got = stored["commands"][command], found["commands"][command]
    if command != "explore":
        wanted, got = {command: wanted}, {command: got}
    for part, content in wanted.items():
        assert got[part]["n"] == content["n"], part
        assert got[part]["some"] == pytest.approx(content["some"], rel=1e-9, abs=1e-12), part
        assert got[part]["digest"] == content["digest"], part
