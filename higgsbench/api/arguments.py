"""Arguments of the Python interface, checked before the work begins: a wrong one is named in one line."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
import polars

from higgsbench.errors import ConfigError
from higgsbench.events import Events
from higgsbench.runs.result import RunResult

__all__ = ["checked_arguments"]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class _Kind:
    """What an argument may be: words for messages, and the test."""

    words: str
    holds: Callable[[Any], bool]


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and str(value) != "" and "\x00" not in str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return not math.isnan(value)


def _is_list(value: Any, holds: Callable[[Any], bool]) -> bool:
    return not isinstance(value, (str, bytes, Mapping)) and _iterable(value) and all(holds(item) for item in value)


def _iterable(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_PATH = _Kind("a path", _is_path)
_TEXT = _Kind("a text", lambda value: isinstance(value, str))
_NAMES = _Kind("a list of names", lambda value: _is_list(value, lambda item: isinstance(item, str)))
_COUNT = _Kind("a whole number of at least 1", _is_count)
_SWITCH = _Kind("True or False", lambda value: isinstance(value, bool))
_RUN = _Kind("a run's folder or what `run` returned", lambda value: isinstance(value, RunResult) or _is_path(value))
_KINDS = {
    **dict.fromkeys(("data", "test", "output", "results", "figures", "studies", "events", "nominal"), _PATH),
    **dict.fromkeys(("preset", "model", "objective"), _TEXT),
    **dict.fromkeys(("only", "settings", "models", "subsets", "vary"), _NAMES),
    **dict.fromkeys(("jobs", "replicas", "trials"), _COUNT),
    **dict.fromkeys(("common", "workspace", "fit", "counting", "mc_stat", "all_rows", "prune"), _SWITCH),
    "run": _RUN,
    "config": _Kind("a YAML file or a mapping", lambda value: isinstance(value, Mapping) or _is_path(value)),
    "submission": _Kind("a file or a table", lambda value: isinstance(value, polars.DataFrame) or _is_path(value)),
    "truth": _Kind("labelled events or their file", lambda value: isinstance(value, Events) or _is_path(value)),
    "time_limit": _Kind("seconds, or a text such as '30m'", lambda value: isinstance(value, str) or _is_number(value)),
    "b_reg": _Kind("a number", _is_number),
    "totals": _Kind("two numbers (N_s, N_b)", lambda value: _is_list(value, _is_number) and len(value) == 2),
    "sigma_b": _Kind("a number or several", lambda value: _is_number(value) or _is_list(value, _is_number)),
}


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse arguments of the wrong kind by name; a keyword that does not exist stays Python's own TypeError.

    Raises:
        ConfigError: by the function that is returned.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                for item in value:
                    _check("run", item, function.__name__)
            elif name in _KINDS and not (value is None and parameter.default is None):
                _check(name, value, function.__name__)
        return function(*args, **kwargs)

    return checked


def _check(name: str, value: Any, function: str) -> None:
    kind = _KINDS[name]
    if not kind.holds(value):
        hint = f"; write [{value!r}]" if kind is _NAMES and isinstance(value, str) else ""
        raise ConfigError(f"{function}: {name}: expected {kind.words}, got {str(value)[:60]!r} ({_named(value)}){hint}")


def _named(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
