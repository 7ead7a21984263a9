"""`higgsbench stats`."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "stats",
    epilog="Example:  higgsbench stats all-1a2b3c4d --model stack --sigma-b 0.05 --workspace stack.json",
)
@click.argument("run")
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Folder that holds runs.")  # fmt: skip
@click.option("--model", "models", multiple=True, help="Only this model (repeatable).")
@click.option(
    "--sigma-b", multiple=True, type=click.FloatRange(0.0), help="Relative background uncertainty (repeatable)."
)
@click.option("--max-bins", default=10, show_default=True, type=click.IntRange(1), help="Bins of the shape, at most.")
@click.option("--min-background", default=10.0, show_default=True, type=click.FloatRange(0.0),
              help="Least expected background of a bin.")  # fmt: skip
@click.option("--min-effective", default=25.0, show_default=True, type=click.FloatRange(0.0),
              help="Least effective number of simulated background events of a bin.")  # fmt: skip
@click.option("--workspace", type=_FILE, help="Write a HistFactory workspace of one model.")
@click.option("--fit", is_flag=True, help="Significance and CLs limit of that workspace by pyhf (extra `stats`).")
@click.option(
    "--shape/--counting", default=True, show_default=True, help="Workspace of score bins, or of the selection."
)
@click.option("--mc-stat/--no-mc-stat", default=True, show_default=True,
              help="Whether simulation statistics count as uncertainty in the workspace.")  # fmt: skip
@click.option("--shift", "shifts", multiple=True, metavar="NAME=SIZE|UP,DOWN",
              help="Systematic shift, scored by the stored models: tes=0.03 moves the events, tes=up.csv,down.csv names"
              " files of moved events; with --nominal files of their scores (repeatable).")  # fmt: skip
@click.option("--events", type=_FILE,
              help="Labelled events to shift; the run's held-out or else out-of-fold events by default.")  # fmt: skip
@click.option("--nominal", type=_FILE,
              help="Scores of --events (Parquet: EventId, score), where they were scored elsewhere.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True,
              help="json carries full precision.")  # fmt: skip
def command(
    run: str, results: Path, models: tuple[str, ...], sigma_b: tuple[float, ...], max_bins: int, min_background: float,
    min_effective: float, workspace: Path | None, fit: bool, shape: bool, mc_stat: bool, events: Path | None,
    nominal: Path | None, shifts: tuple[str, ...], form: str,
) -> None:  # fmt: skip
    """Expected significance of the models of a run, with background uncertainties, by count and by shape."""
    from higgsbench.api.studies import scorer_of_shifts
    from higgsbench.compare import load_contenders
    from higgsbench.files import write_json
    from higgsbench.inference.statistics import content, run_statistics, show
    from higgsbench.leaderboard.render import output_console, strict_json
    from higgsbench.metrics.significance import BinningRules

    shifted = scorer_of_shifts(shifts, events, nominal)
    contenders, _ = load_contenders([f"{run}:{name}" for name in models] or [run], results=results)
    found = run_statistics(
        contenders,
        sigma_b=sigma_b,
        rules=BinningRules(max_bins, min_background, min_effective, sigma_b[0] if sigma_b else 0.0),
        workspace=workspace is not None,
        fit=fit,
        counting=not shape,
        mc_stat=mc_stat,
        shifted=shifted,
    )
    if workspace is not None:
        write_json(workspace, found.workspace)
    if form == "json":
        click.echo(
            json.dumps(strict_json(content(found.models, found.shifts, found.expected)), indent=1, allow_nan=False)
        )
        return
    show(found.models, found.shifts, found.expected, output_console())
