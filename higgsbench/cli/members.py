"""`higgsbench members`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("members", epilog="Example:  higgsbench members results/all-1a2b3c4d --format json")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(run: Path, form: str) -> None:
    """Show what each member gives to the stack of RUN: weight, gain when kept, and the member it is most like.

    Gains compare the stack with one refitted without the member, on the same events; positive numbers say it helps.
    """
    from higgsbench.leaderboard.members import members_table, read_diversity

    found = read_diversity(run)
    if form == "json":
        import dataclasses
        import json

        content = {
            "method": found.method,
            "auc": found.auc,
            "members": [dataclasses.asdict(member) for member in found.members],
            "correlation": found.correlation.tolist(),
        }
        click.echo(json.dumps(content, indent=1))
        return
    from higgsbench.leaderboard.render import output_console

    output_console().print(members_table(found), highlight=False)
