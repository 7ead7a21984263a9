"""The rules that events of the challenge's layout obey, and those that follow from any other layout.

Limits of ranges follow from the selection (thresholds, acceptance) and therefore hold for any event; a large value does
not break a rule. Where the real file holds a few events just outside a range, the range is a warning.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from higgsbench.events.check import column_types
from higgsbench.events.derived import ANALYTIC, FORMULAS, HALF_STEP, agreement, delta_r, derive
from higgsbench.events.validate.table import DECIMAL, WEIGHTS, Rule
from higgsbench.schema import ATLAS_HIGGS, FEATURES, STRUCTURALLY_MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from higgsbench.events.derived import BoolArray, FloatArray
    from higgsbench.events.validate.table import RuleTable, Test
    from higgsbench.schema import TableSchema


def _present(*names: str) -> Test:
    return lambda table: table.present(*names)


_JETS = "PRI_jet_num"
_MMC = "DER_mass_MMC"
_NEED_TWO = STRUCTURALLY_MISSING[1]
_NEED_ONE = tuple(name for name in STRUCTURALLY_MISSING[0] if name not in _NEED_TWO)
_ALWAYS = tuple(name for name in FEATURES if name not in (*_NEED_ONE, *_NEED_TWO, _MMC))


def _each(
    name: str,
    group: str,
    text: str,
    names: tuple[str, ...],
    bad: Callable[[RuleTable, str], BoolArray],
    always: tuple[str, ...] = (),
    needed: bool = True,
) -> Rule:
    """Return a rule that is broken where any of some columns is bad, and that shows `always` and the bad ones."""

    def offenders(table: RuleTable) -> BoolArray:
        found: BoolArray = np.any([bad(table, column) for column in names if column in table.frame.columns], axis=0)
        return found

    def cells(row: RuleTable) -> tuple[str, ...]:
        return (*always, *(column for column in names if column in row.frame.columns and bad(row, column)[0]))

    return Rule(name, group, text, (*always, *names) if needed else (), offenders, cells=cells)


def _not_finite(table: RuleTable, name: str) -> BoolArray:
    return (~table.frame[name].is_finite()).fill_null(False).to_numpy()


def _unique(column: str) -> Rule:
    def repeated(table: RuleTable) -> BoolArray:
        return (~table.frame[column].is_first_distinct()).to_numpy()

    return Rule("event_id_unique", "structure", f"every {column} occurs once", (column,), repeated, whole=True)


def _finer(table: RuleTable, name: str) -> BoolArray:
    values = table[name]
    # 1e-7: single precision keeps three decimals only approximately.
    return np.abs(values - np.rint(values * 1000.0) / 1000.0) > 1e-9 + 1e-7 * np.abs(values)


def _known(name: str, column: str, text: str, allowed: tuple[str, ...]) -> Rule:
    def unknown(table: RuleTable) -> BoolArray:
        values = table.frame[column]
        known = values.is_in(list(allowed)) if allowed else values.is_not_null()
        return (~known).fill_null(True).to_numpy()

    return Rule(name, "structure", text, (column,), unknown)


def _positive(name: str, column: str) -> Rule:
    return Rule(name, "weights", f"{column} > 0", (column,), lambda table: ~(table[column] > 0.0))


def _with_jets(name: str, what: str, names: tuple[str, ...], jets: int) -> Rule:
    def wrong(table: RuleTable, column: str) -> BoolArray:
        expected: BoolArray = table[_JETS] >= jets
        return table.present(column) ^ expected

    return _each(name, "missing", f"{what} quantities exist exactly if {_JETS} >= {jets}", names, wrong, (_JETS,))


_NEVER = f"the {len(_ALWAYS)} features that need no jet are never missing (DER_mass_MMC may be)"


def _range(
    name: str, text: str, low: float, high: float = math.inf, *, above: bool = False, warning: bool = False
) -> Rule:
    """Return a rule for values from `low` to `high`, without `low` itself where they must lie above it."""

    def outside(table: RuleTable) -> BoolArray:
        values, slack = table[name], table.slack(name)
        below = values <= low - slack if above else values < low - slack
        return below | (values > high + slack)

    suffix = "_usual" if warning else ""
    return Rule(f"range_{name}{suffix}", "ranges", text, (name,), outside, _present(name), warning)


def _apart(first: str, second: str, limit: float) -> Rule:
    columns = tuple(f"{part}_{what}" for part in (first, second) for what in ("eta", "phi"))

    def too_close(table: RuleTable) -> BoolArray:
        return delta_r(*(table[column] for column in columns)) < limit - table.slack(*columns)

    text = f"{first} and {second} are at least {limit} apart in (eta, phi)"
    name = f"apart_{first[4:]}_{second[4:]}"
    return Rule(name, "ranges", text, columns, too_close, _present(*columns), warning=True)


def _odd_jet_number(table: RuleTable) -> BoolArray:
    return ~np.isin(table[_JETS], (0.0, 1.0, 2.0, 3.0))


def _odd_mmc(table: RuleTable) -> BoolArray:
    mmc, visible = table[_MMC], table["DER_mass_vis"]
    ratio = mmc / visible
    margin = (table.slack(_MMC) + ratio * table.slack("DER_mass_vis")) / visible
    return (ratio < 0.9 - margin) | (ratio > 10.0 + margin)


_PHIS = ("PRI_tau_phi", "PRI_lep_phi", "PRI_met_phi", "PRI_jet_leading_phi", "PRI_jet_subleading_phi")


_SUM_STEP = 0.0035  # three rounded numbers, rounded once more where a file has been shifted
_JET_THRESHOLD = 30.0
_HEAVIEST_JET = 0.6
"""Largest mass of a jet over its pt; in 15,000 real events 0.5 is not reached."""

_LEADING, _SUBLEADING, _ALL = "PRI_jet_leading_pt", "PRI_jet_subleading_pt", "PRI_jet_all_pt"
_DIJET = "DER_mass_jet_jet"
_VECTOR_SUMS = ("DER_pt_h", "DER_pt_tot")


def _wrong_jet_sum(table: RuleTable) -> BoolArray:
    number, total = table[_JETS], table[_ALL]
    known = np.nan_to_num(table[_LEADING]) + np.nan_to_num(table[_SUBLEADING])
    step = _SUM_STEP + table.slack(_LEADING, _SUBLEADING, _ALL)
    return np.where(number >= 3, total < known + _JET_THRESHOLD - step, np.abs(total - known) > step)


def _least_bound(inputs: list[FloatArray], size: FloatArray) -> FloatArray:
    """Return a lower limit of the rounding bound of a vector sum, from the tangent, at a tenth of the bound's cost."""
    pt, phi = np.stack(inputs[::2]), np.stack(inputs[1::2])
    c, s = np.cos(phi), np.sin(phi)
    px, py = np.nansum(pt * c, axis=0), np.nansum(pt * s, axis=0)
    change = (np.abs(c * px + s * py) + pt * np.abs(c * py - s * px)) / np.maximum(size, 1e-9)
    bound: FloatArray = 0.999 * HALF_STEP * (1.0 + np.nansum(change, axis=0))
    return bound


def _disagrees(name: str, table: RuleTable) -> BoolArray:
    """(n,) whether a derived value contradicts the primary ones; a missing value never does."""
    primary = {column: table[column] for column in FORMULAS[name].inputs}
    expected, found = derive(primary, (name,))[name], table[name]
    both = ~np.isnan(expected) & ~np.isnan(found)
    # Most values agree within a limit that is cheap and never wider than the bound.
    close = np.abs(expected - found) <= max(HALF_STEP, FORMULAS[name].floor)
    if name in _VECTOR_SUMS:
        close |= np.abs(expected - found) <= _least_bound(list(primary.values()), expected)
    elif name == _DIJET:
        close |= (expected <= found) & (found <= 1.5 * expected)
    unsure = np.flatnonzero(both & ~close)
    bad = np.zeros(len(table), dtype=np.bool_)
    if unsure.size:
        columns = (*primary, name)
        part = table.take(unsure, columns)
        values = {column: part[column] for column in columns}
        slack = {column: part.slack(column) for column in values}
        bad[unsure] = ~agreement(values, values, (name,), slack)[name]
    return bad


def _impossible_dijet(table: RuleTable) -> BoolArray:
    """(n,) whether a two-jet mass is below that of massless jets or above that of the heaviest possible ones."""
    bad = _disagrees(_DIJET, table)
    if not bad.any():
        return bad
    massless = derive({c: table[c] for c in FORMULAS[_DIJET].inputs}, (_DIJET,))[_DIJET]
    sides = ("PRI_jet_leading", "PRI_jet_subleading")
    pts = [table[f"{side}_pt"] for side in sides]
    momenta = [pt * np.cosh(table[f"{side}_eta"]) for pt, side in zip(pts, sides, strict=True)]
    energy = sum(np.hypot(p, _HEAVIEST_JET * pt) for p, pt in zip(momenta, pts, strict=True))
    heaviest = np.sqrt(massless**2 + energy**2 - sum(momenta) ** 2)
    return bad & ((table[_DIJET] < massless) | (table[_DIJET] > heaviest))


def _derived_rule(name: str) -> Rule:
    columns = (name, *FORMULAS[name].inputs)
    own = tuple(c for c in columns if not (name == "DER_pt_tot" and c.startswith("PRI_jet")))
    text = f"{name} follows from the primary quantities within rounding"
    offenders: Test = partial(_disagrees, name)
    if name == _DIJET:
        text = f"{_DIJET} is at least that of massless jets, and at most that of heavy jets (mass 0.6 pt) or 1.5 times"
        offenders = _impossible_dijet
    return Rule(f"derived_{name}", "derived", text, columns, offenders, _present(*own))


_RATIO_TOLERANCE = 2.5e-7  # 12 digits of the file give 1e-11; 1e-7 where it was in single precision before
_COMMON = 0.005  # the rarest of the four values in the official file has a share of 0.08
_BULK = 0.99
_ENOUGH = 1000


def _odd_ratio(table: RuleTable) -> BoolArray:
    relative = np.nan_to_num(sum(table.slack(name) / table[name] for name in WEIGHTS), posinf=0.0)
    frame = table.frame.select("Label", "KaggleSet", ratio=pl.col("KaggleWeight") / pl.col("Weight"), error=relative)
    kind = ("Label", "KaggleSet")
    usual = pl.col("ratio").median().over(*kind)
    tolerance = _RATIO_TOLERANCE + pl.col("error") + pl.col("error").quantile(0.75).over(*kind)
    odd = ((pl.col("ratio") / usual - 1.0).abs() > tolerance).fill_null(True)
    return frame.select(odd).to_series().to_numpy()


def _signal(table: RuleTable) -> BoolArray:
    return (table.frame["Label"] == "s").fill_null(False).to_numpy()


def _odd_signal_weight(table: RuleTable) -> BoolArray:
    """Signal with an uncommon weight, in files whose signal has few weights at all."""
    signal = _signal(table)
    values, counts = np.unique(table["Weight"][signal], return_counts=True)
    odd = signal & ~np.isin(table["Weight"], values[counts >= _COMMON * signal.sum()])
    few = signal.sum() >= _ENOUGH and odd.sum() <= (1.0 - _BULK) * signal.sum()
    return odd if few else np.zeros(len(table), dtype=np.bool_)


def _label_against_weight(table: RuleTable) -> BoolArray:
    """Background as light as signal or signal as heavy as background, in files where the two are apart."""
    signal, weight = _signal(table), table["Weight"]
    if not signal.any() or signal.all():
        return np.zeros(len(table), dtype=np.bool_)
    top, bottom = np.quantile(weight[signal], 0.99), np.quantile(weight[~signal], 0.01)
    return np.where(signal, weight >= bottom, weight <= top) & (top < bottom)


RULES: tuple[Rule, ...] = (
    # Structure: single cells and the patterns of missing values, of which there are exactly six, as DER_mass_MMC may be
    # missing in any event.
    _unique("EventId"),
    _each("finite", "structure", "no value is NaN or infinite", (*DECIMAL, *WEIGHTS), _not_finite, needed=False),
    _each("decimals", "structure", "features carry at most 3 decimals", DECIMAL, _finer),
    _known("label", "Label", "Label is s or b", ("s", "b")),
    _known("subset", "KaggleSet", "KaggleSet is t, b, v or u", ATLAS_HIGGS.subset_values),
    _positive("weight_positive", "Weight"),
    _positive("subset_weight_positive", "KaggleWeight"),
    _each("never_missing", "missing", _NEVER, _ALWAYS, lambda table, name: ~table.present(name)),
    _with_jets("missing_leading_jet", "leading-jet", _NEED_ONE, 1),
    _with_jets("missing_second_jet", "second-jet and two-jet", _NEED_TWO, 2),
    # Ranges: what the selection and the detector allow.
    _range("PRI_tau_pt", "PRI_tau_pt >= 20 GeV", 20.0),
    _range("PRI_tau_eta", "|PRI_tau_eta| <= 2.5", -2.5, 2.5),
    _range("PRI_lep_pt", "PRI_lep_pt >= 26 GeV", 26.0),
    # Electrons are measured by clusters whose edge lies a little beyond 2.5: a few in 100,000 events reach 2.505.
    _range("PRI_lep_eta", "|PRI_lep_eta| <= 2.51", -2.51, 2.51),
    _range("PRI_lep_eta", "|PRI_lep_eta| <= 2.5 except for a few electrons", -2.5, 2.5, warning=True),
    _range("PRI_met", "PRI_met > 0 GeV", 0.0, above=True),
    _range("PRI_met_sumet", "PRI_met_sumet > 0 GeV", 0.0, above=True),
    _range("PRI_met_sumet", "PRI_met_sumet > 20 GeV except for a few quiet events", 20.0, above=True, warning=True),
    Rule("range_PRI_jet_num", "ranges", "PRI_jet_num is 0, 1, 2 or 3", (_JETS,), _odd_jet_number),
    _range("PRI_jet_leading_pt", "PRI_jet_leading_pt >= 30 GeV", 30.0),
    _range("PRI_jet_leading_eta", "|PRI_jet_leading_eta| <= 4.5", -4.5, 4.5),
    _range("PRI_jet_subleading_pt", "PRI_jet_subleading_pt >= 30 GeV", 30.0),
    _range("PRI_jet_subleading_eta", "|PRI_jet_subleading_eta| <= 4.5", -4.5, 4.5),
    *(_range(name, f"|{name}| <= 3.142 rad (pi after rounding)", -3.142, 3.142) for name in _PHIS),
    _range(_MMC, "DER_mass_MMC > 0 GeV where it is present", 0.0, above=True),
    Rule(
        "mmc_and_visible_mass",
        "ranges",
        "DER_mass_MMC is 0.9 to 10 times DER_mass_vis",
        (_MMC, "DER_mass_vis"),
        _odd_mmc,
        _present(_MMC, "DER_mass_vis"),
        warning=True,
    ),
    _apart("PRI_tau", "PRI_lep", 0.2),
    _apart("PRI_tau", "PRI_jet_leading", 0.38),
    _apart("PRI_tau", "PRI_jet_subleading", 0.38),
    _apart("PRI_lep", "PRI_jet_leading", 0.2),
    _apart("PRI_lep", "PRI_jet_subleading", 0.2),
    _apart("PRI_jet_leading", "PRI_jet_subleading", 0.38),
    # Relations: jets among themselves, derived quantities to primary ones.
    Rule(
        "jets_ordered",
        "jets",
        "PRI_jet_leading_pt >= PRI_jet_subleading_pt",
        (_LEADING, _SUBLEADING),
        lambda table: table[_LEADING] < table[_SUBLEADING] - table.slack(_LEADING, _SUBLEADING),
        _present(_LEADING, _SUBLEADING),
    ),
    Rule(
        "jets_sum",
        "jets",
        "PRI_jet_all_pt is the sum of the jets' pt; at least 30 GeV more than the leading two for PRI_jet_num = 3",
        (_JETS, _LEADING, _SUBLEADING, _ALL),
        _wrong_jet_sum,
    ),
    *(_derived_rule(name) for name in ANALYTIC),
    Rule(
        "dijet_mass_usual",
        "derived",
        "DER_mass_jet_jet is at most 1.5 times that of massless jets",
        (_DIJET, *FORMULAS[_DIJET].inputs),
        partial(_disagrees, _DIJET),
        _present(_DIJET),
        warning=True,
    ),
    # Weights: each event against the bulk of its kind.
    Rule(
        "weight_ratio",
        "weights",
        "KaggleWeight / Weight is one number per Label and KaggleSet",
        ("Label", "KaggleSet", "Weight", "KaggleWeight"),
        _odd_ratio,
        whole=True,
    ),
    Rule(
        "signal_weights_few",
        "weights",
        "signal takes few distinct weights",
        ("Label", "Weight"),
        _odd_signal_weight,
        _signal,
        warning=True,
        whole=True,
    ),
    Rule(
        "label_and_weight",
        "weights",
        "signal weights lie below all background weights",
        ("Label", "Weight"),
        _label_against_weight,
        warning=True,
        whole=True,
    ),
)
"""Every rule of the challenge's layout, in the order in which a report shows them."""

_MARKS = (-9999.0, -999.0, -99.0, 999.0, 9999.0)
_OF_PRIMARY = {"_phi": (-3.142, 3.142), "_pt": (0.0, math.inf), "_met": (0.0, math.inf)}  # by the end of the name


def rules_of(schema: TableSchema) -> tuple[Rule, ...]:
    """Return the rules of a layout: `RULES` for the challenge's, otherwise only what the layout states."""
    if schema == ATLAS_HIGGS:
        return RULES
    weights = tuple(name for name in (schema.weight, schema.subset_weight) if name)
    whole = tuple(name for name in column_types(schema) if name in (*schema.integers, schema.group, schema.fold))
    measured = tuple(name for name in schema.numeric if name not in whole)
    marked = schema.missing is not None or schema.empty_is_missing
    never, text = (*whole, *weights), "no whole number and no weight is missing"
    if not marked:
        never, text = (*never, *measured), "no value is missing, because the layout has no mark of missing values"
    rules = [_unique(schema.event_id)] if schema.event_id else []
    labels = () if schema.background is None else (schema.signal, schema.background)
    for name, allowed in ((schema.label, labels), (schema.subset, schema.subset_values), (schema.process, ())):
        if name:
            rules.append(_known(f"known_{name}", name, f"{name} is {' or '.join(allowed) or 'never empty'}", allowed))
    rules += [_positive(f"positive_{name}", name) for name in weights if not schema.negative_weights]
    cells = {"finite": ("structure", "no value is NaN or infinite", (*measured, *weights), _not_finite),
             "never_missing": ("missing", text, never, lambda table, name: ~table.present(name))}  # fmt: skip
    rules += [_each(name, *what, needed=False) for name, what in cells.items() if what[2]]
    return (*rules, *_looks(schema, measured))


def _looks(schema: TableSchema, measured: tuple[str, ...]) -> Iterator[Rule]:
    """Yield the rules about single values: marks of missing values, ranges of primary quantities, and groups."""
    marks = [mark for mark in _MARKS if mark != schema.missing]

    def marked(table: RuleTable, name: str) -> BoolArray:
        return table.frame[name].is_in(marks).fill_null(False).to_numpy()

    text = f"no feature is {', '.join(f'{mark:g}' for mark in marks)}, which often mark missing values"
    if measured:
        yield replace(_each("unknown_mark", "missing", text, measured, marked, needed=False), warning=True)
    for name in (name for name in measured if name.startswith("PRI_")):
        for ending, (low, high) in _OF_PRIMARY.items():
            if name.endswith(ending):
                yield _range(name, f"{name} >= 0" if low == 0.0 else f"|{name}| <= {high} rad", low, high)
    if schema.group is not None and schema.groups:
        group, numbers = schema.group, [number for numbers in schema.groups for number in numbers]
        text = f"{group} is in one of the groups of the layout"
        yield Rule("groups", "ranges", text, (group,), lambda table: ~np.isin(table[group], numbers))
