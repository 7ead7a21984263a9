"""Named feature sets as Polars expressions, the choice of features of a run, their matrix, and the sets as C++.

C++ comes from the JSON form of Polars expressions. This form may change between versions, so `cpp_expression` refuses
unknown parts, and a test compiles all built-in sets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl
import polars.selectors as cs

from higgsbench.errors import ConfigError, nearest_hint, repeated, shortened
from higgsbench.expressions import NEVER
from higgsbench.features.builtin import STEPS, canonical_quantities, momenta_quantities, physics_quantities
from higgsbench.features.quantity import Quantity, raw_quantities, sql_quantity
from higgsbench.files import canonical_digest
from higgsbench.registry import Registry
from higgsbench.schema import TableSchema

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FeatureSet", "Features", "Quantity", "feature_matrix", "feature_set", "feature_sets", "register_features",
           "resolve_column", "resolve_features"]  # fmt: skip


def steps_and_columns(expressions: Iterable[pl.Expr]) -> tuple[list[dict[str, pl.Expr]], list[str]]:
    """Find what expressions depend on: the steps of the canonical frame, in order, and the columns of the table."""
    needed = dict.fromkeys(root for e in expressions for root in e.meta.root_names())
    steps = []
    for step in reversed(STEPS):
        used = {name: expression for name, expression in step.items() if name in needed}
        needed |= dict.fromkeys(root for e in used.values() for root in e.meta.root_names())
        steps.append(used)
    computed = {name for step in steps for name in step}
    return [step for step in reversed(steps) if step], [name for name in needed if name not in computed]


@dataclass(frozen=True)
class Features:
    """What the models see.

    Attributes:
        name: short name for tables.
        quantities: the features, in order, categorical ones first.
    """

    name: str
    quantities: tuple[Quantity, ...]

    @property
    def expressions(self) -> tuple[pl.Expr, ...]:
        """One expression per feature, under its name."""
        return tuple(q.expression.alias(q.name) for q in self.quantities)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(q.name for q in self.quantities)

    @property
    def categories(self) -> tuple[int, ...]:
        """How many values each of the categorical features has; they are the first ones."""
        return tuple(len(q.categories) for q in self.quantities if q.categories)

    @property
    def digest(self) -> str:
        """Identity of the features: names and definitions, down to the columns of the table."""
        steps, _ = steps_and_columns(q.expression for q in self.quantities)
        definitions = [[q.name, q.identity or str(q.expression)] for q in self.quantities]
        return canonical_digest(definitions + [[name, str(e)] for step in steps for name, e in step.items()])


def evaluate(frame: pl.DataFrame, expressions: Iterable[pl.Expr]) -> pl.DataFrame:
    """Evaluate named expressions over columns and steps in one lazy query; whole numbers count as float64."""
    chosen = list(expressions)
    steps, columns = steps_and_columns(chosen)
    query = frame.lazy().select(columns).with_columns(cs.integer().cast(pl.Float64))
    for step in steps:
        query = query.with_columns(e.alias(name) for name, e in step.items())
    return query.select(chosen).collect()


def feature_matrix(frame: pl.DataFrame, features: Features) -> NDArray[np.float32]:
    """Evaluate features in one pass to a C-ordered float32 matrix (n, p) with NaN where a value is missing."""
    table = evaluate(frame, [e.cast(pl.Float32).fill_null(float("nan")) for e in features.expressions])
    return np.ascontiguousarray(table.to_numpy(), dtype=np.float32)


Producer: TypeAlias = Callable[[TableSchema], Sequence[Quantity | pl.Expr]]


@dataclass(frozen=True)
class FeatureSet:
    """A named set of features.

    Attributes:
        name: name in configurations and tables.
        description: one line.
        function: returns the features for a layout: documented quantities or named Polars expressions, elementwise and
            made of native Polars operations on columns of the layout.
    """

    name: str
    description: str
    function: Producer

    def quantities(self, schema: TableSchema) -> list[Quantity]:
        """Return the features for a layout, checked.

        Raises:
            ConfigError: if the layout lacks columns that the set is made of (the message names them), a feature
                reveals the label, uses other events, or has the name of another one.
        """
        where = f"features: set {self.name!r}"
        try:
            found: list[Any] = list(self.function(schema))
        except Exception as problem:
            raise ConfigError(
                f"{where} fails for the layout {schema.name}: {type(problem).__name__}: {problem}"
            ) from problem
        if self not in _BUILTIN:
            found = [_identified(item, self.name) for item in found]
        if (twice := repeated([q.name for q in found])) is not None:
            raise ConfigError(f"{where} has two features named {twice!r}")
        _, columns = steps_and_columns(q.expression for q in found)
        forbidden = [name for name in columns if name in schema.not_features]
        if forbidden:
            raise ConfigError(f"{where} uses {forbidden[0]}, which {NEVER}")
        lacking = [name for name in columns if name not in schema.features]
        if lacking:
            raise ConfigError(f"{where} needs columns that the layout {schema.name} lacks: {', '.join(lacking)}")
        for quantity in found if self not in _BUILTIN else ():
            _check_elementwise(quantity, self.name, schema)
        return found


def _identified(item: object, origin: str) -> Quantity:
    """Wrap a bare expression in a `Quantity`, and give an external feature an identity that covers all of it."""
    if isinstance(item, pl.Expr):
        name = item.meta.output_name(raise_if_undetermined=False) or ""
        item = Quantity(name, item, str(item), "", f"feature set {origin}", origin)
    elif not isinstance(item, Quantity):
        raise ConfigError(
            f"features: set {origin!r} has a {type(item).__name__} where a Polars expression or a "
            "higgsbench.features.Quantity should be"
        )
    if "python_udf" in str(item.expression):
        raise ConfigError(
            f"features: {item.name!r} of set {origin!r} calls Python; use only native Polars operations, because a "
            "Python function cannot be identified in stored runs"
        )
    # The printed form of an expression shortens long literals; the serialised one does not.
    return dataclasses.replace(item, identity=hashlib.sha256(item.expression.meta.serialize()).hexdigest())


def _check_elementwise(quantity: Quantity, origin: str, schema: TableSchema) -> None:
    """Refuse a feature whose value changes with the other events in the table: it would leak between folds."""
    rng, n = np.random.default_rng(0), 64
    columns = {}  # filled with positive numbers, one in eight of them missing
    for name in schema.features:
        values = pl.Series(rng.integers(0, 4, n) * 1.0 if name in schema.integers else rng.gamma(1.0, 30.0, n))
        if name in schema.categories:
            values = pl.Series(rng.choice(schema.categories[name] or ("a", "b"), n))
        columns[name] = values.scatter(rng.choice(n, n // 8, replace=False), None)
    probe = pl.DataFrame(columns)
    expression = quantity.expression.cast(pl.Float64).alias("value")
    tables = (probe, probe[: n // 4].reverse(), probe[n // 4 :].reverse())
    try:
        whole, *parts = (evaluate(table, [expression])["value"] for table in tables)
    except pl.exceptions.PolarsError as problem:
        raise ConfigError(
            f"features: {quantity.name!r} of set {origin!r} cannot be evaluated: {str(problem).splitlines()[0]}"
        ) from problem
    again = pl.concat([part.reverse() for part in parts])
    if len(whole) != n or not whole.eq_missing(again).all():
        raise ConfigError(
            f"features: {quantity.name!r} of set {origin!r} looks at other events; only elementwise expressions "
            "can be features"
        )


_BUILTIN = (
    FeatureSet("raw", "all measured columns of the layout, unchanged", raw_quantities),
    FeatureSet("canonical", "raw columns with directions in the canonical frame", canonical_quantities),
    FeatureSet("physics", "canonical plus common H -> tau tau analysis variables", physics_quantities),
    FeatureSet("momenta", "inputs for neural networks: vectors, logarithms, flags", momenta_quantities),
)

_SETS = Registry(
    "feature set", FeatureSet, "higgsbench.features.FeatureSet", lambda: _BUILTIN, "higgsbench.features", ConfigError
)


def register_features(name: str, function: Producer, *, description: str = "", replace: bool = False) -> FeatureSet:
    """Add a feature set to this process's registry and return it; packages use entry points in `higgsbench.features`.

    Args:
        name: name in configurations.
        function: takes the layout, returns named Polars expressions or `Quantity` records.
        description: one line.
        replace: whether a set of the same name may be replaced.

    Raises:
        ConfigError: if the name is taken and `replace` is false.
    """
    return _SETS.add(FeatureSet(name, description, function), replace=replace)


feature_sets = _SETS.all
"""Return all registered sets, the built-in ones first."""
feature_set = _SETS.get
"""Return the set of this name; if there is none, a `ConfigError` suggests the nearest known name."""

Choice: TypeAlias = "str | tuple[str, str]"
"""A column or feature of any set by name, or a name and an SQL expression."""


def resolve_features(
    schema: TableSchema,
    *,
    name: str = "raw",
    columns: Sequence[Choice] | None = None,
    add: Sequence[Choice] = (),
    drop: Sequence[str] = (),
) -> Features:
    """Turn a choice of features into expressions.

    Args:
        schema: the layout of the events.
        name: a named set.
        columns: exactly these features instead of a set: columns of the layout, features of any set, or pairs of a new
            name and an SQL expression (see `sql_quantity`).
        add: features added to the set, likewise; names that the set already has are ignored.
        drop: features taken out.

    Raises:
        ConfigError: for a set or column that does not exist, a column that gives away the answer, an expression that is
            not allowed, or an empty choice.
    """
    chosen = feature_set(name).quantities(schema) if columns is None else _all_of(columns, schema)
    names = [q.name for q in chosen]
    for column in drop:
        if column not in names:
            raise ConfigError(
                f"features: cannot drop {shortened(column)!r}, which is not in the set{nearest_hint(column, names)}"
            )
    kept = [q for q in chosen if q.name not in drop]
    kept += _all_of([choice for choice in add if choice not in names], schema)
    kept.sort(key=lambda quantity: not quantity.categories)
    twice = repeated(names) or repeated([q.name for q in kept])
    if twice is not None:
        raise ConfigError(f"features: column {twice!r} is named twice")
    if not kept:
        raise ConfigError("features: no feature is left")
    label = name if columns is None else f"{len(kept)} columns"
    if columns is None and (add or drop):
        label += f" {len(kept) - len(names):+d}"
    return Features(label, tuple(kept))


def resolve_column(schema: TableSchema, choice: Choice, key: str = "") -> Features:
    """Return one column as `resolve_features` does; a `ConfigError` names the key of the configuration, if given."""
    try:
        return resolve_features(schema, columns=[choice])
    except ConfigError as error:
        reason = str(error).removeprefix("features: ")
        raise ConfigError(f"{key}: {reason}" if key else reason) from error


def _all_of(choices: Sequence[Choice], schema: TableSchema) -> list[Quantity]:
    columns = {q.name: q for q in raw_quantities(schema)}
    found = []
    for choice in choices:
        if isinstance(choice, tuple):
            found.append(sql_quantity(*choice, schema))
        elif choice in schema.not_features:
            raise ConfigError(f"features: {choice} {NEVER}")
        else:
            found.append(columns.get(choice) or _of_any_set(choice, schema))
    return found


def _of_any_set(name: str, schema: TableSchema) -> Quantity:
    known: dict[str, Quantity] = {}
    for candidate in feature_sets():
        with suppress(ConfigError):  # the set may be for another layout
            known = {q.name: q for q in candidate.quantities(schema)} | known
    if name not in known:
        hint = nearest_hint(name, list(known))
        raise ConfigError(f"features: no column named {shortened(name)!r}{hint}, in the layout or any set")
    return known[name]


_OPERATORS = {"And": "&&", "Eq": "==", "Gt": ">", "GtEq": ">=", "Lt": "<", "LtEq": "<=", "Minus": "-", "Multiply": "*",
              "NotEq": "!=", "Or": "||", "Plus": "+", "TrueDivide": "/"}  # fmt: skip
_FUNCTIONS = {
    "Abs": "std::abs", "ArcSinh": "std::asinh", "Atan2": "std::atan2", "Coalesce": "higgsbench::first",
    "Cos": "std::cos", "Exp": "std::exp", "FillNull": "higgsbench::first", "Floor": "std::floor",
    "IsFinite": "std::isfinite", "IsNull": "std::isnan", "Log1p": "std::log1p", "Sign": "higgsbench::sign",
    "Sin": "std::sin", "Sinh": "std::sinh", "Sqrt": "std::sqrt",
}  # fmt: skip
_HEADER = """\
// Features of the set {name}, layout {layout}, as columns of an RDataFrame; NaN where a quantity does not exist.
// In a macro: #include "{name}.h". In a program also: gInterpreter->Declare("#include \\"{name}.h\\"").
#pragma once
#include <cmath>

#ifndef HIGGSBENCH_HELPERS
#define HIGGSBENCH_HELPERS
namespace higgsbench {{
inline double value(double x) {{ return x == {missing!r} ? NAN : x; }}
inline double sign(double x) {{ return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x; }}
inline double first(double x) {{ return x; }}
template <class... More> double first(double x, More... more) {{ return std::isnan(x) ? first(more...) : x; }}
}}  // namespace higgsbench
#endif

namespace higgsbench {{
template <class Frame> auto define_{name}(Frame frame) {{
  return frame
{columns};
}}
}}  // namespace higgsbench
"""


def cpp_header(name: str, quantities: Sequence[Quantity], schema: TableSchema) -> str:
    """Return the text of a C++ header with the features that are not columns of the layout.

    Args:
        name: name of the set, for the header's function `define_NAME`.
        quantities: its features.
        schema: the layout, whose sentinel means "missing".

    Raises:
        ConfigError: if a feature cannot be written in C++.
    """
    computed = [q for q in quantities if q.name not in schema.features]
    steps, _ = steps_and_columns(q.expression for q in computed)
    rows = [row for table in steps for row in table.items()]
    rows += [(q.name, q.expression) for q in computed]
    lines = []
    for column, expression in rows:
        try:
            text = f'    .Define("{_cpp_identifier(column)}", "{cpp_expression(expression)}")'
        except (KeyError, ValueError, TypeError) as error:
            raise ConfigError(f"features: {column!r} of set {name!r} cannot be written in C++: {error}") from error
        lines.append(text.replace("~", f"{_cpp_identifier(name)}__"))  # a step, whose name another set may use too
    about = {"name": _cpp_identifier(name), "layout": schema.name, "missing": schema.missing}
    return _HEADER.format(**about, columns="\n".join(lines))


def cpp_expression(expression: pl.Expr) -> str:
    """Return an expression of columns as C++ in double precision; a KeyError or ValueError if a part is unknown."""
    return _cpp_text(json.loads(expression.meta.serialize(format="json")))


def _cpp_identifier(name: str) -> str:
    return re.sub(r"[^\w~]", "_", name)


def _cpp_text(node: dict[str, Any]) -> str:
    ((kind, content),) = node.items()
    match kind:
        case "Column":
            return str(content) if content.startswith("~") else f"higgsbench::value({_cpp_identifier(content)})"
        case "Literal":
            if content == {"Scalar": {"Null": "Null"}}:
                return "NAN"
            ((number, value),) = content["Dyn"].items()
            text = repr(float(value)) if number in ("Int", "Float") else ""
            return f"({text})" if text.startswith("-") else text
        case "BinaryExpr":
            return f"({_cpp_text(content['left'])} {_OPERATORS[content['op']]} {_cpp_text(content['right'])})"
        case "Ternary":
            return (
                f"({_cpp_text(content['predicate'])} ? {_cpp_text(content['truthy'])} : {_cpp_text(content['falsy'])})"
            )
        case "Cast" if content["dtype"] in ({"Literal": "Float32"}, {"Literal": "Float64"}):
            return f"double({_cpp_text(content['expr'])})"
        case "Function":
            name = content["function"]
            name = name if isinstance(name, str) else next(iter(name.values()))
            return f"{_FUNCTIONS[name]}({', '.join(map(_cpp_text, content['input']))})"
    raise ValueError(kind)
