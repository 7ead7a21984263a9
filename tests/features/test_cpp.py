"""The header of a feature set compiles and computes what Polars computes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import ConfigError
from higgsbench.events import load_events
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.features import cpp_expression, cpp_header, evaluate, feature_set
from higgsbench.features.quantity import Quantity
from higgsbench.schema import ATLAS_HIGGS, FEATURES
from tests.conftest import Call

PROGRAM = """
#include "set.h"
#include "set.h"
#include <cstdio>
struct Frame { Frame Define(const char*, const char*) const { return *this; } };
int main() {
  higgsbench::define_NAME(Frame{});
  double event[30];
  while (std::fread(event, sizeof(double), 30, stdin) == 30) {
INPUTS
STEPS
    const double found[] = {OUTPUTS};
    std::fwrite(found, sizeof(double), sizeof(found) / sizeof(double), stdout);
  }
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler (g++)")
@pytest.mark.parametrize("name", ["canonical", "physics", "momenta"])
def test_a_set_in_cpp(call: Call, tmp_path: Path, name: str) -> None:
    code, header, _ = call("features", name, "--format", "cpp")
    assert code == 0
    quantities = [q for q in feature_set(name).quantities(ATLAS_HIGGS) if q.name not in FEATURES]
    defined = re.findall(r'^    \.Define\("(\w+)", "(.*)"\)', header, flags=re.MULTILINE)
    assert [column for column, _ in defined][-len(quantities) :] == [q.name for q in quantities]
    parts = {
        "NAME": name,
        "INPUTS": "\n".join(f"    [[maybe_unused]] const double {c} = event[{i}];" for i, c in enumerate(FEATURES)),
        "STEPS": "\n".join(f"    const double {column} = {text};" for column, text in defined),
        "OUTPUTS": ", ".join(q.name for q in quantities),
    }
    (tmp_path / "set.h").write_text(header)
    (tmp_path / "set.cpp").write_text(re.sub("|".join(parts), lambda found: parts[found[0]], PROGRAM))
    command = ["g++", "-std=c++17", "-Wall", "-Werror", "-ffp-contract=off", "set.cpp", "-o", "set"]
    subprocess.run(command, cwd=tmp_path, check=True)

    file = write_simulated(SimulationSettings(events=400, seed=8), tmp_path / "events.csv")
    frame = load_events(file, cache=False).frame
    wanted = evaluate(frame, [q.expression.cast(pl.Float64).alias(q.name) for q in quantities])
    events = frame.select(pl.col(c).cast(pl.Float64).fill_null(-999.0) for c in FEATURES).to_numpy()
    done = subprocess.run(
        [tmp_path / "set"], input=np.ascontiguousarray(events).tobytes(), capture_output=True, check=True
    )
    found = np.frombuffer(done.stdout).reshape(frame.height, -1)
    np.testing.assert_allclose(found, wanted.fill_null(np.nan).to_numpy(), rtol=1e-9, atol=1e-12)


def test_what_has_no_form_is_one_line(call: Call) -> None:
    odd = Quantity("odd", pl.col("PRI_met").rank(), "", "", "", "")
    with pytest.raises(ConfigError, match="'odd' of set 'mine' cannot be written in C\\+\\+: "):
        cpp_header("mine", [odd], ATLAS_HIGGS)
    code, _, err = call("features", "--format", "cpp")
    assert code == 2
    assert err.startswith("Error: --format cpp needs a SET")


def test_negative_numbers_and_names() -> None:
    assert cpp_expression(-2 - pl.col("b-tag")) == "((-2.0) - higgsbench::value(b_tag))"
