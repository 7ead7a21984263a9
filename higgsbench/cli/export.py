"""`higgsbench export`: stored runs handed to other tools."""

from __future__ import annotations

import click

from higgsbench.cli.main import LazyGroup

__all__ = ["command"]


@click.group(
    "export",
    cls=LazyGroup,
    lazy={"mlflow": ("higgsbench.cli.export_mlflow", "Log a stored run to MLflow's tracking.")},
    epilog="Example:  higgsbench export mlflow results/all-1a2b3c4d --tracking-uri sqlite:///mlflow.db",
)
def command() -> None:
    """Hand a stored run to other tools."""
