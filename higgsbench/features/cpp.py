"""Write feature sets as C++: a header that defines each feature of a set as a column of ROOT's RDataFrame.

The expressions come from the JSON form of Polars expressions. This form may change between versions, so this module
refuses unknown parts, and a test compiles all built-in sets.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from higgsbench.errors import ConfigError
from higgsbench.features import steps_and_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from higgsbench.features.quantity import Quantity
    from higgsbench.schema import TableSchema

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
            text = f'    .Define("{_identifier(column)}", "{cpp_expression(expression)}")'
        except (KeyError, ValueError, TypeError) as error:
            raise ConfigError(f"features: {column!r} of set {name!r} cannot be written in C++: {error}") from error
        lines.append(text.replace("~", f"{_identifier(name)}__"))  # a step, whose name another set may use too
    about = {"name": _identifier(name), "layout": schema.name, "missing": schema.missing}
    return _HEADER.format(**about, columns="\n".join(lines))


def cpp_expression(expression: pl.Expr) -> str:
    """Return an expression of columns as C++ in double precision; a KeyError or ValueError if a part is unknown."""
    return _text(json.loads(expression.meta.serialize(format="json")))


def _identifier(name: str) -> str:
    return re.sub(r"[^\w~]", "_", name)


def _text(node: dict[str, Any]) -> str:
    ((kind, content),) = node.items()
    match kind:
        case "Column":
            return str(content) if content.startswith("~") else f"higgsbench::value({_identifier(content)})"
        case "Literal":
            if content == {"Scalar": {"Null": "Null"}}:
                return "NAN"
            ((number, value),) = content["Dyn"].items()
            text = repr(float(value)) if number in ("Int", "Float") else ""
            return f"({text})" if text.startswith("-") else text
        case "BinaryExpr":
            return f"({_text(content['left'])} {_OPERATORS[content['op']]} {_text(content['right'])})"
        case "Ternary":
            return f"({_text(content['predicate'])} ? {_text(content['truthy'])} : {_text(content['falsy'])})"
        case "Cast" if content["dtype"] in ({"Literal": "Float32"}, {"Literal": "Float64"}):
            return f"double({_text(content['expr'])})"
        case "Function":
            name = content["function"]
            name = name if isinstance(name, str) else next(iter(name.values()))
            return f"{_FUNCTIONS[name]}({', '.join(map(_text, content['input']))})"
    raise ValueError(kind)
