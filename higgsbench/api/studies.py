"""Questions to stored runs, their report, and the search for better parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from higgsbench.api.arguments import checked_arguments
from higgsbench.api.running import folder_of, load_run_config
from higgsbench.runs.durations import parse_duration
from higgsbench.runs.fitted import FittedRun
from higgsbench.runs.result import RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from higgsbench.compare import Comparison, Contender
    from higgsbench.ensemble import Diversity
    from higgsbench.inference import Statistics
    from higgsbench.inference.files import Shift
    from higgsbench.metrics.binning import BinningRules
    from higgsbench.tune.result import TuneResult

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
    shifts: Sequence[Shift] = (),
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
        events: held-out event file with labels and weights.
        nominal: scores of these events (Parquet: EventId, score).
        shifts: (name, up, down) with the score files of systematic shifts.
        results: folder that holds runs.

    Raises:
        HiggsbenchError: if a run or model is not known, or options do not fit each other.
    """
    from higgsbench.inference import run_statistics

    contenders, _ = _contenders([run], models, results)
    return run_statistics(
        contenders,
        sigma_b=(sigma_b,) if isinstance(sigma_b, int | float) else sigma_b,
        rules=rules,
        workspace=workspace,
        fit=fit,
        counting=counting,
        mc_stat=mc_stat,
        events=None if events is None else Path(events),
        nominal=None if nominal is None else Path(nominal),
        shifts=shifts,
    )


@checked_arguments
def write_report(
    run: str | Path | RunResult,
    output: str | Path,
    *,
    figures: str | Path | None = None,
    data: str | Path | None = None,
    test: str | Path | None = None,
    all_rows: bool = False,
) -> Path:
    """Draw a stored run as one page that opens offline, as `higgsbench report` does.

    Args:
        run: the run's folder, or a folder of runs, of which the one finished last is taken.
        output: the page, written whole or not at all.
        figures: folder that gets every figure as PNG and PDF too.
        data: event file, where it is no longer where the run's configuration says.
        test: file of held-out events, likewise.
        all_rows: whether every row gets figures of its own, not only the best ones and the stack.

    Returns:
        The run's folder.

    Raises:
        HiggsbenchError: if there is no finished run, it is damaged, the drawing libraries are absent, or the page
            cannot be written.
    """
    from higgsbench.report import write_report as write_page
    from higgsbench.report.stored import find_run

    folder = find_run(folder_of(run))
    return write_page(
        folder, output, figures=figures, data=data, test=test, models=FittedRun(folder), all_rows=all_rows
    )


@checked_arguments
def tune_model(
    config: str | Path | Mapping[str, Any],
    model: str,
    *,
    trials: int = 40,
    time_limit: str | float | None = None,
    objective: str = "log_loss",
    inner: int = 3,
    outer: int = 3,
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
        outer: folds held out in turn for an honest score; 0 for none.
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
    from higgsbench.tune.settings import TuneSettings

    limit = None if time_limit is None else parse_duration(str(time_limit))
    chosen = TuneSettings(model, trials, limit, objective, inner, outer, prune, tuple(vary), jobs)
    loaded = load_run_config(config, data=data, settings=settings, preset=preset)
    return tune(loaded, chosen, Path(studies), say or (lambda text: None))
