"""Runs and studies: turn a configuration into stored rows, a forecast, or better parameters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from higgsbench.api import ANYTHING, Config, Count, File, Names, Switch, Text, Time, checked
from higgsbench.api.progress import listening, show_line, warn_of
from higgsbench.config.document import parse_duration, parse_size
from higgsbench.config.load import LoadedConfig, load_config, with_layout
from higgsbench.config.model import DataConfig
from higgsbench.errors import ConfigError
from higgsbench.models import get_model
from higgsbench.runs import RunResult
from higgsbench.runs.artifacts import written_out
from higgsbench.runs.engines import EngineSettings
from higgsbench.runs.engines.base import load_cluster
from higgsbench.runs.environment import available_cores
from higgsbench.runs.plan import configured_rows
from higgsbench.runs.run import Listener, checked_plan, run_config
from higgsbench.runs.stored import StoredRun

if TYPE_CHECKING:
    from higgsbench.compare.curve import LearningCurve
    from higgsbench.runs.cost import Forecast
    from higgsbench.tune import TuneResult


_LOG = logging.getLogger("higgsbench")
_Number = TypeVar("_Number", int, float)
_Say = Callable[[str], None]

_OF_SIMULATION = ("events", "seed", "mix", "shifts", "higgs_mass", "luminosity", "set_proportions")
"""Keys of `data` that apply only to simulated events."""


@checked
def load_run_config(
    config: Config,
    *,
    data: File | None = None,
    test: File | None = None,
    only: Names = (),
    settings: Names = (),
    preset: Text | None = None,
) -> LoadedConfig:
    """Load a configuration and apply what a command line would change; arguments as for `run`.

    Raises:
        ConfigError: naming the file, line and key, or the option at fault.
    """
    effort = () if preset is None else (f"preset={preset}",)
    loaded = load_config(config, [*settings, *effort], get_model)
    if loaded.config.datasets is not None:
        raise loaded.error(("datasets",), "these are data sets of a suite; run them with `higgsbench suite`")
    changes: dict[str, object] = {}
    if data is not None and loaded.config.data.samples is not None:
        raise loaded.error(("data", "samples"), "--data names one file, but the configuration describes samples")
    if data is not None:
        fields = DataConfig.model_fields
        unset = {key: fields[key].get_default(call_default_factory=True) for key in _OF_SIMULATION}
        changes |= {"source": "file", "path": str(data), **unset}
        if loaded.config.data.source != "file":
            changes |= {"layout": None}
    if test is not None:
        changes |= {"test": str(test)}
    new = loaded.config
    new = new.model_copy(update={"data": new.data.model_copy(update=changes)}) if changes else new
    return with_models(LoadedConfig(new, loaded.document), only)


def with_models(loaded: LoadedConfig, only: Sequence[str]) -> LoadedConfig:
    """Keep the models with these names or labels, all by default; a `ConfigError` if one is not configured."""
    models = loaded.config.models
    known = {entry.row_label for entry in models} | {entry.model for entry in models}
    lost = next((name for name in only if name not in known), None)
    if lost is not None:
        raise ConfigError(f"--only {lost}: not in {loaded.document.source}, which has {', '.join(sorted(known))}")
    kept = [entry for entry in models if not only or entry.row_label in only or entry.model in only]
    return loaded.changed(models=kept)


@checked
def resolve_config(config: Config, *, settings: Names = ()) -> dict[str, Any]:
    """Return a configuration with defaults and presets filled in, as `higgsbench config show` does.

    Args:
        config: YAML file, name of a configuration that comes with higgsbench, or a mapping of the same keys.
        settings: `key=value` changes.

    Returns:
        Plain values that run unchanged. This reads no events, only the names of columns if features are patterns:
        values that depend on the events are not filled in.

    Raises:
        ConfigError: naming the file, line and key at fault.
        DataError: if a file with the names of columns cannot be read, or a pattern matches no file.
    """
    loaded = load_run_config(config, settings=settings)
    data = loaded.config.data
    if data.source != "file" or (data.path is not None and Path(data.path).expanduser().exists()):
        loaded = with_layout(loaded)
    schema = loaded.config.data.table_schema(loaded.config.folds_by)
    loaded = loaded.changed(data=loaded.config.data.with_values(schema))
    return written_out(loaded.config, configured_rows(loaded, schema))


@checked
def run(
    config: Config,
    *,
    data: File | None = None,
    test: File | None = None,
    only: Names = (),
    settings: Names = (),
    preset: Text | None = None,
    output: File = "results",
    jobs: Count | None = None,
    progress: Switch = False,
    listener: Annotated[Listener | None, ANYTHING] = None,
    time_limit: Time | None = None,
    engine: Text | None = None,
    scheduler: File | None = None,
    cluster: File | None = None,
    unit_time_limit: Time | None = None,
    unit_memory_limit: Time | None = None,
    retry_failed: Switch = False,
    part: Text | None = None,
) -> RunResult:
    """Run a configuration, as `higgsbench run` does.

    Args:
        config: YAML file, name of a configuration that comes with higgsbench, or a mapping of the same keys.
        data: event file to train on, instead of the configuration's.
        test: separate file of held-out events.
        only: models or labels to keep.
        settings: `key=value` changes.
        preset: preset of the run; models with their own preset keep it.
        output: folder that holds the runs.
        jobs: units at a time; all cores by default, with a scheduler or cluster all its workers.
        progress: whether to show the progress on standard error, or in a notebook.
        listener: is called with the progress instead.
        time_limit: seconds, or text such as "30m", for everything; rows that do not fit are left out and named.
        engine: where units run: `local`, `serial` or `dask`; by default `local`, or `serial` for one job.
        scheduler: address of a Dask scheduler, or its scheduler file.
        cluster: YAML file of a batch system that brings Dask workers.
        unit_time_limit: seconds, or text such as "10m", after which a single fit is ended and counts as failed.
        unit_memory_limit: bytes, or text such as "4GB", above which a single fit is ended and counts as failed.
        retry_failed: whether units that failed in an earlier call are trained again.
        part: "3/20" trains only the third of 20 shares of the units, for array jobs; a call without it does the rest.

    Returns:
        The run's folder, rows (none of a part), failures and the rows that a time limit left out.

    Raises:
        HiggsbenchError: for bad configuration or data.

    Example:
        >>> result = higgsbench.run("quick", data="events.csv", only=["logistic", "lightgbm"])
        >>> [row["label"] for row in result.rows]
        ['logistic', 'lightgbm', 'stack']
    """
    loaded = load_run_config(config, data=data, test=test, only=only, settings=settings, preset=preset)
    limit = limit_of("--time-limit", time_limit, parse_duration)
    units = engine_settings(engine, jobs, scheduler, cluster, unit_time_limit, unit_memory_limit)
    with listening(listener, progress) as heard:
        result = run_config(loaded, Path(output), units, heard, limit, retry_failed, part=part)
    if listener is None:
        warn_of(result.failures)
        if result.left_out:
            _LOG.warning("left out for lack of time: %s", ", ".join(row.name for row in result.left_out))
    return result


@checked
def plan_run(
    config: Config,
    *,
    data: File | None = None,
    test: File | None = None,
    only: Names = (),
    settings: Names = (),
    preset: Text | None = None,
    output: File = "results",
    jobs: Count | None = None,
    events: Count | None = None,
) -> Forecast:
    """Predict time and memory of a run from a few short fits, as `higgsbench run --plan` does; nothing is trained.

    Arguments and errors are those of `run`; units that are stored in `output` cost nothing. `events` is the number of
    training events to predict for, by default those of the data. Notes on the plan go to the logger `higgsbench`.
    """
    loaded = with_layout(load_run_config(config, data=data, test=test, only=only, settings=settings, preset=preset))
    return forecast_of(loaded, jobs, events, Path(output))


def forecast_of(loaded: LoadedConfig, jobs: int | None, events: int | None, *outputs: Path) -> Forecast:
    """Predict the cost of a run whose finished units may be stored in several folders of runs."""
    from higgsbench.runs.budget import fit_to_memory
    from higgsbench.runs.cost import forecast, stored_keys

    known, processes = stored_keys(*outputs), jobs or available_cores()
    plan = checked_plan(loaded, Listener())
    if events is None:
        plan, notes = fit_to_memory(loaded, plan, processes, known)
        for note in notes:
            _LOG.info(note)
    return forecast(plan, known, processes, events)


@checked
def learning_curve(
    config: Config,
    *,
    sizes: Names = (),
    repeats: Count = 3,
    data: File | None = None,
    test: File | None = None,
    only: Names = (),
    settings: Names = (),
    preset: Text | None = None,
    output: File = "results",
    jobs: Count | None = None,
    progress: Switch = False,
    listener: Annotated[Listener | None, ANYTHING] = None,
    engine: Text | None = None,
    scheduler: File | None = None,
    cluster: File | None = None,
    unit_time_limit: Time | None = None,
    unit_memory_limit: Time | None = None,
    retry_failed: Switch = False,
) -> LearningCurve:
    """Train the models of a configuration on growing numbers of events, as `higgsbench learning-curve` does.

    Everything is kept in the folder of the run, and finished fits of the run are reused.

    Args:
        config: YAML file, name of a configuration that comes with higgsbench, or a mapping of the same keys.
        sizes: training events of a fit: numbers, shares such as "0.1" or "10%", or "all"; by default all, half of them,
            a quarter and so on.
        repeats: random draws of each size.
        data: event file to train on, instead of the configuration's.
        test: separate file of held-out events.
        only: models or labels to keep.
        settings: `key=value` changes.
        preset: preset of the run; models with their own preset keep it.
        output: folder that holds the runs.
        jobs: units at a time; all cores by default, with a scheduler or cluster all its workers.
        progress: whether to show the progress on standard error, or in a notebook.
        listener: is called with the progress instead.
        engine: where units run: `local`, `serial` or `dask`; by default `local`, or `serial` for one job.
        scheduler: address of a Dask scheduler, or its scheduler file.
        cluster: YAML file of a batch system that brings Dask workers.
        unit_time_limit: seconds, or text such as "10m", after which a single fit is ended and counts as failed.
        unit_memory_limit: bytes, or text such as "4GB", above which a single fit is ended and counts as failed.
        retry_failed: whether units that failed in an earlier call are trained again.

    Returns:
        The metrics of every row, and of the stack, at each size, and their last gains.

    Raises:
        HiggsbenchError: for bad configuration, data or sizes.

    Example:
        >>> curve = higgsbench.learning_curve(
        ...     "quick", data="events.csv", only=["logistic", "lightgbm"], sizes=["25%", "50%"], repeats=2, jobs=1
        ... )
        >>> curve.to_polars().select("row", "training_events", "draws").tail(2).rows()
        [('stack', 154, 2), ('stack', 308, 2)]
    """
    from higgsbench.compare.curve import keep_curve
    from higgsbench.runs.curve import CURVE, plan_curve

    loaded = with_layout(load_run_config(config, data=data, test=test, only=only, settings=settings, preset=preset))
    units = engine_settings(engine, jobs, scheduler, cluster, unit_time_limit, unit_memory_limit)
    plan = plan_curve(loaded, Path(output), sizes, repeats)
    also = (Path(output),)
    with listening(listener, progress) as heard:
        result = run_config(plan.loaded, plan.folder / CURVE, units, heard, retry_failed=retry_failed, also=also)
    if listener is None:
        warn_of(result.failures)
    return keep_curve(StoredRun(result.folder), plan, result.failures)


@checked
def plan_learning_curve(
    config: Config,
    *,
    sizes: Names = (),
    repeats: Count = 3,
    data: File | None = None,
    test: File | None = None,
    only: Names = (),
    settings: Names = (),
    preset: Text | None = None,
    output: File = "results",
    jobs: Count | None = None,
) -> Forecast:
    """Predict time and memory of a learning curve, summed by size; arguments as in `learning_curve`."""
    from higgsbench.runs.curve import CURVE, forecast_by_size, plan_curve

    loaded = with_layout(load_run_config(config, data=data, test=test, only=only, settings=settings, preset=preset))
    plan = plan_curve(loaded, Path(output), sizes, repeats)
    return forecast_by_size(forecast_of(plan.loaded, jobs, None, plan.folder / CURVE, Path(output)), plan)


def engine_settings(
    engine: str | None, jobs: int | None, scheduler: str | Path | None, cluster: str | Path | None,
    unit_time_limit: str | float | None, unit_memory_limit: str | float | None,
) -> EngineSettings:  # fmt: skip
    """Parse the options that decide how units run; arguments and errors as for `run`."""
    if engine == "serial" and jobs is not None and jobs > 1:
        raise ConfigError(f"--engine serial runs one fit at a time; leave out --jobs {jobs}, or use --engine local")
    everywhere = scheduler is not None or cluster is not None
    return EngineSettings(
        jobs=jobs or (None if everywhere else available_cores()),
        engine=engine,
        scheduler=None if scheduler is None else str(scheduler),
        cluster=None if cluster is None else load_cluster(cluster),
        unit_time_limit=limit_of("--unit-time-limit", unit_time_limit, parse_duration),
        unit_memory_limit=limit_of("--unit-memory-limit", unit_memory_limit, parse_size),
    )


def limit_of(option: str, value: str | float | None, parse: Callable[[str], _Number]) -> _Number | None:
    """Parse a limit; the `ConfigError` names the option."""
    try:
        return None if value is None else parse(str(value))
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from error


@checked
def tune_model(
    config: Config,
    model: Text,
    *,
    trials: Count = 40,
    time_limit: Time | None = None,
    objective: Text = "log_loss",
    inner: Annotated[int, ANYTHING] = 3,
    outer: Annotated[int | None, ANYTHING] = None,
    vary: Names = (),
    prune: Switch = True,
    data: File | None = None,
    preset: Text | None = None,
    settings: Names = (),
    jobs: Count = 1,
    studies: File = "studies",
    progress: Switch = False,
    say: Annotated[_Say | None, ANYTHING] = None,
) -> TuneResult:
    """Search one model's parameters in nested studies, as `higgsbench tune` does.

    Args:
        config: YAML file, name of a configuration that comes with higgsbench, or a mapping of the same keys.
        model: model or label of the configuration, or any registered model.
        trials: trials of each study.
        time_limit: seconds, or text such as "30m", for all studies together.
        objective: `log_loss`, `auc` or `ams`.
        inner: folds on which a trial is evaluated.
        outer: folds held out in turn for an honest score; 0 for none, by default 3 or all folds of a run with fewer.
        vary: `training_weights` or `features`, or with choices as `WHAT=A,B`.
        prune: whether trials that are worse than the median are stopped early.
        data: event file, instead of the configuration's.
        preset: preset to start from.
        settings: `key=value` changes of the configuration.
        jobs: trials at a time; with more than one the search may vary.
        studies: folder of the studies; a study that was stopped continues.
        progress: whether to show a line per trial on standard error, or in a notebook.
        say: is called with these lines instead; otherwise they go to the logger `higgsbench`.

    Returns:
        Trials, the best of them, the nested score, and the file of the configuration to run.

    Raises:
        HiggsbenchError: for bad configuration, options or data.

    Example:
        >>> found = higgsbench.tune_model("quick", "logistic", data="events.csv", trials=2, outer=0)
        >>> len(found.trials)
        2
    """
    from higgsbench.tune import TuneSettings
    from higgsbench.tune.nested import tune

    limit = limit_of("--time-limit", time_limit, parse_duration)
    chosen = TuneSettings(model, trials, limit, objective, inner, outer, prune, tuple(vary), jobs)
    loaded = load_run_config(config, data=data, settings=settings, preset=preset)
    return tune(loaded, chosen, Path(studies), say or (show_line if progress else _LOG.info))
