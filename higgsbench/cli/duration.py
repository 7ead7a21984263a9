"""Durations on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["time_limit_option"]


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    from higgsbench.errors import ConfigError
    from higgsbench.runs.durations import parse_duration

    try:
        return None if value is None else parse_duration(value)
    except ConfigError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def time_limit_option(text: str) -> Callable[[Any], Any]:
    """Return the option `--time-limit`, which gives seconds, with a help text."""
    return click.option("--time-limit", callback=_seconds, metavar="TIME", help=text)
