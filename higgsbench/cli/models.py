"""`higgsbench models`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from higgsbench.models import ModelSpec

__all__ = ["command"]


_SETTINGS = ("features", "training_weights", "parameters")


@click.command("models", epilog="Example:  higgsbench models --preset good")
@click.option("--preset", type=click.Choice(["quick", "good", "best"]), help="Show the parameters of a preset.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(preset: str | None, form: str) -> None:
    """List the registered models, those of installed packages included."""
    from higgsbench.errors import ModelError
    from higgsbench.models import registered_models

    rows = []
    for spec in registered_models():
        try:
            spec.check_available()
            available = "yes"
        except ModelError:
            available = f"pip install 'higgsbench[{spec.extra}]'" if spec.extra else "no"
        rows.append(
            {
                "name": spec.name,
                "description": spec.description,
                "installed": available,
                "sample_weight": spec.sample_weight,
                "missing": "native" if spec.missing else "imputed",
                **_settings(spec, preset),
            }
        )
    if form == "json":
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    for title in ("model", "what", "installed", "weights", "missing values", *(_SETTINGS if preset else ())):
        table.add_column(title)
    for row in rows:
        shown = [str(row["name"]), str(row["description"]), str(row["installed"])]
        shown += ["yes" if row["sample_weight"] else "no", str(row["missing"])]
        table.add_row(*shown, *(_cell(row[key]) for key in (_SETTINGS if preset else ())))
    Console().print(table, highlight=False)


def _settings(spec: ModelSpec, preset: str | None) -> dict[str, Any]:
    if preset is None:
        return {}
    found = spec.preset(preset)
    return {
        "features": found.features,
        "training_weights": found.training_weights,
        "parameters": dict(found.params),
    }


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return "of the run" if value is None else str(value)
