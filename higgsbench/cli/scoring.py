"""`higgsbench predict`, `blend`, `submit`, `score`, `explore` and `export`: use stored models, look at event files."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from higgsbench.cli import options as opt

if TYPE_CHECKING:
    from collections.abc import Callable

_SIMULATED = 50_000
"""Simulated events that `explore` describes by default: statistics good to a per cent in seconds."""

_run_options = opt.added(
    click.option("--model", metavar="NAME", help="Row to take, e.g. 'xgboost [jets]'; the stack by default, or the"
                 " only row."),
    click.option("--jobs", "-j", type=click.IntRange(min=1), help="Parts of the file scored at a time; all cores by"
                 " default."),
    opt.import_option,
    opt.results_option,
)  # fmt: skip


def _subset_option(default: str) -> Callable[[opt.Function], opt.Function]:
    """Return the option that chooses subsets; its help ends with the default."""
    return click.option("--subset", metavar="NAMES", help=f"Only events of these KaggleSets, e.g. b,v; {default}.")


@opt.command("predict", "predict results/all-1a2b3c4d test.csv -o scores.parquet")
@click.argument("run", type=opt.PATH)
@click.argument("data", type=opt.FILE_NAME)
@click.option("--output", "-o", required=True, metavar="FILE", type=opt.PATH,
              help="Table to write: .parquet, .root, .csv or .csv.gz; - for CSV on standard output.")  # fmt: skip
@_subset_option("all events by default")
@click.option("--out-of-fold", type=click.Choice(["auto", "never", "always"]), default="auto", show_default=True,
              help="auto: score training events with models that did not see them, and with folds.by every event with"
              " the models of its fold; always: refuse other events; never: use all models.")  # fmt: skip
@click.option("--members", is_flag=True, help="Also write the scores of the stack's rows.")
@click.option("--columns", metavar="NAMES", help="Columns of DATA to copy, e.g. Weight,Label.")
@click.option("--sample", metavar="NAME", help="The run's sample that DATA belongs to, if no sample lists it.")
@_run_options
def predict(
    run: Path, data: Path, output: Path, subset: str | None, model: str | None, jobs: int | None, results: Path,
    out_of_fold: str, members: bool, columns: str | None, sample: str | None,
) -> None:  # fmt: skip
    """Score the events of DATA with the stored models of RUN.

    DATA is an event file in the layout the run was trained on, labelled or not. The table has EventId, score (log-odds
    in physical normalisation) and selected (score at or above the frozen cut). Runs of other people are safe to use:
    nothing in them is executed.
    """
    from higgsbench.api.scoring import scored_parts
    from higgsbench.runs import find_run
    from higgsbench.runs.predict import check_ending, chosen_scorer, write_scores
    from higgsbench.runs.predictor import FittedRun

    check_ending(output)
    opt.must_differ(data, output)
    chosen = opt.split_names(subset, "--subset")
    copied = opt.split_names(columns, "--columns") or ()
    fitted = FittedRun(find_run(run, results))
    scorer = chosen_scorer(fitted, model, out_of_fold, members)
    parts = scored_parts(fitted, scorer, data, jobs, chosen, True, copied, sample)
    write_scores(parts, output, fitted.schema.event_id or "EventId")


@opt.command("submit", "submit results/all-1a2b3c4d test.csv -o submission.csv")
@click.argument("run", type=opt.PATH)
@click.argument("test", type=opt.FILE_NAME)
@click.option("--output", "-o", required=True, metavar="FILE", type=opt.PATH,
              help="Submission to write, .csv or .csv.gz; - for standard output.")  # fmt: skip
@_subset_option("by default b and v where TEST has them, otherwise all events")
@_run_options
def submit(run: Path, test: Path, output: Path, subset: str | None, **options: Any) -> None:
    """Write a submission for the events of TEST in the challenge's format: EventId, RankOrder, Class.

    RankOrder runs from 1 to n, n for the event most like signal; Class is s for events at or above the run's frozen
    cut. Tied scores are ranked by EventId.
    """
    from higgsbench.api.scoring import submission
    from higgsbench.runs.predict import check_ending, write_scores

    check_ending(output, text_only=True)
    opt.must_differ(test, output)
    chosen = opt.split_names(subset, "--subset")
    table = submission(run, test, subsets=chosen, progress=True, **options)
    write_scores(iter([table]), output)
    selected = int((table["Class"] == "s").sum())
    click.echo(f"{output}: {table.height:,} events, {selected:,} of them s", err=True)


@opt.command("score", "score submission.csv atlas-higgs-challenge-2014-v2.csv.gz")
@click.argument("submission", type=opt.FILE_NAME)
@click.argument("truth", type=opt.FILE_NAME)
@_subset_option("by default b and v where TRUTH has them, otherwise all events")
@opt.format_option("text", "json")
@opt.schema_option("TRUTH")
@click.option("--n-s", type=float, help="Expected signal events, instead of the layout's.")
@click.option("--n-b", type=float, help="Expected background events, instead of the layout's.")
@click.option("--b-reg", type=click.FloatRange(min=0.0, min_open=True), default=10.0, show_default=True,
              help="Regularisation of the background.")  # fmt: skip
def score(
    submission: Path, truth: Path, subset: str | None, form: str, n_s: float | None, n_b: float | None, **options: Any
) -> None:
    """Check SUBMISSION as strictly as the challenge did, and print its AMS on the events of TRUTH.

    TRUTH is an event file; only its columns EventId, Label and Weight are needed. If it has subsets (KaggleSet), the
    submission must contain exactly the events of b (public) and v (private), which are scored together and
    separately. Otherwise it must contain exactly all events of TRUTH.
    """
    from higgsbench.api import scoring as api
    from higgsbench.challenge import standing
    from higgsbench.schema import B_REG

    totals = None if n_s is None and n_b is None else (n_s, n_b)
    scores = api.score(submission, truth, subsets=opt.split_names(subset, "--subset"), totals=totals, **options)
    if form == "json":
        opt.echo_json([dataclasses.asdict(score) for score in scores])
        return
    for found in scores:
        click.echo(
            f"{found.name}: AMS {found.ams:.5f} ± {found.se:.5f}, {found.selected:,} of {found.events:,} events "
            f"selected, s {found.s:.1f}, b {found.b:.1f}, wAUC of the rank order {found.auc:.5f}"
        )
        if totals is None and options["b_reg"] == B_REG and (place := standing(found)):
            click.echo(place)


@opt.command("explore", "explore training.csv --test test.csv --html explore.html")
@click.argument("data", required=False, type=opt.FILE_NAME)
@click.option("--test", type=opt.FILE_NAME, help="A second event file, compared with DATA for drift.")
@click.option("--subset", "subsets", multiple=True, metavar="NAME",
              help="Subset to describe (repeatable); by default the training subset, if any.")  # fmt: skip
@opt.schema_option("DATA")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False),
              help="Also write one self-contained page with pictures (needs the extra 'report').")  # fmt: skip
@opt.figure_options("--figure-format")
@opt.format_option("table", "json")
@click.option("--events", type=click.IntRange(min=1),
              help=f"Number of simulated events, without DATA.  [default: {_SIMULATED}]")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the simulation, without DATA.  [default: 0]")
def explore(
    data: Path | None, test: Path | None, subsets: tuple[str, ...], schema: str | None, page: Path | None, form: str,
    events: int | None, seed: int | None, figures: Path | None, formats: list[str], dpi: int, style: str, label: str,
) -> None:  # fmt: skip
    """Describe events before training: columns, missing values, class balance, features, correlations, drift.

    DATA is an event file of any size (CSV, gzipped CSV, Parquet or ROOT), or a configuration that names events. Without
    it, events of the built-in toy simulation are described.
    """
    if data is not None and (events is not None or seed is not None):
        raise click.UsageError("--events and --seed are for simulated events; leave them out or leave out DATA.")
    import shutil

    import higgsbench.explore as exploration
    from higgsbench.config.load import configured_events, named_schema
    from higgsbench.events.simulate import SimulationSettings, simulated_events
    from higgsbench.explore.display import render_page, render_terminal
    from higgsbench.pages.drawing import Pictures, check_page, write_page

    if page is not None:
        check_page(page)  # before the events are read
    pictures = Pictures(figures, formats, dpi, label)
    toys = SimulationSettings(events=events or _SIMULATED, seed=seed or 0)
    known = None if data is None else configured_events(data)
    what = known or data or simulated_events(toys, in_memory=False)
    found = exploration.explore(what, test=test, schema=named_schema(schema), subsets=subsets or None)
    drawn = render_page(found, pictures, style) if page is not None or figures is not None else ""
    if page is not None:
        write_page(page, drawn)
    if form == "json":
        opt.echo_json(found.to_dict())
    else:
        click.echo(render_terminal(found, shutil.get_terminal_size().columns, color=sys.stdout.isatty()), nl=False)
    if page is not None:
        click.echo(f"Wrote {page}", err=True)
    if figures is not None:
        click.echo(f"Wrote the figures to {figures}", err=True)


@opt.command("interval", "interval results/analysis-1a2b3c4d --experiments 300")
@click.argument("run", type=opt.PATH)
@click.option("--model", "models", multiple=True, help="Only this model (repeatable).")
@click.option("--experiments", type=click.IntRange(0), default=300, show_default=True,
              help="Pseudo-experiments; 0 for the expected interval only.")  # fmt: skip
@click.option("--mu", type=(float, float), default=(0.1, 3.0), show_default=True, metavar="LOW HIGH",
              help="Range of the true signal strength.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the pseudo-experiments.")
@opt.regions_option
@opt.import_option
@opt.results_option
@opt.format_option("table", "json")
def interval(run: Path, form: str, **options: Any) -> None:
    """Measure the 68% interval of the signal strength with the regions and systematics of RUN (extra `stats`).

    All rows see the same pseudo-experiments. The run keeps the results: the leaderboard and the report show them.
    """
    from higgsbench.api import results as api

    found = api.interval(run, **options)
    if form == "json":
        fits = {name: fit.content for name, fit in found.fits.items()}
        ends = {name: values.tolist() for name, values in found.ends.items()}
        opt.echo_json(
            {"rows": found.records(), "fits": fits, "mu": found.mu.tolist(), "ends": ends, "notes": found.notes}
        )
    else:
        opt.show(found)


@opt.command("blend", "blend trees-1a2b3c4d networks-5e6f7a8b")
@click.argument("what", nargs=-1, required=True, metavar="[RUN | RUN:MODEL]...")
@click.option("--model", "models", multiple=True, help="Only this row or label of every RUN (repeatable).")
@click.option("--replicas", type=click.IntRange(2), default=1000, show_default=True, help="Bootstrap replicas.")
@opt.results_option
@opt.format_option("table", "json")
def blend(what: tuple[str, ...], form: str, **options: Any) -> None:
    """Search the rows of several runs on the same folds for the best blend of their stored scores.

    Nothing is trained. Each fold is scored by a blend whose method and weights come from the other folds, so its gain
    is honest. The table compares the blend with each row on the same events.
    """
    from higgsbench.api import results as api

    found = api.blend(*what, **options)
    if form == "json":
        opt.echo_json({"rows": found.records(), "methods": found.methods, "notes": found.notes})
    else:
        opt.show(found)


_model_options = opt.added(
    click.option("--model", metavar="NAME", help="Row to export, e.g. 'xgboost [jets]'; the stack by default, or the"
                 " only row."),
    click.option("--fold", type=click.IntRange(min=0), help="Export only the models that did not see this fold; all by"
                 " default."),
    opt.import_option,
    opt.results_option,
)  # fmt: skip


@opt.command("cabinetry", "export cabinetry results/analysis-1a2b3c4d -o fit --model stack")
@click.argument("run", type=opt.PATH)
@click.option("--output", "-o", required=True, metavar="FOLDER", type=opt.PATH, help="New folder to write.")
@click.option("--model", required=True, metavar="NAME", help="Row whose scores the regions use.")
@opt.regions_option
@opt.import_option
@opt.results_option
def cabinetry(run: Path, output: Path, **options: Any) -> None:
    """Write the regions and systematics of RUN as a configuration and histograms for cabinetry, with Asimov data."""
    from higgsbench.export.cabinetry import export_cabinetry

    folder = export_cabinetry(run, output, **options)
    count = len(list((folder / "histograms").iterdir()))
    click.echo(f"Wrote {folder} (config.yml and {opt.quantity(count, 'histogram')})", err=True)


@opt.command("mlflow", "export mlflow results/all-1a2b3c4d --tracking-uri sqlite:///mlflow.db")
@click.argument("run", type=opt.PATH)
@opt.results_option
@click.option("--tracking-uri", metavar="URI",
              help="MLflow server or store; by default, the environment variable MLFLOW_TRACKING_URI.")  # fmt: skip
@click.option("--experiment", default="higgsbench", show_default=True, help="Experiment to log to.")
@click.option("--file", "files", multiple=True, type=opt.PATH,
              help="Log this file too, e.g. a report; may be repeated.")  # fmt: skip
def mlflow(run: Path, **options: Any) -> None:
    """Log RUN to MLflow's tracking (extra `mlflow`): one run, with a nested run for each row.

    It logs settings, metrics with their errors, the leaderboard, configuration and figures, but not fitted models or
    scores of single events. It sends data only to the URI.
    """
    from higgsbench.export.mlflow import export_mlflow

    done = export_mlflow(run, **options)
    what = f"{done.rows} rows logged" if done.new else f"its {done.rows} rows had been logged before"
    click.echo(f"{run}: {what}, experiment {done.experiment!r}, run {done.run_id} at {done.uri}")


@opt.command("onnx", "export onnx results/all-1a2b3c4d -o model.onnx")
@click.argument("run", type=opt.PATH)
@click.option("--output", "-o", required=True, metavar="FILE", type=opt.PATH, help="File to write, .onnx.")
@_model_options
def onnx(run: Path, output: Path, **options: Any) -> None:
    """Write the models of RUN as one ONNX graph, which onnxruntime evaluates in C++ (extra `onnx`).

    Input: `features`, float32 (n, p); the metadata names the columns. Outputs: `log_odds`, float32 (n), in physical
    normalisation, and `selected`, bool (n), at or above the frozen cut. The graph includes everything in between.
    """
    from higgsbench.export import export_onnx

    file = export_onnx(run, output, **options)
    click.echo(f"Wrote {file} ({opt.file_size(file)})", err=True)


@opt.command("native", "export native results/all-1a2b3c4d -o deploy")
@click.argument("run", type=opt.PATH)
@click.option("--output", "-o", required=True, metavar="FOLDER", type=opt.PATH, help="New folder to write.")
@_model_options
def native(run: Path, output: Path, **options: Any) -> None:
    """Write the boosted trees of RUN as files of their libraries; combine.json says how to combine them."""
    from higgsbench.export import export_native

    folder = export_native(run, output, **options)
    click.echo(f"Wrote {folder} ({opt.quantity(len(list(folder.iterdir())) - 1, 'model file')})", err=True)
