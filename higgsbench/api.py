"""The Python interface to runs: the same reach as the command line.

Wherever a run is asked for, its folder or the `RunResult` of `run` will do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars

from higgsbench.challenge import SubmissionScore, read_submission, score_submission, submission_table
from higgsbench.config import LoadedConfig, load_config
from higgsbench.errors import ConfigError
from higgsbench.events import Events, load_events
from higgsbench.models import get_model
from higgsbench.runs.durations import parse_duration
from higgsbench.runs.environment import available_cores
from higgsbench.runs.predict import default_subsets, predictions
from higgsbench.runs.predictor import open_predictor
from higgsbench.runs.result import Listener, RunResult
from higgsbench.runs.run import run_config
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from higgsbench.compare import Comparison, Contender
    from higgsbench.ensemble import Diversity
    from higgsbench.inference import Statistics
    from higgsbench.inference.files import Shift
    from higgsbench.metrics.binning import BinningRules

__all__ = ["compare_models", "load_run_config", "members", "predict", "run", "score", "stats", "submission"]


def _folder(run: str | Path | RunResult) -> Path:
    return run.folder if isinstance(run, RunResult) else Path(run).expanduser()


def load_run_config(
    config: str | Path | Mapping[str, Any],
    *,
    data: str | Path | None = None,
    test: str | Path | None = None,
    only: Sequence[str] = (),
    settings: Sequence[str] = (),
    preset: str | None = None,
) -> LoadedConfig:
    """Load a configuration and apply what a command line would change.

    Args:
        config: YAML file, or a mapping of the same keys.
        data: event file to train on, instead of the configuration's.
        test: separate file of held-out events.
        only: models or labels to keep.
        settings: `key=value` changes.
        preset: preset of the run; models with a preset of their own keep it.

    Raises:
        ConfigError: naming the file, line and key, or the option at fault.
    """
    effort = () if preset is None else (f"preset={preset}",)
    loaded = load_config(config, [*settings, *effort], get_model)
    changes: dict[str, object] = {}
    if data is not None:
        # What belongs to another source goes with it.
        changes |= {"source": "file", "path": str(data), "events": None, "seed": None, "mix": {}, "shifts": None}
        changes |= {"higgs_mass": None, "luminosity": None, "set_proportions": {}}
    if test is not None:
        changes |= {"test": str(test)}
    new = loaded.config
    if changes:
        new = new.model_copy(update={"data": new.data.model_copy(update=changes)})
    if only:
        known = {entry.row_label for entry in new.models} | {entry.model for entry in new.models}
        for name in only:
            if name not in known:
                raise ConfigError(
                    f"--only {name}: not in {loaded.document.source}, which has {', '.join(sorted(known))}"
                )
        kept = [entry for entry in new.models if entry.row_label in only or entry.model in only]
        new = new.model_copy(update={"models": kept})
    return LoadedConfig(new, loaded.document)


def run(
    config: str | Path | Mapping[str, Any],
    *,
    data: str | Path | None = None,
    test: str | Path | None = None,
    only: Sequence[str] = (),
    settings: Sequence[str] = (),
    preset: str | None = None,
    output: str | Path = "results",
    jobs: int | None = None,
    listener: Listener | None = None,
    time_limit: str | float | None = None,
) -> RunResult:
    """Carry out a configuration, as `higgsbench run` does.

    Args:
        config: YAML file, or a mapping of the same keys.
        data: event file to train on, instead of the configuration's.
        test: separate file of held-out events.
        only: models or labels to keep.
        settings: `key=value` changes.
        preset: preset of the run; models with a preset of their own keep it.
        output: folder that holds the runs.
        jobs: worker processes; all cores by default.
        listener: hears of progress.
        time_limit: seconds, or text such as "30m", for everything; what does not fit is left out and said.

    Returns:
        The run's folder, rows, failures and what a time limit left out.

    Raises:
        HiggsbenchError: for bad configuration or data.
    """
    loaded = load_run_config(config, data=data, test=test, only=only, settings=settings, preset=preset)
    limit = None if time_limit is None else parse_duration(str(time_limit))
    return run_config(loaded, Path(output), jobs or available_cores(), listener, limit)


def predict(
    run: str | Path | RunResult,
    data: str | Path,
    *,
    model: str | None = None,
    jobs: int | None = None,
    subsets: Sequence[str] | None = None,
) -> polars.DataFrame:
    """Score new events with the stored models of a run, as `higgsbench predict` does.

    Args:
        run: the run's folder.
        data: event file in the layout the run was trained on; it needs no labels.
        model: row to take; the stack when None, or the only row.
        jobs: parts scored at a time; all cores by default.
        subsets: keep only events of these subsets (KaggleSet); all when None.

    Returns:
        EventId, score (log-odds in physical normalisation) and selected (by the frozen cut), in the order of the file.

    Raises:
        HiggsbenchError: if the run has no usable models, or the data breaks a rule.
    """
    predictor = open_predictor(_folder(run), model)
    return polars.concat(list(predictions(predictor, data, jobs or available_cores(), subsets)))


def submission(
    run: str | Path | RunResult,
    data: str | Path,
    *,
    model: str | None = None,
    jobs: int | None = None,
    subsets: Sequence[str] | None = None,
) -> polars.DataFrame:
    """Make a submission in the challenge's format, as `higgsbench submit` does; arguments as for `predict`.

    Without `subsets`, the events are the test sets b and v where the file has them, otherwise all.

    Returns:
        EventId, RankOrder and Class, in the order of the file.
    """
    predictor = open_predictor(_folder(run), model)
    chosen = subsets or default_subsets(data, predictor.schema)
    found = polars.concat(list(predictions(predictor, data, jobs or available_cores(), chosen)))
    return submission_table(found["EventId"].to_numpy(), found["score"].to_numpy(), predictor.threshold)


def score(
    submission: str | Path | polars.DataFrame,
    truth: str | Path | Events,
    *,
    subsets: Sequence[str] | None = None,
    totals: tuple[float, float] | None = None,
    b_reg: float = B_REG,
) -> list[SubmissionScore]:
    """Check a submission as strictly as the challenge did and score it, as `higgsbench score` does.

    Args:
        submission: file, or a table as `submission` returns it.
        truth: labelled events, or the file that holds them.
        subsets: subsets that are scored; b and v where the truth has them when None, otherwise all events.
        totals: reference totals (N_s, N_b); those of the truth when None.
        b_reg: regularisation of the background.

    Returns:
        The score on all scored events, then on each of their subsets.

    Raises:
        DataError: naming what is wrong with the submission, or that it is not of these events.
    """
    given = read_submission(submission if isinstance(submission, polars.DataFrame) else Path(submission))
    events = truth if isinstance(truth, Events) else load_events(truth)
    return score_submission(given, events, subsets=subsets, totals=totals, b_reg=b_reg)


def members(run: str | Path | RunResult) -> Diversity:
    """Take the stack of a run apart, member by member, as `higgsbench members` does.

    Raises:
        StoreError: if the run is unfinished or has no stack.
    """
    from higgsbench.leaderboard.members import read_diversity

    return read_diversity(_folder(run))


def _contenders(
    runs: Sequence[str | Path | RunResult], models: Sequence[str], results: str | Path, *, common: bool = False
) -> tuple[list[Contender], list[str]]:
    from higgsbench.compare import load_contenders

    names = [str(run.folder if isinstance(run, RunResult) else run) for run in runs]
    specs = [f"{name}:{model}" for name in names for model in models] or names
    return load_contenders(specs, results=Path(results), common=common)


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


def stats(
    run: str | Path | RunResult,
    *,
    models: Sequence[str] = (),
    sigma_b: Sequence[float] = (),
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
        sigma_b: relative background uncertainties.
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
        sigma_b=sigma_b,
        rules=rules,
        workspace=workspace,
        fit=fit,
        counting=counting,
        mc_stat=mc_stat,
        events=None if events is None else Path(events),
        nominal=None if nominal is None else Path(nominal),
        shifts=shifts,
    )
