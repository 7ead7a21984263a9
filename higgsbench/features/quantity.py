"""The record of one feature, builders of kinematic quantities, and features from columns and SQL expressions.

Each word of a user's expression is checked before Polars sees it. Allowed are columns that may be features, numbers,
operators and functions that act on one event at a time. A configuration from somebody else can therefore run no code,
and no expression can look at other events (sums, ranks, windows), which would leak between folds.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import ConfigError, nearest_hint, shortened
from higgsbench.schema import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    """

    name: str
    expression: pl.Expr
    formula: str
    unit: str
    source: str
    group: str
    identity: str = ""


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

    @classmethod
    def polar(cls, name: str, pt: pl.Expr, phi: pl.Expr, eta: pl.Expr | None = None) -> Momentum:
        """Make an object from its polar coordinates (GeV, rad)."""
        return cls(name, pt, phi, pt * phi.cos(), pt * phi.sin(), eta)

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


def _half_angle_squared(a: Momentum, b: Momentum) -> pl.Expr:
    sine = ((a.phi - b.phi) / 2).sin()
    return sine * sine


def transverse_mass_squared(a: Momentum, b: Momentum) -> pl.Expr:
    """2 pt_a pt_b (1 - cos(phi_a - phi_b)) in GeV^2, written as 4 pt_a pt_b sin^2 so that nothing cancels."""
    return 4 * a.pt * b.pt * _half_angle_squared(a, b)


def invariant_mass(a: Momentum, b: Momentum) -> pl.Expr:
    """sqrt(2 pt_a pt_b (cosh(eta_a - eta_b) - cos(phi_a - phi_b))) in GeV, written so that nothing cancels."""
    opening = ((a.pseudorapidity - b.pseudorapidity) / 2).sinh()
    return 2 * (a.pt * b.pt * (opening * opening + _half_angle_squared(a, b))).sqrt()


def signed_log1p(x: pl.Expr) -> pl.Expr:
    """sign(x) ln(1 + |x|): a logarithm that keeps the sign and is linear around 0."""
    return x.sign() * x.abs().log1p()


def present(x: pl.Expr) -> pl.Expr:
    """Infinite and NaN results of a quotient become null: the quantity does not exist there."""
    return pl.when(x.is_finite()).then(x)


_MEANING: dict[str, str] = tomllib.loads((resources.files(__package__) / "columns.toml").read_text("utf-8"))
"""What each column of the challenge holds."""


def raw_quantities(schema: TableSchema) -> list[Quantity]:
    """All measured columns of a layout, as they are in the file."""
    found = []
    for name in schema.features:
        source = CHALLENGE if name in _MEANING else f"layout {schema.name}"
        meaning, unit = _MEANING.get(name, "column of the file"), UNITS.get(name, "")
        found.append(Quantity(name, pl.col(name), meaning, unit, source, "columns"))
    return found


_ARGUMENTS = {
    **dict.fromkeys(("abs", "sign", "sqrt", "cbrt", "exp", "ln", "log10", "log1p", "log2"), (1, 1)),
    **dict.fromkeys(("sin", "cos", "tan", "asin", "acos", "atan", "degrees", "radians"), (1, 1)),
    **dict.fromkeys(("round", "floor", "ceil"), (1, 2)),
    **dict.fromkeys(("pow", "power", "log", "atan2", "ifnull", "nullif"), (2, 2)),
    **dict.fromkeys(("greatest", "least", "coalesce"), (1, 1000)),
    "if": (3, 3),
    "pi": (0, 0),
}
_SAID = {"log": "log(x, base); the natural logarithm is ln(x)", "if": "if(condition, then, else)"}

FUNCTIONS = frozenset(_ARGUMENTS)
"""SQL functions that an expression may call; each acts on one event."""

MOST_STEPS, MOST_WORDS = 200, 2000
"""The largest number of operators and functions, and of words, in one expression: Polars' time grows with the cube of
the number of operators and reaches minutes for thousands."""

_WORDS = frozenset(
    {"case", "when", "then", "else", "end", "and", "or", "not", "is", "in", "between", "null", "true", "false"}
)
_VALUES = frozenset({"end", "null", "true", "false"})
_STEPS = frozenset({"when", "and", "or", "not", "is", "in", "between"})
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?(?![\w.]))
    |(?P<word>[^\W\d]\w*)
    |(?P<quoted>"[^"]+")
    |(?P<operator><=|>=|<>|!=|==|[-+*/(),<>=])""",
    re.VERBOSE,
)
NEVER = "cannot be a feature, because it reveals the label or only identifies the event"
"""What messages say about a column that models may not see."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.+-]{0,79}")


def _tokens(text: str, where: str) -> Iterator[tuple[str, str]]:
    """Yield kind and text of each token."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ConfigError(
                f"{where}: {text[position]!r} at character {position + 1} is not allowed in an expression; use "
                "columns, numbers, + - * /, comparisons, brackets and functions of one event"
            )
        position = match.end()
        if match.lastgroup != "space":
            yield str(match.lastgroup), match.group()


def _check_words(text: str, schema: TableSchema, where: str) -> None:
    """Refuse everything except columns, numbers, operators, known words and functions of one event."""
    words: list[str] = []
    steps, after_value = 0, False  # whether the expression could end here
    for (kind, word), (_, following) in pairwise(chain(_tokens(text, where), [("", "")])):
        lower = word.lower()
        keyword = kind == "word" and lower in _WORDS
        function = kind == "word" and not keyword and following == "("
        column = kind == "quoted" or (kind == "word" and not keyword and not function)
        if function and lower not in FUNCTIONS:
            hint = nearest_hint(lower, FUNCTIONS, f" (choose from {', '.join(sorted(FUNCTIONS))})")
            raise ConfigError(f"{where}: {shortened(word)} is not a function of one event{hint}")
        name = word.strip('"')
        if column and name in schema.not_features:
            raise ConfigError(f"{where}: {name} {NEVER}")
        if column and name not in schema.features:
            raise ConfigError(f"{where}: no column named {shortened(name)!r}{nearest_hint(name, schema.features)}")
        if after_value and (column or function or kind == "number" or word == "("):
            # SQL would take a name here as an alias.
            raise ConfigError(f"{where}: an operator is missing before {shortened(word)}")
        words.append(lower)
        steps += function or lower in _STEPS or (kind == "operator" and word not in "(),")
        if steps > MOST_STEPS or len(words) > MOST_WORDS:
            limits = f"{MOST_STEPS} operators and functions or {MOST_WORDS} words"
            raise ConfigError(f"{where}: longer than {limits}; divide it into several features")
        after_value = column or kind == "number" or word == ")" or (keyword and lower in _VALUES)
    _check_arguments(words, where)


def _check_arguments(words: Sequence[str], where: str) -> None:
    """Count the arguments of functions, because Polars reports a wrong number of them as an unknown function."""
    brackets: list[tuple[str, int]] = []  # per open bracket: the word before it, and its arguments so far
    for before, word, following in zip(["", *words], words, [*words[1:], ""], strict=False):
        if word == "(":
            brackets.append((before, int(following != ")")))
        elif word == "," and not brackets:
            raise ConfigError(f"{where}: a comma outside brackets; one expression makes one feature")
        elif word == ",":
            name, count = brackets.pop()
            brackets.append((name, count + 1))
        elif word == ")" and brackets:
            name, count = brackets.pop()
            least, most = _ARGUMENTS.get(name, (0, count))
            if not least <= count <= most:
                number = "no" if most == 0 else str(least) if most == least else f"{least} or more"
                plural, known = "" if number == "1" else "s", f": {_SAID[name]}" if name in _SAID else ""
                raise ConfigError(f"{where}: {name} takes {number} argument{plural}, not {count}{known}")


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
    _check_words(text, schema, where)
    try:
        expression = pl.sql_expr(text)
        # Evaluate once on an empty table: type errors depend on the expression, not on the data.
        empty = pl.DataFrame(schema=dict.fromkeys(schema.features, pl.Float64)).select(expression.cast(pl.Float64))
    except pl.exceptions.PolarsError as problem:
        raise ConfigError(f"{where}: {shortened(str(problem).splitlines()[0], 160)}") from problem
    if not expression.meta.root_names() or empty.width != 1:
        raise ConfigError(f"{where}: uses no column, so its value is the same for every event; use at least one column")
    finite = present(expression.cast(pl.Float64))
    return Quantity(name, finite, text, "", "configuration", "of the user", identity=f"sql: {' '.join(text.split())}")
