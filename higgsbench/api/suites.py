"""Suites: the same models and seeds on several data sets, each an ordinary run of the store."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from higgsbench.api import ANYTHING, Config, Count, File, Names, Switch, Text, Time, checked
from higgsbench.api.progress import listening, warn_of
from higgsbench.api.running import engine_settings, forecast_of, limit_of, with_models
from higgsbench.compare.suite import SuiteResult, describe, summarise
from higgsbench.config.document import parse_duration
from higgsbench.config.load import LoadedConfig, load_config, with_layout
from higgsbench.errors import ConfigError, DataError, HiggsbenchError, TimeLimitError
from higgsbench.events import EventStream
from higgsbench.events.fetch import opendata_path
from higgsbench.models import get_model
from higgsbench.runs.plan import configured_rows
from higgsbench.runs.run import Listener, run_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.config.model import RunConfig
    from higgsbench.runs import RunResult
    from higgsbench.runs.cost import Forecast
    from higgsbench.schema import TableSchema

DEFAULT = "suite"
"""The configuration that comes with higgsbench: six simulated data sets."""


def _parts(config: Config, only: Sequence[str], settings: Sequence[str], preset: str | None) -> dict[str, LoadedConfig]:
    """Return the configuration of each data set's run, by name of the data set.

    Raises:
        ConfigError: naming the file, line and key at fault, such as a data set whose file does not exist or has another
            layout.
    """
    effort = () if preset is None else (f"preset={preset}",)
    loaded = with_models(load_config(config, [*settings, *effort], get_model), only)
    if loaded.config.datasets is None:
        raise loaded.error((), "no `datasets`: add the data sets of the suite, each with the keys of `data`")
    for name, data in loaded.config.datasets.items():
        for key in ("path", "test"):
            file = getattr(data, key)
            if file is not None and not Path(file).expanduser().exists():
                raise loaded.error(("datasets", name, key), f"{file}: no such file")
    parts = {name: loaded.changed(datasets=None, data=data, name=name) for name, data in loaded.config.datasets.items()}
    for name, part in parts.items():
        try:
            configured_rows(part, _layout(part.config))
        except HiggsbenchError as error:
            raise loaded.error(("datasets", name), str(error)) from error
    return parts


def _layout(config: RunConfig) -> TableSchema:
    """Return the layout of the events, after a look at the headers of their files."""
    data = config.data
    if data.source == "opendata":
        opendata_path()
    if data.source == "file" and data.path is None and data.samples is None:
        raise ConfigError("no events given; name a file under `path`, or use `source: simulated`")
    schema = data.table_schema(config.folds_by)
    for file in filter(None, (data.path, data.test)):
        columns = EventStream(Path(file).expanduser(), schema).columns
        if file == data.path and schema.label not in columns:
            raise DataError(f"{file}: no column {schema.label}: cannot train")
    return schema


@checked
def suite(
    config: Config = DEFAULT,
    *,
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
) -> SuiteResult:
    """Run the same models on several data sets and rank them over all, as `higgsbench suite` does.

    Args:
        config: YAML file with `datasets`, name of a configuration that comes with higgsbench, or a mapping.
        only: models or labels to keep.
        settings: `key=value` changes.
        preset: preset of the runs; models with their own preset keep it.
        output: folder that holds the runs; finished fits in it are reused.
        jobs: units at a time; all cores by default, with a scheduler or cluster all its workers.
        progress: whether to show the progress on standard error, or in a notebook.
        listener: is called with the progress instead.
        time_limit: seconds, or text such as "30m", for the suite; the remaining data sets share the time left. Rows and
            data sets that do not fit are left out and named.
        engine: where units run: `local`, `serial` or `dask`; by default `local`, or `serial` for one job.
        scheduler: address of a Dask scheduler, or its scheduler file.
        cluster: YAML file of a batch system that brings Dask workers.
        unit_time_limit: seconds, or text such as "10m", after which a single fit is ended and counts as failed.
        unit_memory_limit: bytes, or text such as "4GB", above which a single fit is ended and counts as failed.
        retry_failed: whether units that failed in an earlier call are trained again.

    Returns:
        The run of each data set, and the rankings over all data sets.

    Raises:
        HiggsbenchError: for bad configuration or data.

    Example:
        >>> data = {f"m{m}": {"source": "simulated", "events": 3000, "higgs_mass": m} for m in (110, 140)}
        >>> found = higgsbench.suite({"datasets": data, "models": ["logistic", "lightgbm"], "preset": "quick"}, jobs=1)
        >>> [standing.row for standing in found.rankings[1].standings]
        ['lightgbm', 'stack', 'logistic']
    """
    begin, parts = time.monotonic(), _parts(config, only, settings, preset)
    limit = limit_of("--time-limit", time_limit, parse_duration)
    units = engine_settings(engine, jobs, scheduler, cluster, unit_time_limit, unit_memory_limit)
    runs: dict[str, RunResult] = {}
    notes = []
    with listening(listener, progress) as heard:
        for at, (name, loaded) in enumerate(parts.items()):
            heard.note(f"data set {name}, {at + 1} of {len(parts)}")
            left = None if limit is None else max(limit - (time.monotonic() - begin), 0.1) / (len(parts) - at)
            try:
                runs[name] = run_config(loaded, Path(output), units, heard, left, retry_failed)
            except TimeLimitError as error:
                notes.append(f"data set {name} is left out: {error}")
    if not runs:
        raise TimeLimitError(notes[-1])
    for name, run in runs.items():
        notes += [f"{name}: a time limit left out {row.name}" for row in run.left_out]
    given = {
        name: parts[name].config.data.model_dump(mode="json", by_alias=True, exclude_defaults=True) for name in runs
    }
    found = summarise(runs, notes, describe(runs, given))
    if listener is None:
        warn_of(found.failures)
    return found


@checked
def plan_suite(
    config: Config = DEFAULT,
    *,
    only: Names = (),
    settings: Names = (),
    preset: Text | None = None,
    output: File = "results",
    jobs: Count | None = None,
) -> Forecast:
    """Predict time and memory of a suite, summed by data set; nothing is trained. Arguments as for `suite`."""
    from higgsbench.runs.cost import summed

    parts = _parts(config, only, settings, preset)
    found = {name: forecast_of(with_layout(loaded), jobs, None, Path(output)) for name, loaded in parts.items()}
    first, *_ = found.values()
    return replace(
        first,
        rows=tuple(summed(name, one.rows) for name, one in found.items()),
        events=sum(one.events for one in found.values()),
        seconds=sum(one.seconds for one in found.values()),
        memory_mb=max(one.memory_mb for one in found.values()),
        calibration_seconds=sum(one.calibration_seconds for one in found.values()),
        pretraining=tuple(dict.fromkeys(row for one in found.values() for row in one.pretraining)),
    )
