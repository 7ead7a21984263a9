"""Commands that show what is stored, registered, configured or installed: tables, lists, pages and configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from higgsbench.cli import options as opt
from higgsbench.pages import Table

if TYPE_CHECKING:
    from higgsbench.models import ModelSpec

_FILE = click.Path(dir_okay=False, path_type=Path)


_shift_options = opt.added(
    click.option("--shift", "shifts", multiple=True, metavar="NAME=SIZE|UP,DOWN",
                 help="Show what a systematic shift does: tes=0.03 moves the events, tes=up.csv,down.csv names files"
                 " of shifted events (repeatable)."),
    click.option("--events", type=_FILE,
                 help="Events to shift; default: held-out events, or training events scored out of fold."),
)  # fmt: skip


@opt.command("leaderboard", "leaderboard results --sort auc --format markdown")
@click.argument("folder", type=opt.PATH, required=False)
@click.option("--results", type=opt.PATH, show_default="results", help="The same as FOLDER.")
@click.option("--format", "form", type=click.Choice(["table", "markdown", "csv", "json", "html"]), default="table",
              show_default=True, help="csv and json carry full precision.")  # fmt: skip
@click.option("--sort", default="ams_cv", show_default=True, help="Column that ranks.")
@click.option("--columns", help="Columns to show, separated by commas, also of one process (efficiency:W).")
@click.option("--watch", "watching", is_flag=True, help="Refresh until all runs that are under way are done.")
def leaderboard(
    folder: Path | None, results: Path | None, form: str, sort: str, columns: str | None, watching: bool
) -> None:
    """Rank the rows of all runs in FOLDER (or of one run); rows that cannot be compared are never ranked together."""
    import contextlib

    from higgsbench.errors import StoreError
    from higgsbench.leaderboard import Leaderboard, show, watch
    from higgsbench.runs import find_run

    if folder is not None and results is not None:
        raise click.UsageError(f"FOLDER and --results mean the same; give either {folder} or {results}, not both")
    results = folder or results or Path("results")
    if len(results.parts) == 1 and not results.expanduser().exists():
        with contextlib.suppress(StoreError):  # if the name is neither a folder nor a run, the leaderboard says so
            results = find_run(results).folder
    if watching and form != "table":
        raise click.UsageError("--watch always shows a table; remove --format")
    chosen = opt.split_names(columns, "--columns")
    if watching:
        watch(results, sort, chosen, opt.console(width=opt.WIDE))
        return
    board = Leaderboard.read(results, sort=sort)
    if form != "table":
        click.echo(board.render(form, chosen), nl=False)
        return
    if not board.tables and not board.notes:
        click.echo(f"{results}: no runs yet; start one with `higgsbench run`")
    show(board, opt.console(width=opt.WIDE), chosen)


@opt.command("members", "members results/all-1a2b3c4d --format json")
@click.argument("run", type=opt.PATH)
@opt.results_option
@opt.format_option("table", "json")
def members(run: Path, results: Path, form: str) -> None:
    """Show what each member contributes to the stack of RUN: weight, gain when kept, and the member it is most like.

    Gains compare the stack with one refitted without the member, on the same events; positive numbers say it helps.
    """
    import dataclasses

    from higgsbench.api import results as api

    found = api.members(run, results=results)
    if form == "table":
        opt.show(found)
        return
    gains = [dataclasses.asdict(member) for member in found.members]
    opt.echo_json(
        {"method": found.method, "auc": found.auc, "members": gains, "correlation": found.correlation.tolist()}
    )


@opt.command("compare", "compare --run results/all-1a2b3c4d xgboost catboost stack")
@click.argument("what", nargs=-1, metavar="[RUN | RUN:MODEL | MODEL]...")
@click.option("--run", help="Run to take the named models from; without names, all its models.")
@opt.results_option
@click.option("--common", is_flag=True, help="Compare runs of different events on those they share.")
@click.option("--replicas", type=click.IntRange(2), default=1000, show_default=True, help="Bootstrap replicas.")
@opt.format_option("table", "markdown", "json", "html")
@click.option("--events", type=_FILE,
              help="Also write, per event, which models select it (Parquet or CSV).")  # fmt: skip
def compare(what: tuple[str, ...], form: str, **options: Any) -> None:
    """Compare models of stored runs on the same events.

    Prints paired differences with errors and p-values, the events that only one model selects, and a conclusion.
    """
    from higgsbench.api.results import compare_models
    from higgsbench.compare import render

    found = compare_models(*what, **options)
    if form == "table":
        opt.show(found)
    else:
        click.echo(render(found, form), nl=False)


@opt.command("stats", "stats all-1a2b3c4d --model stack --sigma-b 0.05 --workspace stack.json")
@click.argument("run", type=opt.PATH)
@opt.results_option
@opt.import_option
@click.option("--model", "models", multiple=True, help="Only this model (repeatable).")
@click.option("--sigma-b", multiple=True, type=opt.Share(0.0),
              help="Relative background uncertainty, 0.05 or 5% (repeatable).")  # fmt: skip
@click.option("--max-bins", default=10, show_default=True, type=click.IntRange(1), help="Maximum number of score bins.")
@click.option("--min-background", default=10.0, show_default=True, type=click.FloatRange(0.0),
              help="Minimum expected background per bin.")  # fmt: skip
@click.option("--min-effective", default=25.0, show_default=True, type=click.FloatRange(0.0),
              help="Minimum effective number of simulated background events per bin.")  # fmt: skip
@click.option("--workspace", type=_FILE, help="Write a HistFactory workspace of one model.")
@click.option("--fit", is_flag=True, help="Significance and CLs limit of that workspace by pyhf (extra `stats`).")
@click.option("--shape/--counting", default=True, show_default=True,
              help="Workspace of score bins, or of the selection.")  # fmt: skip
@click.option("--mc-stat/--no-mc-stat", default=True, show_default=True,
              help="Whether simulation statistics count as uncertainty in the workspace.")  # fmt: skip
@_shift_options
@click.option("--nominal", type=_FILE,
              help="Scores of --events (Parquet: EventId, score), if they were scored elsewhere; the files of --shift"
              " then hold scores too.")  # fmt: skip
@opt.regions_option
@opt.format_option("table", "json")
def stats(
    run: Path, sigma_b: tuple[float, ...], max_bins: int, min_background: float, min_effective: float,
    workspace: Path | None, shape: bool, form: str, **options: Any,
) -> None:  # fmt: skip
    """Compute the expected significance of a run's models, with background uncertainties, by count and by shape."""
    from higgsbench.api import results as api
    from higgsbench.errors import StoreError
    from higgsbench.files import check_folder_of, told_plainly, write_json
    from higgsbench.inference.statistics import LEGEND, content
    from higgsbench.metrics.significance import BinningRules

    rules = BinningRules(max_bins, min_background, min_effective, sigma_b[0] if sigma_b else 0.0)
    if workspace is not None:
        check_folder_of(workspace, StoreError)
    build = workspace is not None
    found = api.stats(run, sigma_b=sigma_b, rules=rules, workspace=build, counting=not shape, **options)
    if workspace is not None and found.workspace is not None:
        with told_plainly(StoreError, workspace):
            write_json(workspace, found.workspace)
    if form == "json":
        opt.echo_json(content(found))
    else:
        opt.show(found, dim=LEGEND)


@opt.command("report", "report results/all-1c8408ea -o report.html --figures figures --shift tes=0.03")
@click.argument("run", required=False, default="results", type=opt.PATH)
@click.option("--output", "-o", type=_FILE, default=Path("report.html"), show_default=True, help="The page.")
@opt.figure_options("--format", "--figure-format")
@click.option("--data", type=opt.PATH, help="The run's event file, if it has moved.")
@click.option("--test", type=opt.PATH, help="The run's file of held-out events, if it has moved.")
@click.option("--all-rows", is_flag=True, help="Figures for every row, not only for the best ones and the stack.")
@_shift_options
@opt.import_option
@opt.results_option
def report(run: Path, output: Path, figures: Path | None, **options: Any) -> None:
    """Draw a stored run as one page that opens offline (needs the extra 'report').

    RUN is a run or a folder of runs (the run that finished last is used); the default is `results`.
    """
    from higgsbench.api.results import write_report

    folder = write_report(run, output, figures=figures, **options)
    click.echo(f"Wrote {output} from {folder}", err=True)
    if figures is not None:
        click.echo(f"Wrote the figures to {figures}", err=True)


@opt.command("cluster", "cluster configs/clusters/slurm.yaml")
@click.argument("file", type=opt.PATH)
@click.option("--array", metavar="CONFIG", help="Show an array job instead, whose tasks run CONFIG with --part.")
def cluster(file: Path, array: str | None) -> None:
    """Check the cluster FILE and show the job that `run --cluster FILE` would submit; nothing is submitted."""
    from higgsbench.runs.engines.base import load_cluster
    from higgsbench.runs.engines.batch import array_script, job_script

    config = load_cluster(file)
    if array is not None:
        from higgsbench.api.running import load_run_config

        click.echo(array_script(config, array, load_run_config(array).config.threads))
        submit = "sbatch" if config.system == "slurm" else "condor_submit"
        hint = f"Submit this with {submit} in this folder; when all tasks are done: higgsbench run {array}"
        click.echo(hint, err=True)
        return
    click.echo(job_script(config).rstrip())
    click.echo(f"{opt.quantity(config.jobs, 'job')} like this; SCHEDULER is filled in when a run begins.", err=True)


@opt.command("models", "models --preset good")
@click.option("--preset", type=click.Choice(["quick", "good", "best"]), help="Show the parameters of a preset.")
@opt.import_option
@opt.format_option("table", "json")
def models(preset: str | None, form: str) -> None:
    """List the registered models, including those of installed packages."""
    from higgsbench.models import registered_models

    rows = [_model(spec, preset) for spec in registered_models()]
    if form == "json":
        opt.echo_json(rows)
        return
    titles = ["model", "what", "installed", "weights", "missing values", "features", "training_weights", "parameters"]
    shown = [[_cell(value) for value in row.values()] for row in rows]
    Table("", titles if preset else titles[:5], shown, text=range(len(titles))).show(opt.console())
    if absent := [spec.extra for spec in registered_models() if spec.extra and not _is_available(spec)]:
        click.echo(f"Install the missing extras with: pip install 'higgsbench[{','.join(absent)}]'")


def _is_available(spec: ModelSpec) -> bool:
    from higgsbench.errors import ModelError

    try:
        spec.check_available()
    except ModelError:
        return False
    return True


def _model(spec: ModelSpec, preset: str | None) -> dict[str, Any]:
    installed = "yes" if _is_available(spec) else f"no (extra {spec.extra})" if spec.extra else "no"
    missing = "native" if spec.missing else "imputed"
    row = {"name": spec.name, "description": spec.description, "installed": installed,
           "sample_weight": spec.sample_weight, "missing": missing}  # fmt: skip
    if preset is None:
        return row
    found = spec.preset(preset)
    settings = {"features": found.features, "training_weights": found.training_weights}
    return {**row, **settings, "parameters": dict(found.params)}


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value) if isinstance(value, dict) else "of the run" if value is None else str(value)


@opt.command("features", "features physics")
@click.argument("name", metavar="[SET]", required=False)
@opt.format_option("table", "json", "markdown", "cpp")
def features(name: str | None, form: str) -> None:
    """List the feature sets, including those of installed packages; with SET, the formula and source of each feature.

    Sets are shown for the layout of the challenge. `--format cpp` prints SET as a header for ROOT's RDataFrame.
    """
    import itertools

    from higgsbench.features import cpp_header, feature_set, feature_sets
    from higgsbench.schema import ATLAS_HIGGS

    if form == "cpp":
        if name is None:
            raise click.UsageError("--format cpp needs a SET")
        click.echo(cpp_header(name, feature_set(name).quantities(ATLAS_HIGGS), ATLAS_HIGGS), nl=False)
        return
    titles = ["name", "features", "what"] if name is None else ["name", "unit", "formula", "source", "group"]
    if name is None:
        rows = [[s.name, str(len(s.quantities(ATLAS_HIGGS))), s.description] for s in feature_sets()]
    else:
        rows = [[getattr(q, title) for title in titles] for q in feature_set(name).quantities(ATLAS_HIGGS)]
    if form == "json":
        opt.echo_json([dict(zip(titles, row, strict=True)) for row in rows])
    elif form == "markdown":
        for row in (titles, ["---"] * len(titles), *rows):
            click.echo("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    elif name is None:
        Table("", titles, rows, text=range(3)).show(opt.console())
    else:
        rules = [at for at, (one, other) in enumerate(itertools.pairwise(rows)) if one[-1] != other[-1]]
        Table("", titles[:-1], [row[:-1] for row in rows], text=range(4), rules=rules).show(opt.console())


@opt.command("environment", "environment --format json")
@opt.format_option("text", "json")
def environment(form: str) -> None:
    """Print versions and hardware, for a bug report."""
    from higgsbench.events.cache import cache_dir
    from higgsbench.runs import environment as described

    found = {**described.environment(), "cache": str(cache_dir())}
    if form == "json":
        opt.echo_json(found)
        return
    packages = found.pop("packages")
    for name, value in [*found.items(), *packages.items()]:
        click.echo(f"{name:>16}  {'-' if value is None else value}")


@opt.command("list", "config list")
@opt.format_option("table", "json")
def list_(form: str) -> None:
    """List the configurations that come with higgsbench; `higgsbench run NAME` runs one."""
    from higgsbench.config import description, named_configs
    from higgsbench.config.load import load_config

    found = [
        {"name": name, "description": description(file), "file": str(file),
         "models": [entry.row_label for entry in load_config(file).config.models]}
        for name, file in named_configs().items()
    ]  # fmt: skip
    if form == "json":
        opt.echo_json(found)
        return
    rows = [(str(one["name"]), str(one["description"]), ", ".join(one["models"])) for one in found]
    Table("", ("name", "what", "models"), rows, text=range(3)).show(opt.console(width=opt.WIDE))


@opt.command("copy", "config copy best -o mine.yaml")
@click.argument("name", shell_complete=opt.complete_names)
@click.option("--output", "-o", type=opt.FILE_NAME, help="File to write; NAME.yaml in this folder by default.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def copy(name: str, output: Path | None, force: bool) -> None:
    """Copy the configuration NAME, with its comments, to your own file."""
    from higgsbench.config import copy_config

    click.echo(f"Wrote {copy_config(name, output, replace=force)}")


@opt.command("show", "config show best --set folds=10")
@opt.config_argument
@opt.import_option
@opt.settings_option
def show(config: Path, settings: tuple[str, ...]) -> None:
    """Print CONFIG with all defaults and presets filled in, as YAML that runs unchanged.

    This reads the names of columns but no events: values that depend on the events are not filled in.
    """
    from higgsbench.api.running import resolve_config
    from higgsbench.config.document import yaml_text

    click.echo(yaml_text(resolve_config(config, settings=settings)), nl=False)


@opt.command("schema", "config schema > higgsbench.schema.json")
def schema() -> None:
    """Print the JSON schema of configurations, so that editors can complete and check them.

    It lists the installed models and feature sets. Begin a configuration with the line
    `# yaml-language-server: $schema=higgsbench.schema.json`.
    """
    from higgsbench.config.model import RunConfig
    from higgsbench.config.section import json_schema

    opt.echo_json(json_schema(RunConfig))


@opt.command("init", "init ntuples/ggH_*.root ntuples/ttbar_*.root -o my.yaml")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--output", "-o", type=opt.FILE_NAME, help="File to write; standard output by default.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(files: tuple[str, ...], output: Path | None, force: bool) -> None:
    """Look at event FILES and write a configuration for them, with the reason for each guess.

    Give one file with a column of labels, or separate files of signal and background (CSV, gzipped CSV, Parquet, ROOT;
    `file.root:tree` names a tree). Files whose names differ only in a number are one sample.
    """
    from higgsbench.config import save_config
    from higgsbench.config.guess import suggest_config

    text = suggest_config(files)
    if output is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"Wrote {save_config(text.encode(), output, replace=force)}; run it with `higgsbench run {output}`")
