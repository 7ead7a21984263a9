"""Questions to stored runs, their report, and the search for better parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from higgsbench.api.arguments import checked_arguments
from higgsbench.api.running import folder_of, load_run_config
from higgsbench.errors import ConfigError
from higgsbench.runs.durations import parse_duration
from higgsbench.runs.predictor import FittedRun
from higgsbench.runs.result import RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from higgsbench.compare import Comparison, Contender
    from higgsbench.ensemble import Diversity
    from higgsbench.inference import Statistics
    from higgsbench.inference.shifts import Shift
    from higgsbench.inference.statistics import ScoredShifts
    from higgsbench.metrics.significance import BinningRules
    from higgsbench.tune.nested import TuneResult

__all__ = ["compare_models", "members", "stats", "tune_model", "write_report"]


@checked_arguments
def members(run: str | Path | RunResult) -> Diversity:
    """Take the stack of a run apart, member by member, as `higgsbench members` does.

    Raises:
        StoreError: if the run is unfinished or has no stack.
    """
    from higgsbench.leaderboard.members import read_diversity

    return read_diversity(folder_of(run))


def _contenders(
    runs: Sequence[str | Path | RunResult], models: Sequence[str], results: str | Path, *, common: bool = False
) -> tuple[list[Contender], list[str]]:
    from higgsbench.compare import load_contenders

    names = [str(run.folder if isinstance(run, RunResult) else run) for run in runs]
    specs = [f"{name}:{model}" for name in names for model in models] or names
    return load_contenders(specs, results=Path(results), common=common)


@checked_arguments
def compare_models(
    *runs: str | Path | RunResult,
    models: Sequence[str] = (),
    common: bool = False,
    replicas: int = 1000,
    results: str | Path = "results",
) -> Comparison:
    """Compare models of stored runs on the same events, as `higgsbench compare` does.

    Args:
        runs: runs, or `RUN:MODEL` for one row of a run; a run is a folder or the name of one in `results`.
        models: rows or labels to keep of every run; all when empty.
        common: whether runs of different events are compared on those they share, instead of refused.
        replicas: number of bootstrap replicas.
        results: folder that holds runs.

    Returns:
        Models, pairs and average ranks; printed, it is what the command shows.

    Raises:
        HiggsbenchError: if a run or model is not known, or they cannot be compared.
    """
    from higgsbench.compare import compare

    contenders, notes = _contenders(runs, models, results, common=common)
    return compare(contenders, notes, replicas=replicas)


@checked_arguments
def stats(
    run: str | Path | RunResult,
    *,
    models: Sequence[str] = (),
    sigma_b: float | Sequence[float] = (),
    rules: BinningRules | None = None,
    workspace: bool = False,
    fit: bool = False,
    counting: bool = False,
    mc_stat: bool = True,
    events: str | Path | None = None,
    nominal: str | Path | None = None,
    shifts: Sequence[Shift | str] = (),
    results: str | Path = "results",
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
        events: labelled events that are shifted; by default the run's held-out events, or without any its training
            events, judged out of fold.
        nominal: scores of these events (Parquet: EventId, score), where they were scored elsewhere.
        results: folder that holds runs.

    Raises:
        HiggsbenchError: if a run or model is not known, or options do not fit each other.
    """
    from higgsbench.inference import run_statistics

    contenders, _ = _contenders([run], models, results)
    file, scores = (None if path is None else Path(path) for path in (events, nominal))
    return run_statistics(
        contenders,
        sigma_b=(sigma_b,) if isinstance(sigma_b, int | float) else sigma_b,
        rules=rules,
        workspace=workspace,
        fit=fit,
        counting=counting,
        mc_stat=mc_stat,
        shifted=scorer_of_shifts(shifts, file, scores),
    )


def scorer_of_shifts(
    shifts: Sequence[Shift | str], events: Path | None, nominal: Path | None
) -> Callable[[Contender], ScoredShifts] | None:
    """Return what scores shifts under a stored model: the model itself, or files; None without shifts.

    Args:
        shifts: as in `stats`.
        events: labelled events that are shifted.
        nominal: scores of these events; then the shifts are score files too.

    Raises:
        ConfigError: if the arguments do not fit each other, or a shift is of another form.
    """
    from higgsbench.inference.shifts import parse_shift, parse_systematics, read_shifts
    from higgsbench.report.shifts import row_shifts

    if (nominal is not None and events is None) or (events is not None and nominal is None and not shifts):
        raise ConfigError("--events, --nominal and --shift belong together")
    if nominal is not None and events is not None:
        files = [parse_shift(shift) if isinstance(shift, str) else shift for shift in shifts]
        return lambda contender: read_shifts(events, nominal, files, contender.truth.totals)
    if not shifts:
        return None
    texts = [shift if isinstance(shift, str) else f"{shift[0]}={shift[1]},{shift[2]}" for shift in shifts]
    systematics = parse_systematics(texts)

    def scored(contender: Contender) -> ScoredShifts:
        folder = contender.row.run
        return row_shifts(folder, contender.row.record["name"], systematics, FittedRun(folder), events)

    return scored


@checked_arguments
def write_report(
    run: str | Path | RunResult,
    output: str | Path,
    *,
    figures: str | Path | None = None,
    data: str | Path | None = None,
    test: str | Path | None = None,
    all_rows: bool = False,
    shifts: Sequence[str] = (),
    events: str | Path | None = None,
) -> Path:
    """Draw a stored run as one page that opens offline, as `higgsbench report` does.

    Args:
        run: the run's folder, or a folder of runs, of which the one finished last is taken.
        output: the page, written whole or not at all.
        figures: folder that gets every figure as PNG and PDF too.
        data: event file, where it is no longer where the run's configuration says.
        test: file of held-out events, likewise.
        all_rows: whether every row gets figures of its own, not only the best ones and the stack.
        shifts: systematic shifts whose effect is shown: "tes=0.03" moves the events, "tes=up.csv,down.csv" names files
            of moved events.
        events: file of labelled events that are shifted; by default the run's held-out events, or without any its
            training events, judged out of fold.

    Returns:
        The run's folder.

    Raises:
        HiggsbenchError: if there is no finished run, it is damaged, the drawing libraries are absent, or the page
            cannot be written.
    """
    from higgsbench.inference.shifts import parse_systematics
    from higgsbench.report import write_report as write_page
    from higgsbench.report.context import find_run

    systematics = parse_systematics(shifts, events)
    folder = find_run(folder_of(run))
    return write_page(
        folder, output, figures=figures, data=data, test=test, models=FittedRun(folder), all_rows=all_rows,
        systematics=systematics, shift_events=events,
    )  # fmt: skip


@checked_arguments
def tune_model(
    config: str | Path | Mapping[str, Any],
    model: str,
    *,
    trials: int = 40,
    time_limit: str | float | None = None,
    objective: str = "log_loss",
    inner: int = 3,
    outer: int | None = None,
    vary: Sequence[str] = (),
    prune: bool = True,
    data: str | Path | None = None,
    preset: str | None = None,
    settings: Sequence[str] = (),
    jobs: int = 1,
    studies: str | Path = "studies",
    say: Callable[[str], None] | None = None,
) -> TuneResult:
    """Search the parameters of one model by nested studies, as `higgsbench tune` does.

    Args:
        config: YAML file, or a mapping of the same keys.
        model: model or label of the configuration, or any registered model.
        trials: trials of each study.
        time_limit: seconds, or text such as "30m", for all studies together.
        objective: `log_loss`, `auc` or `ams`.
        inner: folds that judge a trial.
        outer: folds held out in turn for an honest score; 0 for none, by default 3 or all folds of a run with fewer.
        vary: `training_weights` or `features`, or with choices as `WHAT=A,B`.
        prune: whether trials behind the median are broken off.
        data: event file, instead of the configuration's.
        preset: preset to begin with.
        settings: `key=value` changes of the configuration.
        jobs: trials at a time; with more than one the search may vary.
        studies: folder of the studies; one that was stopped goes on.
        say: hears a line per trial.

    Returns:
        Trials, the best of them, the nested score, and the file of the configuration to run.

    Raises:
        HiggsbenchError: for bad configuration, options or data.
    """
    from higgsbench.tune.nested import tune
    from higgsbench.tune.study import TuneSettings

    limit = None if time_limit is None else parse_duration(str(time_limit))
    chosen = TuneSettings(model, trials, limit, objective, inner, outer, prune, tuple(vary), jobs)
    loaded = load_run_config(config, data=data, settings=settings, preset=preset)
    return tune(loaded, chosen, Path(studies), say or (lambda text: None))
