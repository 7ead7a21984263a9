"""The rules that events of the challenge's layout obey, and the view of the events that rules look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from higgsbench.events.derived import ANALYTIC, FORMULAS, HALF_STEP, agreement, columns_of, derive, wrap
from higgsbench.schema import ATLAS_HIGGS, FEATURES, STRUCTURALLY_MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

__all__ = [
    "MISSING_RULES",
    "RANGE_RULES",
    "RELATION_RULES",
    "STRUCTURE_RULES",
    "WEIGHT_RULES",
    "BoolArray",
    "FloatArray",
    "Rule",
    "RuleTable",
    "separation",
]


FloatArray: TypeAlias = "npt.NDArray[np.float64]"
BoolArray: TypeAlias = "npt.NDArray[np.bool_]"


class RuleTable:
    """Rows of an event table as rules see them: numpy columns on demand, each converted once.

    Attributes:
        frame: the rows, missing values null.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self._columns: dict[str, FloatArray] = {}

    def __len__(self) -> int:
        return self.frame.height

    def __getitem__(self, name: str) -> FloatArray:
        """Return (n,) values of a numeric column, NaN where missing; not to be written to."""
        if name not in self._columns:
            self._columns[name] = columns_of(self.frame, (name,))[name]
        return self._columns[name]

    def has(self, *names: str) -> bool:
        """Whether all the named columns exist."""
        return all(name in self.frame.columns for name in names)

    def present(self, *names: str) -> BoolArray:
        """(n,) whether all the named columns hold a number."""
        there = np.ones(len(self), dtype=np.bool_)
        for name in names:
            there &= ~np.isnan(self[name])
        return there


@dataclass(frozen=True)
class Rule:
    """One statement about events that is true or false for each row.

    Attributes:
        name: short identifier, unique in the registry.
        group: heading under which the rule is shown.
        description: the statement, with units.
        columns: columns the rule needs and shows for an offending row; without one of them it is not applicable.
        offenders: takes the table, returns (n,) True for rows that break the rule.
        checked: takes the table, returns (n,) True for rows the statement speaks about; None means all rows.
        warning: whether breaking it is rare but legal, so that only a strict validation fails.
        whole: whether the rule compares rows with each other and therefore needs all of them at once.
        cells: takes a table of one offending row, returns the columns at fault; None means `columns`.
    """

    name: str
    group: str
    description: str
    columns: tuple[str, ...]
    offenders: Callable[[RuleTable], BoolArray]
    checked: Callable[[RuleTable], BoolArray] | None = None
    warning: bool = False
    whole: bool = False
    cells: Callable[[RuleTable], tuple[str, ...]] | None = None


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


_INF = float("inf")


def _outside(name: str, low: float, high: float, table: RuleTable) -> BoolArray:
    values = table[name]
    return (values < low) | (values > high)


def _not_above(name: str, low: float, table: RuleTable) -> BoolArray:
    return table[name] <= low


def _present(names: tuple[str, ...], table: RuleTable) -> BoolArray:
    return table.present(*names)


def _range(name: str, low: float, high: float, text: str, *, warning: bool = False) -> Rule:
    suffix = "_usual" if warning else ""
    return Rule(
        f"range_{name}{suffix}",
        "ranges",
        text,
        (name,),
        partial(_outside, name, low, high),
        partial(_present, (name,)),
        warning,
    )


def _above(name: str, low: float, text: str, *, warning: bool = False) -> Rule:
    suffix = "_usual" if warning else ""
    offenders = partial(_not_above, name, low)
    return Rule(f"range_{name}{suffix}", "ranges", text, (name,), offenders, partial(_present, (name,)), warning)


def separation(table: RuleTable, first: str, second: str) -> FloatArray:
    """(n,) distance in eta and phi of two objects, NaN where one does not exist."""
    deta = table[f"{first}_eta"] - table[f"{second}_eta"]
    return np.hypot(deta, wrap(table[f"{first}_phi"] - table[f"{second}_phi"]))


def _too_close(first: str, second: str, limit: float, table: RuleTable) -> BoolArray:
    return separation(table, first, second) < limit


def _apart(first: str, second: str, limit: float) -> Rule:
    columns = tuple(f"{part}_{what}" for part in (first, second) for what in ("eta", "phi"))
    return Rule(
        f"apart_{first[4:]}_{second[4:]}",
        "ranges",
        f"{first} and {second} are at least {limit} apart in (eta, phi)",
        columns,
        partial(_too_close, first, second, limit),
        partial(_present, columns),
        warning=True,
    )


def _odd_jet_number(table: RuleTable) -> BoolArray:
    return ~np.isin(table["PRI_jet_num"], (0.0, 1.0, 2.0, 3.0))


def _odd_mmc(table: RuleTable) -> BoolArray:
    ratio = table["DER_mass_MMC"] / table["DER_mass_vis"]
    return (ratio < 0.9) | (ratio > 10.0)


_PHIS = ("PRI_tau_phi", "PRI_lep_phi", "PRI_met_phi", "PRI_jet_leading_phi", "PRI_jet_subleading_phi")
_MMC_RANGES = ("DER_mass_MMC", "DER_mass_vis")

RANGE_RULES: tuple[Rule, ...] = (
    _range("PRI_tau_pt", 20.0, _INF, "PRI_tau_pt >= 20 GeV"),
    _range("PRI_tau_eta", -2.5, 2.5, "|PRI_tau_eta| <= 2.5"),
    _range("PRI_lep_pt", 26.0, _INF, "PRI_lep_pt >= 26 GeV"),
    # Electrons are measured by clusters whose edge lies a little beyond 2.5: a few in 100,000 events reach 2.505.
    _range("PRI_lep_eta", -2.51, 2.51, "|PRI_lep_eta| <= 2.51"),
    _range("PRI_lep_eta", -2.5, 2.5, "|PRI_lep_eta| <= 2.5 but for a few electrons", warning=True),
    _above("PRI_met", 0.0, "PRI_met > 0 GeV"),
    _above("PRI_met_sumet", 0.0, "PRI_met_sumet > 0 GeV"),
    _above("PRI_met_sumet", 20.0, "PRI_met_sumet > 20 GeV but for a few quiet events", warning=True),
    Rule("range_PRI_jet_num", "ranges", "PRI_jet_num is 0, 1, 2 or 3", ("PRI_jet_num",), _odd_jet_number),
    _range("PRI_jet_leading_pt", 30.0, _INF, "PRI_jet_leading_pt >= 30 GeV"),
    _range("PRI_jet_leading_eta", -4.5, 4.5, "|PRI_jet_leading_eta| <= 4.5"),
    _range("PRI_jet_subleading_pt", 30.0, _INF, "PRI_jet_subleading_pt >= 30 GeV"),
    _range("PRI_jet_subleading_eta", -4.5, 4.5, "|PRI_jet_subleading_eta| <= 4.5"),
    *(_range(name, -3.142, 3.142, f"|{name}| <= 3.142 rad (pi after rounding)") for name in _PHIS),
    _above("DER_mass_MMC", 0.0, "DER_mass_MMC > 0 GeV where it is present"),
    Rule(
        "mmc_and_visible_mass",
        "ranges",
        "DER_mass_MMC is 0.9 to 10 times DER_mass_vis",
        _MMC_RANGES,
        _odd_mmc,
        partial(_present, _MMC_RANGES),
        warning=True,
    ),
    _apart("PRI_tau", "PRI_lep", 0.2),
    _apart("PRI_tau", "PRI_jet_leading", 0.38),
    _apart("PRI_tau", "PRI_jet_subleading", 0.38),
    _apart("PRI_lep", "PRI_jet_leading", 0.2),
    _apart("PRI_lep", "PRI_jet_subleading", 0.2),
    _apart("PRI_jet_leading", "PRI_jet_subleading", 0.38),
)
"""Acceptance and thresholds (violations), closeness and other rarities (warnings)."""


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


_JETS_RELATIONS = ("PRI_jet_num", _LEADING, _SUBLEADING, _ALL)

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
        _JETS_RELATIONS,
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


_RATIO_TOLERANCE = 2.5e-7  # the file's 12 digits give 1e-11; a file in single precision 1e-7
_COMMON = 0.005  # the rarest of the official file's four values has a share of 0.08
_BULK = 0.99
_ENOUGH = 1000


def _odd_ratio(table: RuleTable) -> BoolArray:
    ratio = pl.col("KaggleWeight") / pl.col("Weight")
    usual = ratio.median().over("Label", "KaggleSet")
    odd = ((ratio / usual - 1.0).abs() > _RATIO_TOLERANCE).fill_null(True)
    return table.frame.select(odd).to_series().to_numpy()


def _signal(table: RuleTable) -> BoolArray:
    return (table.frame["Label"] == "s").fill_null(False).to_numpy()


def _odd_signal_weight(table: RuleTable) -> BoolArray:
    """Signal whose weight is none of the few common ones, in files whose signal has few weights at all."""
    signal = _signal(table)
    values, counts = np.unique(table["Weight"][signal], return_counts=True)
    common = values[counts >= _COMMON * signal.sum()]
    odd = signal & ~np.isin(table["Weight"], common)
    few = signal.sum() >= _ENOUGH and odd.sum() <= (1.0 - _BULK) * signal.sum()
    return odd if few else np.zeros(len(table), dtype=np.bool_)


def _label_against_weight(table: RuleTable) -> BoolArray:
    """Background as light as signal or signal as heavy as background, in files where the two are apart."""
    signal, weight = _signal(table), table["Weight"]
    if not signal.any() or signal.all():
        return np.zeros(len(table), dtype=np.bool_)
    top = float(np.quantile(weight[signal], 0.99))
    bottom = float(np.quantile(weight[~signal], 0.01))
    if not top < bottom:
        return np.zeros(len(table), dtype=np.bool_)
    return np.where(signal, weight >= bottom, weight <= top)


WEIGHT_RULES: tuple[Rule, ...] = (
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
"""The ratio of the two weights, the few weights of signal, and light signal against heavy background."""
