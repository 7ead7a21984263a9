"""What is wrong with a value of the configuration, in the words of its writer instead of the validator's."""

from __future__ import annotations

import re
from typing import Any

from higgsbench.errors import shortened

__all__ = ["said"]

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "finite_number": "a finite number",
}
_NUMBER = re.compile(r"([-+]?)(\d+)(\.\d*)?(?:[eE]([-+]?)(\d+))?")
_LARGEST = 10**18


def said(error: Any) -> str:
    """Return one error of the validator as a message.

    Args:
        error: an entry of `ValidationError.errors()`.
    """
    kind, value = error["type"], error.get("input")
    if kind == "higgsbench":
        return str(error["msg"])
    if kind == "missing":
        return f"the key {error['loc'][-1]!r} is missing"
    if kind == "too_short":
        least = error["ctx"]["min_length"]
        return f"expected at least {least} {'entry' if least == 1 else 'entries'}, there are {len(value)}"
    expected = _EXPECTED.get(kind)
    message = error["msg"].replace("Input should be ", "expected ") if expected is None else f"expected {expected}"
    for bound in ("greater", "less"):
        message = message.replace(f"expected {bound}", f"expected a number {bound}")
    if isinstance(value, (dict, list)):
        return f"{message}, it is {'a list' if isinstance(value, list) else 'keys and values'}"
    if value is None:
        return f"{message}, it is empty"
    return f"{message}, it is {shortened(value)!r}{_as_number(kind, value)}"


def _as_number(kind: str, value: Any) -> str:
    """Say how a number is written that YAML took for text; empty where it is none."""
    found = _NUMBER.fullmatch(value) if isinstance(value, str) and len(value) < 50 else None
    if found is None or kind not in ("int_type", "float_type"):
        return ""
    sign, whole, part, power, digits = found.groups()
    if digits is None:
        return ", which is text: remove the quotes"
    number = float(value)
    if kind == "int_type":
        return f", which is text in YAML: write {int(number)}" if abs(number) < _LARGEST and number.is_integer() else ""
    return f", which is text in YAML: write {sign}{whole}{part or '.0'}e{power or '+'}{digits}"
