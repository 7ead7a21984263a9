"""`higgsbench stats`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from higgsbench.inference.files import Shift

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
@click.option("--events", type=_FILE, help="Held-out event file with labels and weights, for --nominal and --shift.")
@click.option("--nominal", type=_FILE, help="Scores of these events (Parquet: EventId, score).")
@click.option(
    "--shift", "shifts", multiple=True, metavar="NAME=UP,DOWN", help="Scores of the shifted events (repeatable)."
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True,
              help="json carries full precision.")  # fmt: skip
def command(
    run: str, results: Path, models: tuple[str, ...], sigma_b: tuple[float, ...], max_bins: int, min_background: float,
    min_effective: float, workspace: Path | None, fit: bool, shape: bool, mc_stat: bool, events: Path | None,
    nominal: Path | None, shifts: tuple[str, ...], form: str,
) -> None:  # fmt: skip
    """Expected significance of the models of a run, with background uncertainties, by count and by shape."""
    from higgsbench.compare import load_contenders
    from higgsbench.files import write_json
    from higgsbench.inference import build_workspace, model_significance, shift_table
    from higgsbench.inference.files import parse_shift, read_shifts
    from higgsbench.inference.fit import expected_results
    from higgsbench.inference.render import content, show
    from higgsbench.inference.template import cross_validated_template, held_out_template
    from higgsbench.leaderboard.render import output_console, strict_json
    from higgsbench.metrics.binning import BinningRules

    wanted: list[Shift] = [parse_shift(text) for text in shifts]
    if bool(events) != bool(nominal) or (wanted and not events):
        raise click.UsageError("--events, --nominal and --shift belong together")
    contenders, _ = load_contenders([f"{run}:{name}" for name in models] or [run], results=results)
    single = workspace is not None or fit or events is not None
    if single and len(contenders) > 1:
        raise click.UsageError("a workspace, a fit or shifts are of one model: name it with --model")
    if single and len(sigma_b) > 1:
        raise click.UsageError("a workspace has one background uncertainty: give --sigma-b once")
    sigma = sigma_b[0] if sigma_b else 0.0
    rules = BinningRules(max_bins, min_background, min_effective, sigma)
    found = [model_significance(contender, sigma_b, rules) for contender in contenders]
    rows, expected, first = [], None, contenders[0]
    template = cross_validated_template(found[0], first, counting=not shape)
    if events is not None and nominal is not None:
        base, sides = read_shifts(events, nominal, wanted, first.truth.totals)
        template = held_out_template(first, base, sides, rules, counting=not shape)
        both = [side for pair in sides.values() for side in pair]
        rows = shift_table(base, both, float(first.row.record["threshold"]), first.truth.b_reg)
    if single:
        built = build_workspace(template, sigma_b=sigma, mc_stat=mc_stat)
        expected = expected_results(built) if fit else None
        if workspace is not None:
            write_json(workspace, built)
    if form == "json":
        click.echo(json.dumps(strict_json(content(found, rows, expected)), indent=1, allow_nan=False))
        return
    show(found, rows, expected, output_console())
