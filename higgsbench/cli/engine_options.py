"""Options that say where and how the units of a run are carried out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EngineChoice", "engine_options"]


class EngineChoice(TypedDict):
    """What the options say; arguments of `higgsbench.run`."""

    jobs: int | None
    engine: str | None
    scheduler: str | None
    cluster: Path | None
    unit_time_limit: str | None
    unit_memory_limit: str | None


_OPTIONS = (
    click.option("--jobs", "-j", type=click.IntRange(min=1),
                 help="Fits at a time; all cores by default, all workers of a scheduler or cluster."),
    click.option("--engine", type=click.Choice(["local", "serial", "dask"]),
                 help="Where fits run: processes here (default), this process, or Dask workers (extra dask)."),
    click.option("--scheduler", metavar="ADDRESS|FILE", help="Dask scheduler with its workers; implies --engine dask."),
    click.option("--cluster", type=click.Path(path_type=Path), metavar="FILE",
                 help="Batch system that brings Dask workers; see `higgsbench cluster`."),
    click.option("--unit-time-limit", metavar="TIME", help="End a single fit after so long, e.g. 10m; it has failed."),
    click.option("--unit-memory-limit", metavar="SIZE", help="End a fit whose process takes more, e.g. 4GB."),
)  # fmt: skip


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one argument `units`."""

    @functools.wraps(command)
    def with_units(**values: Any) -> Any:
        units = {name: values.pop(name) for name in EngineChoice.__annotations__}
        return command(units=units, **values)

    for option in reversed(_OPTIONS):
        with_units = option(with_units)
    return with_units
