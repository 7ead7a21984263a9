"""Features written by users as SQL expressions over the columns of a layout.

An expression is read word by word before Polars sees it: columns that may be features, numbers, operators and
functions that act on one event at a time. Nothing else can be written, so that a configuration from somebody else runs
no code and no expression can look at another event (sums, ranks, windows), which would leak between folds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import ConfigError, nearest_hint
from higgsbench.features.kinematics import present
from higgsbench.features.quantity import Quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from higgsbench.schema import TableSchema

__all__ = ["FUNCTIONS", "check_column", "sql_quantity"]

FUNCTIONS = frozenset(
    {
        *("abs", "sign", "round", "floor", "ceil", "greatest", "least", "coalesce", "ifnull", "nullif", "if"),
        *("sqrt", "cbrt", "pow", "power", "exp", "ln", "log", "log10", "log1p", "log2"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "degrees", "radians", "pi"),
    }
)
"""SQL functions of one event that an expression may call."""

_WORDS = frozenset(
    {"case", "when", "then", "else", "end", "and", "or", "not", "is", "in", "between", "null", "true", "false"}
)
_VALUES = frozenset({"end", "null", "true", "false"})
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?(?![\w.]))
    |(?P<word>[^\W\d]\w*)
    |(?P<quoted>"[^"]+")
    |(?P<operator><=|>=|<>|!=|==|[-+*/(),<>=])""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.+-]{0,79}")


def check_column(column: str, schema: TableSchema, where: str = "features") -> None:
    """Refuse a name that is no column a model may see.

    Args:
        column: the name.
        schema: the layout of the events.
        where: what the message begins with.

    Raises:
        ConfigError: naming the nearest column, or why this one can never be a feature.
    """
    if column in schema.not_features:
        raise ConfigError(f"{where}: {column} can never be a feature: it gives away the label or is mere bookkeeping")
    if column not in schema.features:
        raise ConfigError(f"{where}: no column named {column!r}{nearest_hint(column, schema.features)}")


def _tokens(text: str, where: str) -> Iterator[tuple[str, str, str]]:
    """Yield kind, text and the text that follows of each token."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ConfigError(
                f"{where}: {text[position]!r} at character {position + 1} has no place in an expression; there may be "
                "columns, numbers, + - * /, comparisons, brackets and functions of one event"
            )
        position = match.end()
        kind = str(match.lastgroup)
        if kind != "space":
            yield kind, match.group(), text[position:].lstrip()


def _check_words(text: str, schema: TableSchema, where: str) -> None:
    """Refuse all but columns, numbers, operators, known words and functions of one event."""
    depth, after_value = 0, False  # of brackets; whether the expression could end here
    for kind, word, rest in _tokens(text, where):
        lower = word.lower()
        keyword = kind == "word" and lower in _WORDS
        function = kind == "word" and not keyword and rest.startswith("(")
        column = kind == "quoted" or (kind == "word" and not keyword and not function)
        if function and lower not in FUNCTIONS:
            hint = nearest_hint(lower, FUNCTIONS, f" (there are {', '.join(sorted(FUNCTIONS))})")
            raise ConfigError(f"{where}: no function {word} of one event{hint}")
        if column:
            check_column(word.strip('"'), schema, where)
        if after_value and (column or function or kind == "number" or word == "("):
            raise ConfigError(f"{where}: no operator before {word}")  # SQL would take a name here as a new title
        depth += (word == "(") - (word == ")")
        if word == "," and depth == 0:
            raise ConfigError(f"{where}: a comma outside brackets; one expression makes one feature")
        after_value = column or kind == "number" or word == ")" or (keyword and lower in _VALUES)


def sql_quantity(name: str, text: str, schema: TableSchema) -> Quantity:
    """Turn a user's SQL expression into a feature.

    Every column counts as a float64, so that `/` never divides whole numbers; a comparison becomes 1 or 0; an infinite
    or undefined result becomes null.

    Args:
        name: name of the feature.
        text: the expression, e.g. `DER_mass_MMC / DER_mass_vis`.
        schema: the layout of the events.

    Returns:
        The feature.

    Raises:
        ConfigError: for a name or expression that is not allowed, with the word at fault.
    """
    where = f"features: expression {name!r}"
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"features: name {name!r}: use 1 to 80 letters, digits or _.+-, beginning with a letter or an underscore"
        )
    if name in (*schema.features, *schema.not_features):
        raise ConfigError(f"{where}: a column of the layout has that name; choose another")
    _check_words(text, schema, where)
    try:
        expression = pl.sql_expr(text)
        # Evaluated once on nothing: types that do not go together are a matter of the expression, not of the data.
        empty = pl.DataFrame(schema=dict.fromkeys(schema.features, pl.Float64)).select(expression.cast(pl.Float64))
    except pl.exceptions.PolarsError as problem:
        raise ConfigError(f"{where}: {str(problem).splitlines()[0][:200]}") from problem
    if not expression.meta.root_names() or empty.width != 1:
        raise ConfigError(f"{where}: names no column, so it is the same for every event")
    finite = present(expression.cast(pl.Float64))
    return Quantity(name, finite, text, "", "configuration", "of the user", identity=f"sql: {' '.join(text.split())}")
