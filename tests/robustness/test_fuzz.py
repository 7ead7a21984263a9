"""Fuzzing of everything that reads files of others, in its short form; `nox -s fuzz` runs the long one."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.robustness.fuzzing import TARGETS, Inputs, attempt, make_inputs

CASES = {"events": 200, "config": 200, "submission": 200, "leaderboard": 60, "predictor": 100}
MOST_SECONDS = 5.0


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIGGSBENCH_CACHE_DIR", str(folder / "cache"))
        return make_inputs(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS)
def test_a_spoiled_input_is_read_or_refused(target: str, inputs: Inputs) -> None:
    @settings(
        max_examples=CASES.get(target, 60), database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.randoms(use_true_random=False))
    def check(rng: Random) -> None:
        begin = time.process_time()
        attempt(target, inputs, rng)
        assert time.process_time() - begin < MOST_SECONDS

    check()
