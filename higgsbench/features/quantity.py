"""The record of one feature: its expression and what a reader must know about it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

__all__ = ["CHALLENGE", "Quantity"]

CHALLENGE = "Adam-Bourdarios et al. 2014, app. B"
"""Where the columns of the challenge's file are defined: C. Adam-Bourdarios, G. Cowan, C. Germain, I. Guyon, B. Kegl,
D. Rousseau, "Learning to discover: the Higgs boson machine learning challenge" (2014)."""


@dataclass(frozen=True)
class Quantity:
    """A feature and its documentation.

    Attributes:
        name: column name in the feature matrix.
        expression: elementwise Polars expression on an event table; null where the quantity does not exist.
        formula: definition in terms of columns and other quantities.
        unit: GeV, rad, or empty for a pure number.
        source: the paper or convention that defines it.
        group: heading under which tables list it.
        identity: text that stands for the expression in digests; the printed expression where empty.
    """

    name: str
    expression: pl.Expr
    formula: str
    unit: str
    source: str
    group: str
    identity: str = ""

    @property
    def signature(self) -> list[str]:
        """Name and definition, for digests."""
        return [self.name, self.identity or str(self.expression)]
