"""`higgsbench cluster`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("cluster", epilog="Example:  higgsbench cluster configs/clusters/slurm.yaml")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Check the cluster FILE and show the job that `run --cluster FILE` would submit; nothing is submitted."""
    from higgsbench.runs.engines.base import job_script, load_cluster

    config = load_cluster(file)
    click.echo(job_script(config).rstrip())
    jobs = "1 job" if config.workers == 1 else f"{config.workers} jobs"
    click.echo(f"{jobs} like this; SCHEDULER is filled in when a run begins.", err=True)
