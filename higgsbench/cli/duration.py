"""Durations on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Duration", "time_limit_option"]


class Duration(click.ParamType):
    """A duration: 90, 90s, 30m, 2h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        from higgsbench.errors import ConfigError
        from higgsbench.runs.durations import parse_duration

        try:
            return parse_duration(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def time_limit_option(text: str) -> Callable[[Any], Any]:
    """Return the option `--time-limit` with a help text."""
    return click.option("--time-limit", type=Duration(), metavar="TIME", help=text)
