"""Features that users write as expressions."""

from __future__ import annotations

import math
import time

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import ConfigError
from higgsbench.expressions import FUNCTIONS
from higgsbench.features import feature_matrix, resolve_features
from higgsbench.features.quantity import sql_quantity
from higgsbench.schema import ATLAS_HIGGS, TableSchema
from tests.features.conftest import random_events

FRAME = pl.DataFrame(
    {
        "DER_mass_MMC": [120.0, None, 90.0, 100.0],
        "DER_mass_vis": [60.0, 50.0, 0.0, 80.0],
        "PRI_jet_num": [0, 1, 2, 3],
        "PRI_met": [10.0, 20.0, 0.0, 40.0],
    }
)


def value(text: str) -> list[float]:
    X = feature_matrix(FRAME, resolve_features(ATLAS_HIGGS, columns=[("f", text)]))
    return [float(x) for x in X[:, 0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DER_mass_MMC / DER_mass_vis", [2, math.nan, math.nan, 1.25]),  # missing, and a division by 0
        ("PRI_jet_num / 2", [0, 0.5, 1, 1.5]),  # never a division of whole numbers
        ("PRI_jet_num >= 2", [0, 0, 1, 1]),
        ("DER_mass_MMC > 95", [1, math.nan, 0, 1]),
        ("DER_mass_MMC is null", [0, 1, 0, 0]),
        ("sqrt(PRI_met - 20)", [math.nan, 0, math.nan, math.sqrt(20)]),
        ("ln(PRI_met)", [math.log(10), math.log(20), math.nan, math.log(40)]),
        ("case when PRI_jet_num = 0 then 0.5 else PRI_met * 2 end", [0.5, 40, 0, 80]),
        ('"PRI_met" + 1', [11, 21, 1, 41]),
        ("coalesce(DER_mass_MMC, DER_mass_vis)", [120, 50, 90, 100]),
        ("CASE WHEN PRI_met between 15 AND 30 OR PRI_jet_num in (0, 3) THEN -1 ELSE +1 END", [-1, -1, 1, -1]),
    ],
)
def test_expressions(text: str, expected: list[float]) -> None:
    np.testing.assert_allclose(value(text), expected, rtol=1e-6)


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_every_function_acts_on_one_event_at_a_time(function: str) -> None:
    arguments = {
        **dict.fromkeys(("greatest", "least", "coalesce", "ifnull", "nullif", "atan2"), "PRI_met, PRI_tau_pt"),
        **dict.fromkeys(("pow", "power", "round"), "PRI_met, 2"),
        "log": "PRI_met, 2",
        "if": "PRI_met > 30, PRI_tau_pt, 0",
        "pi": "",
    }
    inside = arguments.get(function, "PRI_met / 1000")
    features = resolve_features(ATLAS_HIGGS, columns=[("f", f"{function}({inside}) + 0 * PRI_met")])
    frame = random_events(0, 40)
    whole = feature_matrix(frame, features)
    alone = [feature_matrix(frame[i], features)[0] for i in range(frame.height)]
    np.testing.assert_allclose(whole, alone, rtol=1e-6)
    assert np.isfinite(whole).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DER_mass_MMC / DER_mass_vs", r"expression 'f': no column named 'DER_mass_vs' \(did you mean 'DER_mass_vis'"),
        ("PRI_met + Weight", "Weight cannot be a feature"),
        ('PRI_met * "Label"', "Label cannot be a feature"),
        ("PRI_met -", "expression 'f': "),
        ("", "expression 'f': "),
        ("PRI_met PRI_tau_pt", "an operator is missing before PRI_tau_pt"),
        ("2 (PRI_met)", r"an operator is missing before \("),
        ("abs(PRI_met) PRI_tau_pt", "an operator is missing before PRI_tau_pt"),
        ("case when PRI_met > 1 then 1 end PRI_tau_pt", "an operator is missing before PRI_tau_pt"),
        ("PRI_met as g", "no column named 'as'"),
        ("PRI_met - sum (PRI_met)", "sum is not a function of one event"),
        ("case when PRI_met > 1e6 then max(PRI_met) else 0 end", "max is not a function of one event"),
        ("count(*)", "count is not a function of one event"),
        ("row_number() over (order by PRI_met)", "row_number is not a function of one event"),
        ("abs(PRI_met) over (partition by PRI_jet_num)", "(no column named 'over'|over is not a function)"),
        ("PRI_met in (select PRI_met)", "no column named 'select'"),
        ("sqr(PRI_met)", r"sqr is not a function of one event \(did you mean 'sqrt'\?\)"),
        ("read_csv(PRI_met)", "read_csv is not a function of one event"),
        ("read_csv('x')", '"\'" at character 10 is not allowed'),
        ("PRI_met = 'a'", '"\'" at character 11 is not allowed'),
        ("PRI_met.x", r"'\.' at character 8"),
        ("PRI_met::int", "':' at character 8"),
        ("__import__(PRI_met)", "__import__ is not a function of one event"),
        ("1 + 2", "uses no column"),
        ("PRI_met, PRI_tau_pt", "a comma outside brackets"),
        ("PRI_met + * PRI_tau_pt", "expression 'f': "),
        ("log(-PRI_met)", r"log takes 2 arguments, not 1: log\(x, base\); the natural logarithm is ln\(x\)"),
        ("abs(PRI_met, (PRI_met))", "abs takes 1 argument, not 2"),
        ("coalesce() + PRI_met", "coalesce takes 1 or more arguments, not 0"),  # a panic of Polars
        ("pi(PRI_met)", "pi takes no arguments, not 1"),
        ("if (PRI_met > 1, 2)", r"if takes 3 arguments, not 2: if\(condition, then, else\)"),
        ("+".join(["PRI_met"] * 202), "longer than 200 operators and functions or 2000 words; divide it"),
        (" and ".join(["PRI_met between 1 and 2"] * 100), "longer than 200 operators"),
        (f"PRI_met in ({', '.join(['1'] * 1000)})", "or 2000 words"),
        ("(" * 3000 + "PRI_met" + ")" * 3000, "or 2000 words"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_features(ATLAS_HIGGS, columns=[("f", text)])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["", "a b", "1a", "x" * 81, "a\n", "PRI_met", "Weight"])
def test_names_are_plain_and_new(name: str) -> None:
    taken = name in ("PRI_met", "Weight")
    with pytest.raises(ConfigError, match="a column of the layout has that name" if taken else "use 1 to 80 letters"):
        sql_quantity(name, "PRI_tau_pt", ATLAS_HIGGS)


def test_columns_with_odd_names_are_quoted() -> None:
    schema = TableSchema("mine", ("jet_1_b-tag", "jet_1_pt"), "label")
    features = resolve_features(schema, columns=[("tag", '"jet_1_b-tag" + jet_1_pt')])
    X = feature_matrix(pl.DataFrame({"jet_1_b-tag": [1.0], "jet_1_pt": [2.0]}), features)
    assert X.tolist() == [[3.0]]


def test_the_digest_covers_the_expression() -> None:
    texts = ("PRI_met * 2", "PRI_met * 3", "PRI_met  *  2")
    a, b, c = (resolve_features(ATLAS_HIGGS, columns=[("f", text)]).digest for text in texts)
    assert a != b
    assert a == c


@pytest.mark.parametrize("text", ["+".join(["PRI_met"] * 201), f"PRI_met in ({', '.join(['1'] * 900)})"])
def test_the_longest_expressions_are_taken_at_once(text: str) -> None:
    begun = time.process_time()
    value(text)
    assert time.process_time() - begun < 2
