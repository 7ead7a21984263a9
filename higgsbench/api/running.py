"""Runs: from a configuration to stored rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from higgsbench.api.arguments import checked_arguments
from higgsbench.config import LoadedConfig, load_config
from higgsbench.config.model import parse_size
from higgsbench.errors import ConfigError
from higgsbench.models import get_model
from higgsbench.runs.durations import parse_duration
from higgsbench.runs.engines import EngineSettings
from higgsbench.runs.engines.base import load_cluster
from higgsbench.runs.environment import available_cores
from higgsbench.runs.result import Listener, RunResult
from higgsbench.runs.run import run_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["engine_settings", "folder_of", "load_run_config", "run"]

_Number = TypeVar("_Number", int, float)


def folder_of(run: str | Path | RunResult) -> Path:
    """Return the folder of a run."""
    return run.folder if isinstance(run, RunResult) else Path(run).expanduser()


@checked_arguments
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


@checked_arguments
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
    engine: str | None = None,
    scheduler: str | Path | None = None,
    cluster: str | Path | None = None,
    unit_time_limit: str | float | None = None,
    unit_memory_limit: str | float | None = None,
    retry_failed: bool = False,
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
        jobs: units at a time; all cores by default, with a scheduler or cluster all its workers.
        listener: hears of progress.
        time_limit: seconds, or text such as "30m", for everything; what does not fit is left out and said.
        engine: where units run: `local`, `serial` or `dask`; `local` by default, with one job this process.
        scheduler: address of a Dask scheduler, or its scheduler file.
        cluster: YAML file of a batch system that brings Dask workers.
        unit_time_limit: seconds, or text such as "10m", after which a single fit is ended and has failed.
        unit_memory_limit: bytes, or text such as "4GB", likewise.
        retry_failed: whether units that failed in an earlier call are trained again.

    Returns:
        The run's folder, rows, failures and what a time limit left out.

    Raises:
        HiggsbenchError: for bad configuration or data.
    """
    loaded = load_run_config(config, data=data, test=test, only=only, settings=settings, preset=preset)
    limit = _limit("--time-limit", time_limit, parse_duration)
    settings_ = engine_settings(
        engine=engine,
        jobs=jobs,
        scheduler=scheduler,
        cluster=cluster,
        unit_time_limit=unit_time_limit,
        unit_memory_limit=unit_memory_limit,
    )
    return run_config(loaded, Path(output), settings_, listener, limit, retry_failed)


def engine_settings(
    *,
    engine: str | None = None,
    jobs: int | None = None,
    scheduler: str | Path | None = None,
    cluster: str | Path | None = None,
    unit_time_limit: str | float | None = None,
    unit_memory_limit: str | float | None = None,
) -> EngineSettings:
    """Read how units are to be run; arguments as for `run`.

    Raises:
        ConfigError: naming the choice at fault.
    """
    if engine == "serial" and jobs is not None and jobs > 1:
        raise ConfigError(f"--engine serial takes one fit at a time; leave out --jobs {jobs}, or take --engine local")
    everywhere = scheduler is not None or cluster is not None
    return EngineSettings(
        jobs=jobs or (None if everywhere else available_cores()),
        engine=engine,
        scheduler=None if scheduler is None else str(scheduler),
        cluster=None if cluster is None else load_cluster(cluster),
        unit_time_limit=_limit("--unit-time-limit", unit_time_limit, parse_duration),
        unit_memory_limit=_limit("--unit-memory-limit", unit_memory_limit, parse_size),
    )


def _limit(option: str, value: str | float | None, parse: Callable[[str], _Number]) -> _Number | None:
    try:
        return None if value is None else parse(str(value))
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from error
