"""Features written by users as SQL expressions over the columns of a layout.

Each word of an expression is checked before Polars sees it. Allowed are columns that may be features, numbers,
operators and functions that act on one event at a time. A configuration from somebody else can therefore run no code,
and no expression can look at other events (sums, ranks, windows), which would leak between folds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import ConfigError, nearest_hint, shortened
from higgsbench.features.quantity import Quantity, present

if TYPE_CHECKING:
    from collections.abc import Iterator

    from higgsbench.schema import TableSchema

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
"""SQL functions of one event that an expression may call."""

MOST_STEPS, MOST_WORDS = 200, 2000
"""Most operators and functions, and most words, of one expression: the time that Polars takes grows with the cube of
the number of operators, to minutes for thousands."""

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
"""What messages say of a column that models may not see."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.+-]{0,79}")


def check_column(column: str, schema: TableSchema, where: str = "features") -> None:
    """Refuse a name that is not a column a model may see.

    Args:
        column: the name.
        schema: the layout of the events.
        where: what the message begins with.

    Raises:
        ConfigError: naming the nearest column, or why this one cannot be a feature.
    """
    if column in schema.not_features:
        raise ConfigError(f"{where}: {column} {NEVER}")
    if column not in schema.features:
        raise ConfigError(f"{where}: no column named {shortened(column)!r}{nearest_hint(column, schema.features)}")


def _tokens(text: str, where: str) -> Iterator[tuple[str, str, str]]:
    """Yield kind, text and the text that follows of each token."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ConfigError(
                f"{where}: {text[position]!r} at character {position + 1} is not allowed in an expression; use "
                "columns, numbers, + - * /, comparisons, brackets and functions of one event"
            )
        position = match.end()
        kind = str(match.lastgroup)
        if kind != "space":
            yield kind, match.group(), text[position:].lstrip()


class _Calls:
    """Counts the arguments of functions, because Polars reports a wrong number of them as an unknown function."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.open: list[tuple[str, int]] = []  # of each open bracket its function, if any, and the arguments so far
        self.called = ""

    def take(self, word: str, function: str) -> None:
        """Take the next word, which calls `function` if that is not empty."""
        if word == ")":
            if self.open:
                self._close(*self.open.pop())
        elif word == "," and self.open:
            name, count = self.open.pop()
            self.open.append((name, count + 1))
        elif self.open and self.open[-1][1] == 0:
            self.open[-1] = (self.open[-1][0], 1)
        if word == "(":
            self.open.append((self.called, 0))
        self.called = function

    def _close(self, name: str, count: int) -> None:
        least, most = _ARGUMENTS.get(name, (0, count))
        if not least <= count <= most:
            number = "no" if most == 0 else str(least) if most == least else f"{least} or more"
            known = f": {_SAID[name]}" if name in _SAID else ""
            raise ConfigError(
                f"{self.where}: {name} takes {number} argument{'' if number == '1' else 's'}, not {count}{known}"
            )


def _check_words(text: str, schema: TableSchema, where: str) -> None:
    """Refuse everything except columns, numbers, operators, known words and functions of one event."""
    calls, after_value = _Calls(where), False  # whether the expression could end here
    steps = 0
    for words, (kind, word, rest) in enumerate(_tokens(text, where), start=1):
        lower = word.lower()
        keyword = kind == "word" and lower in _WORDS
        function = kind == "word" and not keyword and rest.startswith("(")
        column = kind == "quoted" or (kind == "word" and not keyword and not function)
        if function and lower not in FUNCTIONS:
            hint = nearest_hint(lower, FUNCTIONS, f" (there are {', '.join(sorted(FUNCTIONS))})")
            raise ConfigError(f"{where}: no function {shortened(word)} of one event{hint}")
        if column:
            check_column(word.strip('"'), schema, where)
        if after_value and (column or function or kind == "number" or word == "("):
            # SQL would take a name here as a new title.
            raise ConfigError(f"{where}: no operator before {shortened(word)}")
        steps += function or lower in _STEPS or (kind == "operator" and word not in "(),")
        if steps > MOST_STEPS or words > MOST_WORDS:
            limits = f"{MOST_STEPS} operators and functions or {MOST_WORDS} words"
            raise ConfigError(f"{where}: longer than {limits}; divide it into features")
        if word == "," and not calls.open:
            raise ConfigError(f"{where}: a comma outside brackets; one expression makes one feature")
        calls.take(word, lower if function else "")
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
