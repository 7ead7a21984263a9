"""The language of expressions: arithmetic on the columns of one event, in features, weights, selections and folds.

It is a subset of SQL and of what TTree::Draw accepts. Each word is checked before it is passed to Polars. Only columns,
numbers, operators and functions of one event are allowed. Therefore a configuration from somebody else cannot run code,
and no expression can use other events (sums, ranks, windows), which would leak between folds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from higgsbench.errors import ConfigError, nearest_hint, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

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

OF_VECTORS = ("len", "sum", "max", "min", "mean")
"""Functions of the elements of a vector column in one event."""
_SEVERAL = {"max": "; the largest of several values is greatest(...)", "min": "; the smallest is least(...)"}

NEVER = "cannot be a feature, because it reveals the label or only identifies the event"
"""Text of messages about a column that models may not see."""

MOST_STEPS, MOST_WORDS = 200, 2000
"""The largest number of operators and functions, and of words, in one expression: Polars' time grows with the cube of
the number of operators and reaches minutes for thousands."""

_WORDS = frozenset(
    {"case", "when", "then", "else", "end", "and", "or", "not", "is", "in", "between", "null", "true", "false"}
)
_VALUES = frozenset({"end", "null", "true", "false"})
_STEPS = frozenset({"when", "and", "or", "not", "is", "in", "between"})
_TRUTH = frozenset(
    {"<", "<=", ">", ">=", "=", "==", "<>", "!=", "is", "in", "between"}
)  # their result is true or false
_OTHER_SIGNS = {"*": "write power(x, 2)", "^": "write power(x, 2)"} | dict.fromkeys("&|!", "write and, or, not")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?(?![\w.]))
    |(?P<word>[^\W\d]\w*)
    |(?P<quoted>"[^"]+")
    |(?P<other>\*\*|\^|&&?|\|\|?|!(?!=))
    |(?P<operator><=|>=|<>|!=|==|[-+*/%(),<>=[\]])""",
    re.VERBOSE,
)


class Leaf(NamedTuple):
    """One input of an expression: the value of a column, or an element or summary of a vector column.

    Attributes:
        branch: column of the table or branch of the tree.
        what: None for the value itself, a number for that element, counted from 0, or one of `OF_VECTORS`.
    """

    branch: str
    what: int | str | None = None

    @property
    def name(self) -> str:
        """The column that holds it when the expression is evaluated: `met`, `jet_pt[0]`, `len(jet_pt)`."""
        if self.what is None:
            return self.branch
        return f"{self.branch}[{self.what}]" if isinstance(self.what, int) else f"{self.what}({self.branch})"


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes:
        text: as written.
        polars: the value as a float64, over numeric columns named as the leaves; a comparison is 1 or 0, and a number
            that is not 0 counts as true; missing, infinite and undefined results are null. `column % number` is exact
            for whole numbers of any size.
        leaves: its inputs, each once, in the order of the text.
    """

    text: str
    polars: pl.Expr
    leaves: tuple[Leaf, ...]

    @property
    def holds(self) -> pl.Expr:
        """The expression as a condition: whether the value exists and is not 0; never null."""
        return (self.polars != 0).fill_null(False)


class _Token(NamedTuple):
    kind: str  # number, word, quoted, operator, or leaf for a column
    text: str
    leaf: Leaf | None = None


def present(x: pl.Expr) -> pl.Expr:
    """Infinite and NaN results of a quotient become null: the quantity does not exist there."""
    return pl.when(x.is_finite()).then(x)


def parse_expression(
    text: str,
    columns: Collection[str] | None,
    where: str,
    *,
    never: Collection[str] = (),
    reason: str = NEVER,
    vectors: bool = True,
) -> Expression:
    """Check an expression and translate it.

    Args:
        text: e.g. `jet_pt[0] / sum(jet_pt)` or `event_number % 5`.
        columns: the columns that it may use; None for any.
        where: beginning of messages.
        never: columns that it may not use.
        reason: text of messages about those.
        vectors: whether columns may be vectors; if not, `columns` has the names of leaves.

    Raises:
        ConfigError: for an expression that is not allowed, with the word at fault.

    Example:
        >>> parse_expression("sum(jet_pt) / met", ["met", "jet_pt"], "weight").leaves
        (Leaf(branch='jet_pt', what='sum'), Leaf(branch='met', what=None))
    """
    tokens = list(_with_leaves(list(_tokens(text, where)), where))

    def check(leaf: Leaf) -> None:
        name = leaf.branch if vectors else leaf.name
        if leaf.branch in never:
            raise ConfigError(f"{where}: {leaf.branch} {reason}")
        if columns is None or name in columns:
            return
        if isinstance(leaf.what, str) and not vectors:
            raise ConfigError(f"{where}: {_no_function(leaf.what)}")
        raise ConfigError(f"{where}: no column named {shortened(name)!r}{nearest_hint(name, columns)}")

    _check_words(tokens, where, check)
    leaves = tuple(dict.fromkeys(token.leaf for token in tokens if token.leaf is not None))
    try:
        expression = pl.sql_expr(_sql(tokens)).cast(pl.Float64)
        # Evaluate once on an empty table: type errors depend on the expression, not on the data.
        empty = pl.DataFrame(schema=dict.fromkeys((leaf.name for leaf in leaves), pl.Float64)).select(expression)
    except pl.exceptions.PolarsError as problem:
        reason = str(problem).splitlines()[0]
        if reason.startswith(("unable to parse", "sql parser error")):  # Polars 2, Polars 1
            reason = "not an expression; an operand is missing or a word is out of place"
        raise ConfigError(f"{where}: {shortened(text, 80)!r}: {shortened(reason, 160)}") from problem
    if not leaves or empty.width != 1:
        raise ConfigError(f"{where}: uses no column, so its value is the same for every event; use at least one column")
    return Expression(text, present(expression), leaves)


def _tokens(text: str, where: str) -> Iterator[_Token]:
    """Yield the tokens of a text."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ConfigError(
                f"{where}: {text[position]!r} at character {position + 1} is not allowed in an expression; use "
                "columns, numbers, + - * / %, comparisons, brackets and functions of one event"
            )
        if match.lastgroup == "other":
            advice = _OTHER_SIGNS[match.group()[0]]
            raise ConfigError(f"{where}: {match.group()!r} at character {position + 1} is not an operator; {advice}")
        position = match.end()
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match.group())


def _with_leaves(tokens: Sequence[_Token], where: str) -> Iterator[_Token]:
    """Replace each column, element `x[0]` and summary `sum(x)` by one token."""
    padded, at = [*tokens, *[_Token("end", "")] * 3], 0
    while at < len(tokens):
        token, (_, second, _), third, (_, fourth, _) = padded[at], padded[at + 1], padded[at + 2], padded[at + 3]
        name, inside, function = _column(token), _column(third), token.text.lower()
        at += 1
        if function in OF_VECTORS and second == "(" and inside and fourth == ")":
            yield _Token("leaf", function, Leaf(inside, function))
            at += 3
        elif name and second == "[":
            if not (third.text.isdecimal() and fourth == "]"):
                raise ConfigError(f"{where}: write {shortened(name)}[0] for the first element; elements count from 0")
            yield _Token("leaf", name, Leaf(name, int(third.text)))
            at += 3
        else:
            plain = token.kind == "quoted" or (name and second != "(")
            yield _Token("leaf", name, Leaf(name)) if plain else token


def _column(token: _Token) -> str:
    """Return the column name that a token may be, or an empty string."""
    if token.kind == "quoted":
        return token.text.strip('"')
    return token.text if token.kind == "word" and token.text.lower() not in _WORDS else ""


def _no_function(name: str, argument: str = "") -> str:
    if name.lower() in OF_VECTORS:
        return f"{name} is not a function of one event; it takes one vector column{_SEVERAL.get(name.lower(), '')}"
    known = sorted({*FUNCTIONS, *OF_VECTORS})
    element = f"; for an element of a column write {shortened(name)}[{argument}]" if argument.isdecimal() else ""
    hint = nearest_hint(name, known, element or f" (choose from {', '.join(known)})")
    return f"{shortened(name)} is not a function of one event{hint}"


def _check_words(tokens: Sequence[_Token], where: str, check: Callable[[Leaf], None]) -> None:
    """Refuse everything except columns, numbers, operators, known words and functions of one event."""
    _check_brackets([token.text for token in tokens], where)
    steps, after_value = 0, False  # whether the expression may end here
    for at, token in enumerate(tokens):
        lower = token.text.lower()
        keyword = token.kind == "word" and lower in _WORDS
        function = token.kind == "word" and not keyword
        if function and lower not in FUNCTIONS:
            argument = tokens[at + 2].text if len(tokens) > at + 3 and tokens[at + 3].text == ")" else ""
            raise ConfigError(f"{where}: {_no_function(token.text, argument)}")
        if token.leaf is not None:
            check(token.leaf)
        if token.text in ("[", "]"):
            raise ConfigError(f"{where}: {token.text!r} is allowed only for an element of a column, as in jet_pt[0]")
        if after_value and (token.leaf or function or token.kind == "number" or token.text == "("):
            # SQL would take a name here as an alias.
            raise ConfigError(f"{where}: an operator is missing before {shortened(token.text)}")
        steps += function or lower in _STEPS or (token.kind == "operator" and token.text not in "(),")
        after_value = bool(token.leaf) or token.kind == "number" or token.text == ")" or (keyword and lower in _VALUES)
    if steps > MOST_STEPS or len(tokens) > MOST_WORDS:
        limits = f"{MOST_STEPS} operators and functions or {MOST_WORDS} words"
        raise ConfigError(f"{where}: longer than {limits}; divide it into several expressions")
    _check_arguments([token.text.lower() for token in tokens], where)


def _check_brackets(words: Sequence[str], where: str) -> None:
    opened = 0
    for word in words:
        opened += (word == "(") - (word == ")")
        if opened < 0:
            raise ConfigError(f"{where}: a bracket ')' closes nothing; remove it, or add a '(' before it")
    if opened:
        raise ConfigError(f"{where}: a bracket '(' is not closed; add a ')'")


def _check_arguments(words: Sequence[str], where: str) -> None:
    """Count the arguments of functions, because Polars reports a wrong number of them as an unknown function."""
    brackets: list[tuple[str, int]] = []  # for each open bracket: the word before it, and its arguments so far
    for before, word, following in zip(["", *words], words, [*words[1:], ""], strict=False):
        if word == "(":
            brackets.append((before, int(following != ")")))
        elif word == "," and not brackets:
            raise ConfigError(f"{where}: a comma outside brackets; an expression has one value")
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


def _sql(tokens: Sequence[_Token]) -> str:
    """Write an expression for Polars, with every column as a float64, so that `/` never divides whole numbers.

    Only the left operand of `column % whole number` keeps its type: an event number may have more digits than a float.
    """
    texts, words, at = [*(token.text for token in tokens), "", ""], list[str](), 0
    while at < len(tokens):
        leaf = tokens[at].leaf
        whole = texts[at + 1] == "%" and texts[at + 2].isdecimal() and (at == 0 or texts[at - 1] not in ("*", "/", "%"))
        if leaf is None:
            words.append(texts[at])
        elif whole:
            words.append(f'CAST("{leaf.name}" % {texts[at + 2]} AS DOUBLE)')
            at += 2
        else:
            words.append(f'CAST("{leaf.name}" AS DOUBLE)')
        at += 1
    return " ".join(_with_conditions(words))


@dataclass
class _Operand:
    """An operand among the words so far."""

    start: int
    opened: int = 0  # where its brackets or its CASE begin
    logical: bool = False  # whether it stands where SQL wants a condition
    truth: bool = False  # whether it is one already
    group: int = -1  # where brackets around a condition end, if it begins with these
    between: bool = False  # whether the next AND belongs to BETWEEN
    simple: bool = False  # whether it belongs to CASE x WHEN value

    def close(self, done: list[str]) -> bool:
        """Make a number in a logical place a condition; return whether the operand now is one."""
        if not (self.truth or self.group == len(done)) and self.logical and self.start < len(done):
            done.insert(self.start, "(")
            done.append("<> 0 )")
        return self.truth or self.logical or self.group == len(done)


def _with_conditions(words: Sequence[str]) -> list[str]:
    """Write `x <> 0` for a number x in a logical place: beside AND, OR, NOT, after WHEN, first in IF."""
    done: list[str] = []
    operands = [_Operand(0)]
    for before, original, following in zip(["", *words], words, [*words[1:], ""], strict=False):
        operand, word = operands[-1], original.lower()
        if word == "and" and operand.between:
            operand.between = False
        elif word in ("and", "or", "when", "then", "else", ",", ")", "end"):
            operand.logical |= word in ("and", "or")
            truth, logical = operand.close(done), word in ("and", "or") or (word == "when" and not operand.simple)
            if word not in (")", "end"):
                operands[-1] = _Operand(len(done) + 1, operand.opened, logical, simple=operand.simple)
            elif len(operands) > 1:
                operands.pop()
                if truth and word == ")" and operand.opened == operands[-1].start:
                    operands[-1].group = len(done) + 1
        elif word in ("(", "case"):
            logical, simple = before.lower() == "if", word == "case" and following.lower() != "when"
            operands.append(_Operand(len(done) + 1, len(done), logical, simple=simple))
        elif word == "not" and operand.start == len(done):
            operand.start, operand.logical = len(done) + 1, True
        elif word in _TRUTH:
            operand.truth, operand.between = True, word == "between"
        done.append(original)
    operands[-1].close(done)
    return done
