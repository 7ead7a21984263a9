"""Rules about the range of single quantities: what the selection and the detector allow, never what is extreme.

Limits follow from the selection (thresholds, acceptance) and therefore hold for any event; a large value is not a
violation. Where the real file is known to hold rare events just outside a stated range, the range is a warning.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from higgsbench.events.derived import wrap
from higgsbench.events.validate.rule import BoolArray, FloatArray, Rule, RuleTable

__all__ = ["RANGE_RULES", "separation"]

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
_MMC = ("DER_mass_MMC", "DER_mass_vis")

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
        _MMC,
        _odd_mmc,
        partial(_present, _MMC),
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
