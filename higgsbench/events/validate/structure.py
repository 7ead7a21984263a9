"""Rules about single cells and the missing-value patterns: everything that needs no physics."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from higgsbench.events.validate.rule import BoolArray, FloatArray, Rule, RuleTable
from higgsbench.schema import ATLAS_HIGGS, FEATURES, STRUCTURALLY_MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MISSING_RULES", "STRUCTURE_RULES"]

_JETS = "PRI_jet_num"
_MMC = "DER_mass_MMC"
_NEED_TWO = STRUCTURALLY_MISSING[1]
_NEED_ONE = tuple(name for name in STRUCTURALLY_MISSING[0] if name not in _NEED_TWO)
_ALWAYS = tuple(name for name in FEATURES if name not in (*_NEED_ONE, *_NEED_TWO, _MMC))


def _any(table: RuleTable, expressions: Iterable[pl.Expr]) -> BoolArray:
    return table.frame.select(pl.any_horizontal(*expressions).fill_null(False)).to_series().to_numpy()


def _floats(table: RuleTable) -> list[str]:
    return [name for name, kind in table.frame.schema.items() if kind.is_float()]


def _not_finite(table: RuleTable) -> BoolArray:
    return _any(table, (~pl.col(name).is_finite() for name in _floats(table)))


def _infinite_cells(row: RuleTable) -> tuple[str, ...]:
    return tuple(name for name in _floats(row) if _any(row, (~pl.col(name).is_finite(),))[0])


def _finer(values: FloatArray) -> BoolArray:
    # 1e-7: a file that keeps single precision carries three decimals as well as it can.
    return np.abs(values - np.rint(values * 1000.0) / 1000.0) > 1e-9 + 1e-7 * np.abs(values)


def _more_decimals(table: RuleTable) -> BoolArray:
    bad = np.zeros(len(table), dtype=np.bool_)
    for name in FEATURES:
        if name not in ATLAS_HIGGS.integers:
            bad |= _finer(table[name])
    return bad


def _fine_cells(row: RuleTable) -> tuple[str, ...]:
    return tuple(name for name in FEATURES if name not in ATLAS_HIGGS.integers and _finer(row[name])[0])


def _repeated_id(table: RuleTable) -> BoolArray:
    ids = table.frame["EventId"]
    return (~ids.is_first_distinct()).to_numpy() if ids.n_unique() != len(ids) else np.zeros(len(ids), dtype=np.bool_)


def _unknown(name: str, allowed: tuple[str, ...], table: RuleTable) -> BoolArray:
    return _any(table, (pl.col(name).is_null() | ~pl.col(name).is_in(list(allowed)),))


def _not_positive(name: str, table: RuleTable) -> BoolArray:
    return ~(table[name] > 0.0)


def _wrong_pattern(names: tuple[str, ...], jets: int, table: RuleTable) -> BoolArray:
    """A quantity must be present exactly where the event has at least `jets` jets."""
    expected = table[_JETS] >= jets
    bad = np.zeros(len(table), dtype=np.bool_)
    for name in names:
        bad |= table.present(name) != expected
    return bad


def _wrong_cells(names: tuple[str, ...], jets: int, row: RuleTable) -> tuple[str, ...]:
    expected = bool(row[_JETS][0] >= jets)
    return (_JETS, *(name for name in names if bool(row.present(name)[0]) != expected))


def _never_missing(table: RuleTable) -> BoolArray:
    return ~table.present(*_ALWAYS)


def _missing_cells(row: RuleTable) -> tuple[str, ...]:
    return tuple(name for name in _ALWAYS if not row.present(name)[0])


STRUCTURE_RULES: tuple[Rule, ...] = (
    Rule("event_id_unique", "structure", "every EventId occurs once", ("EventId",), _repeated_id, whole=True),
    Rule("finite", "structure", "no value is NaN or infinite", (), _not_finite, cells=_infinite_cells),
    Rule("decimals", "structure", "features carry at most 3 decimals", (), _more_decimals, cells=_fine_cells),
    Rule("label", "structure", "Label is s or b", ("Label",), partial(_unknown, "Label", ("s", "b"))),
    Rule(
        "subset",
        "structure",
        "KaggleSet is t, b, v or u",
        ("KaggleSet",),
        partial(_unknown, "KaggleSet", ATLAS_HIGGS.subset_values),
    ),
    Rule("weight_positive", "weights", "Weight > 0", ("Weight",), partial(_not_positive, "Weight")),
    Rule(
        "subset_weight_positive",
        "weights",
        "KaggleWeight > 0",
        ("KaggleWeight",),
        partial(_not_positive, "KaggleWeight"),
    ),
)
"""Identity, number format and positivity."""

MISSING_RULES: tuple[Rule, ...] = (
    Rule(
        "never_missing",
        "missing",
        f"the {len(_ALWAYS)} features that need no jet are never missing (DER_mass_MMC may be)",
        _ALWAYS,
        _never_missing,
        cells=_missing_cells,
    ),
    Rule(
        "missing_leading_jet",
        "missing",
        "leading-jet quantities exist exactly if PRI_jet_num >= 1",
        (_JETS, *_NEED_ONE),
        partial(_wrong_pattern, _NEED_ONE, 1),
        cells=partial(_wrong_cells, _NEED_ONE, 1),
    ),
    Rule(
        "missing_second_jet",
        "missing",
        "second-jet and two-jet quantities exist exactly if PRI_jet_num >= 2",
        (_JETS, *_NEED_TWO),
        partial(_wrong_pattern, _NEED_TWO, 2),
        cells=partial(_wrong_cells, _NEED_TWO, 2),
    ),
)
"""Together with a DER_mass_MMC that may be missing in any event these leave exactly six patterns."""
