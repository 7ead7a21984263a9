"""What comes out of stored runs: the members of a stack, comparisons, statistics and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from higgsbench.api import ANYTHING, Count, File, Names, Run, Sigmas, Switch, Text, checked
from higgsbench.challenge import event_notes
from higgsbench.errors import ConfigError
from higgsbench.metrics.significance import BinningRules
from higgsbench.runs import find_run

if TYPE_CHECKING:
    from higgsbench.compare import Comparison
    from higgsbench.compare.portfolio import Portfolio
    from higgsbench.ensemble.blend import Diversity
    from higgsbench.inference.interval import Intervals
    from higgsbench.inference.statistics import Statistics

Shift = tuple[str, Path, Path] | str


@checked
def members(run: Run, *, results: File = "results") -> Diversity:
    """Measure what each member contributes to the stack of a run, as `higgsbench members` does.

    Args:
        run: the run.
        results: folder that holds runs.

    Raises:
        StoreError: if the run is unfinished or has no stack.

    Example:
        >>> found = higgsbench.members("latest")
        >>> [member.name for member in found.members]
        ['logistic', 'lightgbm']
    """
    from higgsbench.leaderboard import read_diversity

    return read_diversity(run, results)


@checked
def compare_models(
    *runs: Run,
    models: Names = (),
    run: Text | None = None,
    common: Switch = False,
    replicas: Count = 1000,
    results: File = "results",
    events: File | None = None,
) -> Comparison:
    """Compare models of stored runs on the same events, as `higgsbench compare` does.

    Args:
        runs: runs, or `RUN:MODEL` for one row of a run; with `run`, names of its models.
        models: rows or labels to keep of every run; all when empty.
        run: run that bare names of models in `runs` refer to; alone, all its models.
        common: whether runs of different events are compared on those they share, instead of refused.
        replicas: number of bootstrap replicas.
        results: folder that holds runs.
        events: file (Parquet or CSV) to write that says, per event, which models select it.

    Returns:
        Models, pairs and average ranks; printed, it is what the command shows.

    Raises:
        HiggsbenchError: if a run or model is not known, or they cannot be compared.

    Example:
        >>> found = higgsbench.compare_models("lightgbm", "logistic", run="latest")
        >>> found
        <Comparison of lightgbm, logistic on 924 events>
        >>> table = found.to_polars()
    """
    from higgsbench.compare import check_target, compare, load_contenders, write_selections

    target = _path(events)
    if target is not None:
        check_target(target)
    contenders, notes = load_contenders(_specs(runs, models), run=run, results=results, common=common)
    comparison = compare(contenders, notes, replicas=replicas)
    if target is not None:
        write_selections(target, contenders[0], comparison)
    return comparison


@checked
def blend(*runs: Run, models: Names = (), replicas: Count = 1000, results: File = "results") -> Portfolio:
    """Search the stored scores of runs on the same folds for the best blend, as `higgsbench blend` does.

    Args:
        runs: runs, or `RUN:MODEL` for one row of a run.
        models: rows or labels to keep of every run; all when empty.
        replicas: number of bootstrap replicas.
        results: folder that holds runs.

    Returns:
        The blend and its members, with their differences.

    Raises:
        HiggsbenchError: if a run or model is not known, or they cannot be blended.

    Example:
        >>> found = higgsbench.blend("latest")
        >>> sorted(found.weights)
        ['lightgbm', 'logistic']
    """
    from higgsbench.compare import load_contenders
    from higgsbench.compare.portfolio import search_blend

    return search_blend(*load_contenders(_specs(runs, models), results=results), replicas=replicas)


@checked
def stats(
    run: Run,
    *,
    models: Names = (),
    sigma_b: Sigmas = (),
    rules: Annotated[BinningRules | None, ANYTHING] = None,
    workspace: Switch = False,
    fit: Switch = False,
    counting: Switch = False,
    mc_stat: Switch = True,
    events: File | None = None,
    nominal: File | None = None,
    regions: File | None = None,
    shifts: Annotated[Sequence[Shift], ANYTHING] = (),
    results: File = "results",
) -> Statistics:
    """Compute expected significances of stored models, as `higgsbench stats` does.

    Args:
        run: the run.
        models: rows or labels; all when empty.
        sigma_b: relative background uncertainty, or several.
        rules: what a bin of the score must hold.
        workspace: whether a HistFactory workspace of one model is built.
        fit: whether pyhf (extra `stats`) evaluates it.
        counting: workspace of the selection as one bin, instead of bins of the score.
        mc_stat: whether simulation statistics count as uncertainty in the workspace.
        shifts: systematic shifts that the run's stored models score, "tes=0.03" or "tes=up.csv,down.csv" (event files);
            with `nominal`, score files: (name, up, down) or "tes=up.parquet,down.parquet".
        events: labelled events that are shifted; by default the run's held-out events, or, if there are none,
            its training events scored out of fold.
        nominal: scores of these events (Parquet: EventId, score), if they were scored elsewhere.
        regions: configuration with the `regions` and `systematics` of the workspace; by default those of the run, if
            there are any and no option asks for another workspace.
        results: folder that holds runs.

    Raises:
        HiggsbenchError: if a run or model is not known, or options contradict each other.

    Warns:
        HiggsbenchWarning: if a workspace or fit fails; everything else is returned.

    Example:
        >>> found = higgsbench.stats("latest", models=["stack"], sigma_b=0.05, workspace=True)
        >>> sorted(found.workspace)
        ['channels', 'measurements', 'observations', 'version']
    """
    from higgsbench.inference.regions import has_regions
    from higgsbench.inference.statistics import region_statistics, run_statistics

    stored, sigmas = find_run(run, results), (sigma_b,) if isinstance(sigma_b, int | float) else tuple(sigma_b)
    rows, simple = stored.scored_rows(models), counting or bool(shifts) or nominal is not None or bool(sigmas)
    notes = tuple(event_notes(stored.comparability, (row.record for row in rows)))
    if regions is not None and simple:
        raise ConfigError("regions cannot be combined with a count, shifts, scored events or sigma_b; remove one")
    if regions is not None or ((workspace or fit) and not simple and has_regions(stored)):
        found = region_statistics(rows, rules, regions=_path(regions), fit=fit)
        return replace(found, notes=(*notes, *found.notes))
    found = run_statistics(
        rows,
        sigma_b=sigmas,
        rules=rules,
        workspace=workspace,
        fit=fit,
        counting=counting,
        mc_stat=mc_stat,
        shifts=shifts,
        events=_path(events),
        nominal=_path(nominal),
    )
    return replace(found, notes=notes)


@checked
def interval(
    run: Run,
    *,
    models: Names = (),
    experiments: Annotated[int, ANYTHING] = 300,
    mu: Annotated[tuple[float, float], ANYTHING] = (0.1, 3.0),
    seed: Annotated[int, ANYTHING] = 0,
    regions: File | None = None,
    results: File = "results",
) -> Intervals:
    """Measure the 68% interval of the signal strength of rows, as `higgsbench interval` does; the run keeps the result.

    Args:
        run: the run, whose configuration has `regions`.
        models: rows or labels; all when empty.
        experiments: number of pseudo-experiments; 0 for the expected interval only.
        mu: range of the true signal strength, which is uniform.
        seed: seed of the pseudo-experiments.
        regions: configuration whose regions and systematics are used instead of the run's.
        results: folder that holds runs.

    Raises:
        ConfigError: if there are no regions, or the range is empty.
        HiggsbenchError: if the events or stored models are not available.
        MissingExtraError: without pyhf and iminuit (extra `stats`).

    Example:
        >>> found = higgsbench.interval("latest", experiments=100)  # doctest: +SKIP
        >>> found.records()[0]["name"]  # doctest: +SKIP
        'stack'
    """
    from higgsbench.inference.interval import measure_intervals

    return measure_intervals(
        find_run(run, results), models, experiments=experiments, mu=mu, seed=seed, regions=_path(regions)
    )


@checked
def write_report(
    run: Run,
    output: File,
    *,
    figures: File | None = None,
    formats: Names = ("png", "pdf"),
    dpi: Count = 200,
    style: Text = "atlas",
    label: Text = "",
    data: File | None = None,
    test: File | None = None,
    all_rows: Switch = False,
    shifts: Names = (),
    events: File | None = None,
    results: File = "results",
) -> Path:
    """Draw a stored run as one page that opens offline, as `higgsbench report` does.

    Args:
        run: the run.
        output: file of the page, written whole or not at all.
        figures: folder that gets every figure too, and its numbers as CSV.
        formats: formats of these figures: `png`, `pdf`, `svg`.
        dpi: dots per inch of a PNG.
        style: style of all figures: `atlas`, `cms` or `plain`.
        label: text above every figure, e.g. "ATLAS Open Data".
        data: event file, if it has moved since the run.
        test: file of held-out events, if it has moved.
        all_rows: whether every row gets its own figures, instead of only the best ones and the stack.
        shifts: systematic shifts whose effect is shown: "tes=0.03" moves the events, "tes=up.csv,down.csv" names files
            of shifted events.
        events: file of labelled events that are shifted; by default the run's held-out events, or, if there are
            none, its training events scored out of fold.
        results: folder that holds runs.

    Returns:
        The run's folder.

    Raises:
        HiggsbenchError: if there is no finished run, it is damaged, the drawing libraries are absent, or the page
            cannot be written.

    Example:
        >>> folder = higgsbench.write_report("latest", "report.html", figures="figures", formats=["pdf"])
    """
    from higgsbench.inference.events import parse_systematics, reload_events
    from higgsbench.pages.drawing import Pictures, check_page, write_page
    from higgsbench.report import render_report
    from higgsbench.report.context import Context
    from higgsbench.runs.predictor import FittedRun

    systematics = parse_systematics(shifts, events)
    check_page(Path(output))
    stored = find_run(run, results)
    context = Context(
        run=stored,
        events=reload_events(stored, _path(data), _path(test)),
        pictures=Pictures(_path(figures), formats, dpi, label),
        models=FittedRun(stored),
        all_rows=all_rows,
        systematics=systematics,
        shift_events=_path(events),
        style=style,
    )
    write_page(Path(output), render_report(context))
    return stored.folder


def _specs(runs: Sequence[Run], models: Sequence[str]) -> list[str]:
    """Return what `load_contenders` reads: runs, or some rows of each."""
    names = [str(getattr(given, "folder", given)) for given in runs]
    return [f"{name}:{model}" for name in names for model in models] or names


def _path(name: str | Path | None) -> Path | None:
    return None if name is None else Path(name)
