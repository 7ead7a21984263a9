"""`higgsbench report`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command(
    "report",
    epilog="Example:  higgsbench report results/all-1c8408ea -o report.html --figures figures --shift tes=0.03",
)
@click.argument("run", required=False, default="results", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), default=Path("report.html"),
              show_default=True, help="The page.")  # fmt: skip
@click.option("--figures", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Also keep every figure as PNG and PDF in this folder.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), help="The run's event file, where it has moved.")
@click.option("--test", type=click.Path(path_type=Path), help="Its file of held-out events, where that has moved.")
@click.option("--all-rows", is_flag=True, help="Figures of its own for every row, not only for the best and the stack.")
@click.option("--shift", "shifts", multiple=True, metavar="NAME=SIZE|UP,DOWN",
              help="Show what a systematic shift does: tes=0.03 moves the events, tes=up.csv,down.csv names files of "
              "moved events (repeatable).")  # fmt: skip
@click.option("--events", type=click.Path(path_type=Path, dir_okay=False),
              help="Labelled events to shift; the run's held-out or else out-of-fold events by default.")  # fmt: skip
def command(
    run: Path, output: Path, figures: Path | None, data: Path | None, test: Path | None, all_rows: bool,
    shifts: tuple[str, ...], events: Path | None,
) -> None:  # fmt: skip
    """Draw a stored run as one page that opens offline (needs the extra 'report').

    RUN is a run's folder, or a folder of runs, of which the one finished last is taken; by default that is `results`.
    """
    from higgsbench.api import write_report

    folder = write_report(
        run, output, figures=figures, data=data, test=test, all_rows=all_rows, shifts=shifts, events=events
    )
    click.echo(f"Wrote {output} from {folder}", err=True)
    if figures is not None:
        click.echo(f"Wrote the figures to {figures}", err=True)
