"""Options that `data simulate` and `data shift` share, and the parsing of name=number pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from higgsbench.events.shifts import Shifts

__all__ = ["number_pairs", "seed_option", "shift_options", "shifts_from"]

Command = TypeVar("Command", bound="Callable[..., Any]")

seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the events.")

_SHIFTS = (
    click.option("--tes", type=float, default=0.0, help="Tau energy scale, relative change: 0.03 is +3%."),
    click.option("--jes", type=float, default=0.0, help="Jet energy scale, relative change."),
    click.option("--soft-met", type=float, default=0.0, help="Soft missing momentum to add, GeV per axis."),
    click.option("--bkg-scale", type=float, default=1.0, help="Factor on the weights of all backgrounds."),
    click.option(
        "--process-scale",
        multiple=True,
        metavar="NAME=FACTOR",
        help="Factor on the weights of one process (Z, W, ttbar, ggF, VBF, VH); may be repeated.",
    ),
)


def shift_options(function: Command) -> Command:
    """Add the options of the systematic shifts to a command."""
    for option in reversed(_SHIFTS):
        function = option(function)
    return function


def number_pairs(pairs: Sequence[str], option: str) -> dict[str, float]:
    """Parse `name=number` pairs, each value an item or several items with commas.

    Args:
        pairs: values of the option.
        option: its name, for messages.

    Returns:
        Numbers by name.

    Raises:
        ConfigError: naming the option and the pair at fault.
    """
    from higgsbench.errors import ConfigError

    numbers: dict[str, float] = {}
    for pair in (item.strip() for value in pairs for item in value.split(",")):
        name, equals, text = (part.strip() for part in pair.partition("="))
        if name in numbers:
            raise ConfigError(f"{option}: {name} is given twice")
        try:
            numbers[name] = float(text)
        except ValueError:
            equals = ""
        if not name or not equals:
            raise ConfigError(f"{option}: {pair!r} is not NAME=NUMBER")
    return numbers


def shifts_from(tes: float, jes: float, soft_met: float, bkg_scale: float, process_scale: Sequence[str]) -> Shifts:
    """Build the shifts out of the options.

    Raises:
        ConfigError: if a process is unknown or a size out of range.
    """
    from higgsbench.errors import ConfigError, nearest_hint
    from higgsbench.events.shifts import Shifts
    from higgsbench.events.simulate.processes import PROCESSES

    by_name = {name.lower(): f"{name.lower()}_scale" for name in PROCESSES}
    factors = {}
    for name, factor in number_pairs(process_scale, "--process-scale").items():
        if name.lower() not in by_name:
            hint = nearest_hint(name, list(PROCESSES), f"; known are {', '.join(PROCESSES)}")
            raise ConfigError(f"--process-scale: unknown process {name!r}{hint}")
        factors[by_name[name.lower()]] = factor
    return Shifts(tes=tes, jes=jes, soft_met=soft_met, bkg_scale=bkg_scale, **factors)
