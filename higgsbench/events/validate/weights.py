"""Rules about the structure of the weights, each comparing an event with the bulk of its kind."""

from __future__ import annotations

import numpy as np
import polars as pl

from higgsbench.events.validate.rule import BoolArray, Rule, RuleTable

__all__ = ["WEIGHT_RULES"]

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
