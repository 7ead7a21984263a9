"""The record of one feature, builders of kinematic quantities, and features from columns and SQL expressions."""

from __future__ import annotations

import json
import math
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import ConfigError, shortened
from higgsbench.expressions import parse_expression
from higgsbench.schema import UNITS

if TYPE_CHECKING:
    from higgsbench.schema import TableSchema

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
        categories: values of a categorical feature, whose expression is their position; empty for a number.
    """

    name: str
    expression: pl.Expr
    formula: str
    unit: str
    source: str
    group: str
    identity: str = ""
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Momentum:
    """A massless object; the missing transverse momentum has no `eta`.

    Attributes:
        name: short name, as in names of features.
        pt: transverse momentum in GeV.
        phi: azimuth in rad.
        px: pt cos(phi) in GeV.
        py: pt sin(phi) in GeV.
        eta: pseudorapidity, None for a purely transverse object.
    """

    name: str
    pt: pl.Expr
    phi: pl.Expr
    px: pl.Expr
    py: pl.Expr
    eta: pl.Expr | None = None

    @property
    def pseudorapidity(self) -> pl.Expr:
        """The `eta` of an object that has one."""
        if self.eta is None:
            raise TypeError(f"{self.name} is transverse and has no pseudorapidity")
        return self.eta

    @property
    def pz(self) -> pl.Expr:
        """Longitudinal momentum, pt sinh(eta), in GeV."""
        return self.pt * self.pseudorapidity.sinh()


def wrap(phi: pl.Expr) -> pl.Expr:
    """Bring an angle to [-pi, pi)."""
    return phi - 2 * math.pi * ((phi + math.pi) / (2 * math.pi)).floor()


def hypot(x: pl.Expr, y: pl.Expr) -> pl.Expr:
    """sqrt(x^2 + y^2)."""
    return (x * x + y * y).sqrt()


def abs_delta_phi(a: Momentum, b: Momentum) -> pl.Expr:
    """|wrap(phi_a - phi_b)| in rad, 0 to pi."""
    return wrap(a.phi - b.phi).abs()


def abs_delta_eta(a: Momentum, b: Momentum) -> pl.Expr:
    """|eta_a - eta_b|."""
    return (a.pseudorapidity - b.pseudorapidity).abs()


def delta_r(a: Momentum, b: Momentum) -> pl.Expr:
    """sqrt(delta eta^2 + delta phi^2)."""
    return hypot(abs_delta_eta(a, b), abs_delta_phi(a, b))


def opening_angle(ax: pl.Expr, ay: pl.Expr, bx: pl.Expr, by: pl.Expr) -> pl.Expr:
    """Angle in rad, 0 to pi, between two transverse vectors; no wrapping and no cancellation at its ends."""
    return pl.arctan2((ax * by - ay * bx).abs(), ax * bx + ay * by)


def transverse_mass_squared(a: Momentum, b: Momentum) -> pl.Expr:
    """2 pt_a pt_b (1 - cos(phi_a - phi_b)) in GeV^2, written as 4 pt_a pt_b sin^2 so that nothing cancels."""
    sine = ((a.phi - b.phi) / 2).sin()
    return 4 * a.pt * b.pt * (sine * sine)


def signed_log1p(x: pl.Expr) -> pl.Expr:
    """sign(x) ln(1 + |x|): a logarithm that keeps the sign and is linear around 0."""
    return x.sign() * x.abs().log1p()


_MEANING: dict[str, str] = tomllib.loads((resources.files(__package__) / "columns.toml").read_text("utf-8"))
"""What each column of the challenge holds."""


def raw_quantities(schema: TableSchema) -> list[Quantity]:
    """All measured columns of a layout, as they are in the file."""
    found = []
    for name in schema.features:
        source = CHALLENGE if name in _MEANING else f"layout {schema.name}"
        meaning, unit = _MEANING.get(name, "column of the file"), UNITS.get(name, "")
        value, identity, values = pl.col(name), "", schema.categories.get(name, ())
        if name in schema.categories:
            # The position of an event's category among the known ones; null for others and for missing ones.
            value = value.replace_strict(values, range(len(values)), default=None, return_dtype=pl.Float64)
            meaning, unit = f"category: {', '.join(values) or 'found in the training events'}", ""
            identity = f"category: {json.dumps([name, *values])}"
        found.append(Quantity(name, value, meaning, unit, source, "columns", identity, values))
    return found


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.+-]{0,79}")


def sql_quantity(name: str, text: str, schema: TableSchema) -> Quantity:
    """Turn a user's SQL expression into a feature.

    Every column counts as a float64, so that `/` never divides whole numbers; a comparison becomes 1 or 0; an infinite
    or undefined result becomes null.

    Args:
        name: name of the feature.
        text: the expression, e.g. `DER_mass_MMC / DER_mass_vis`.
        schema: the layout of the events.

    Raises:
        ConfigError: for a name or expression that is not allowed, with the word at fault.
    """
    where = f"features: expression {name!r}"
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"features: name {shortened(name)!r}: use 1 to 80 letters, digits or _.+-, beginning with a letter or an "
            "underscore"
        )
    if name in (*schema.features, *schema.not_features):
        raise ConfigError(f"{where}: a column of the layout has that name; choose another")
    expression = parse_expression(text, schema.features, where, never=schema.not_features, vectors=False)
    for leaf in expression.leaves:
        if leaf.branch in schema.categories:
            raise ConfigError(f"{where}: {leaf.branch} is categorical; expressions may only use columns of numbers")
    identity = f"sql: {' '.join(text.split())}"
    return Quantity(name, expression.polars, text, "", "configuration", "of the user", identity=identity)
