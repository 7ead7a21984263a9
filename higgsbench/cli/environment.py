"""`higgsbench environment`."""

from __future__ import annotations

import json

import click

__all__ = ["command"]


@click.command("environment", epilog="Example:  higgsbench environment --format json")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(form: str) -> None:
    """Print versions and hardware, for a bug report."""
    from higgsbench.events.cache import cache_dir
    from higgsbench.runs.environment import environment

    found = {**environment(), "cache": str(cache_dir())}
    if form == "json":
        click.echo(json.dumps(found, indent=1))
        return
    packages = found.pop("packages")
    for name, value in [*found.items(), *packages.items()]:
        click.echo(f"{name:>16}  {'-' if value is None else value}")
