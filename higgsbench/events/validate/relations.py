"""Rules that tie quantities of one event together: jets among themselves, derived quantities to primary ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.events.derived import ANALYTIC, FORMULAS, HALF_STEP, agreement, derive
from higgsbench.events.validate.rule import BoolArray, FloatArray, Rule, RuleTable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RELATION_RULES"]

_TINY = 1e-9  # decimals have a binary tail
_SUM_STEP = 0.0035  # three rounded numbers, rounded once more where a file has been shifted
_JET_THRESHOLD = 30.0
_HEAVIEST_JET = 0.6
"""Jet mass over its pt beyond which no jet goes; in 15,000 real events 0.5 is not reached."""

_LEADING, _SUBLEADING, _ALL = "PRI_jet_leading_pt", "PRI_jet_subleading_pt", "PRI_jet_all_pt"
_VECTOR_SUMS = ("DER_pt_h", "DER_pt_tot")


def _unordered(table: RuleTable) -> BoolArray:
    return table[_LEADING] < table[_SUBLEADING]


def _wrong_jet_sum(table: RuleTable) -> BoolArray:
    number, total = table["PRI_jet_num"], table[_ALL]
    known = np.nan_to_num(table[_LEADING]) + np.nan_to_num(table[_SUBLEADING])
    exact = np.abs(total - known) > _SUM_STEP
    return np.where(number >= 3, total < known + _JET_THRESHOLD - _SUM_STEP, exact)


def _linear_bound(inputs: list[FloatArray], value: FloatArray) -> FloatArray:
    """Lower limit of the rounding bound of a transverse vector sum.

    The size of a vector sum is convex in its components, so the tangent never exceeds the change that
    `rounding_bounds` computes; at a tenth of the cost it settles almost all rows.
    """
    sines = [(pt, np.sin(phi), np.cos(phi)) for pt, phi in zip(inputs[::2], inputs[1::2], strict=True)]
    px = np.sum([np.nan_to_num(pt * c) for pt, _, c in sines], axis=0)
    py = np.sum([np.nan_to_num(pt * s) for pt, s, _ in sines], axis=0)
    size = np.maximum(value, _TINY)
    bound = np.ones_like(value)
    for pt, s, c in sines:
        bound += np.nan_to_num(np.abs(c * px + s * py) / size + pt * np.abs(c * py - s * px) / size)
    return HALF_STEP * bound


def _surely_close(name: str, primary: Mapping[str, FloatArray], expected: FloatArray, found: FloatArray) -> BoolArray:
    """(n,) whether a value agrees by a bound that is cheap and never too wide."""
    formula = FORMULAS[name]
    if name == "DER_mass_jet_jet":
        return (expected <= found + HALF_STEP) & (found <= 1.5 * expected)
    if name in _VECTOR_SUMS:
        bound = 0.999 * _linear_bound([primary[i] for i in formula.inputs], expected)
    else:
        bound = np.full_like(expected, max(HALF_STEP, formula.floor))
    return np.abs(expected - found) <= bound


def _disagrees(name: str, table: RuleTable) -> BoolArray:
    """(n,) whether a derived value contradicts the primary ones; where one of them is missing it does not."""
    primary = {column: table[column] for column in FORMULAS[name].inputs}
    expected, found = derive(primary, (name,))[name], table[name]
    both = ~np.isnan(expected) & ~np.isnan(found)
    unsure = np.flatnonzero(both & ~_surely_close(name, primary, expected, found))
    bad = np.zeros(len(table), dtype=np.bool_)
    if unsure.size:
        rows = {column: values[unsure] for column, values in primary.items()}
        bad[unsure] = ~agreement(rows, {name: found[unsure]}, (name,))[name]
    return bad


def _mass_of_massive_jets(table: RuleTable) -> FloatArray:
    """(n,) two-jet mass in GeV if both jets had the largest mass a jet can have."""
    sides = ("PRI_jet_leading", "PRI_jet_subleading")
    pts = [table[f"{side}_pt"] for side in sides]
    momenta = [pt * np.cosh(table[f"{side}_eta"]) for pt, side in zip(pts, sides, strict=True)]
    energy = sum(np.hypot(p, _HEAVIEST_JET * pt) for p, pt in zip(momenta, pts, strict=True))
    massless = derive({c: table[c] for c in FORMULAS["DER_mass_jet_jet"].inputs}, ("DER_mass_jet_jet",))
    return np.sqrt(massless["DER_mass_jet_jet"] ** 2 + energy**2 - sum(momenta) ** 2)


def _impossible_dijet(table: RuleTable) -> BoolArray:
    bad = _disagrees("DER_mass_jet_jet", table)
    return bad & _not_just_heavy(table) if bad.any() else bad


def _not_just_heavy(table: RuleTable) -> BoolArray:
    massless = derive({c: table[c] for c in FORMULAS["DER_mass_jet_jet"].inputs}, ("DER_mass_jet_jet",))
    found = table["DER_mass_jet_jet"]
    return (found < massless["DER_mass_jet_jet"]) | (found > _mass_of_massive_jets(table))


def _derived_rule(name: str) -> Rule:
    columns = (name, *FORMULAS[name].inputs)
    own = tuple(c for c in columns if not (name == "DER_pt_tot" and c.startswith("PRI_jet")))
    if name == "DER_mass_jet_jet":
        text = "DER_mass_jet_jet is that of massless jets or more, up to heavy jets (mass 0.6 pt) or 1.5 times"
        return Rule(f"derived_{name}", "derived", text, columns, _impossible_dijet, partial(_present, own))
    text = f"{name} follows from the primary quantities within rounding"
    return Rule(f"derived_{name}", "derived", text, columns, partial(_disagrees, name), partial(_present, own))


def _present(names: tuple[str, ...], table: RuleTable) -> BoolArray:
    return table.present(*names)


_JETS = ("PRI_jet_num", _LEADING, _SUBLEADING, _ALL)

RELATION_RULES: tuple[Rule, ...] = (
    Rule(
        "jets_ordered",
        "jets",
        "PRI_jet_leading_pt >= PRI_jet_subleading_pt",
        (_LEADING, _SUBLEADING),
        _unordered,
        partial(_present, (_LEADING, _SUBLEADING)),
    ),
    Rule(
        "jets_sum",
        "jets",
        "PRI_jet_all_pt is the sum of the jets' pt; at least 30 GeV more than the leading two for PRI_jet_num = 3",
        _JETS,
        _wrong_jet_sum,
    ),
    *(_derived_rule(name) for name in ANALYTIC),
    Rule(
        "dijet_mass_usual",
        "derived",
        "DER_mass_jet_jet is at most 1.5 times that of massless jets",
        ("DER_mass_jet_jet", *FORMULAS["DER_mass_jet_jet"].inputs),
        partial(_disagrees, "DER_mass_jet_jet"),
        partial(_present, ("DER_mass_jet_jet",)),
        warning=True,
    ),
)
"""Jet ordering and sums, and one rule per analytic derived quantity."""
