"""The Python interface to a whole run: the same reach as the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars

from higgsbench.challenge import submission_table
from higgsbench.config import LoadedConfig, load_config
from higgsbench.errors import ConfigError
from higgsbench.models import get_model
from higgsbench.runs.durations import parse_duration
from higgsbench.runs.environment import available_cores
from higgsbench.runs.fitted import FittedRun
from higgsbench.runs.predict import predictions
from higgsbench.runs.predictor import open_predictor
from higgsbench.runs.result import Listener, RunResult
from higgsbench.runs.run import run_config

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["load_run_config", "predict", "run", "submission", "write_report"]


def load_run_config(
    config: str | Path,
    *,
    data: str | Path | None = None,
    test: str | Path | None = None,
    only: Sequence[str] = (),
    settings: Sequence[str] = (),
    preset: str | None = None,
) -> LoadedConfig:
    """Load a configuration and apply what a command line would change.

    Args:
        config: YAML file.
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
                raise ConfigError(f"--only {name}: not in {config}, which has {', '.join(sorted(known))}")
        kept = [entry for entry in new.models if entry.row_label in only or entry.model in only]
        new = new.model_copy(update={"models": kept})
    return LoadedConfig(new, loaded.document)


def run(
    config: str | Path,
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
        config: YAML file.
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
    run: str | Path,
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
    predictor = open_predictor(Path(run), model)
    return polars.concat(list(predictions(predictor, data, jobs or available_cores(), subsets)))


def submission(
    run: str | Path,
    data: str | Path,
    *,
    model: str | None = None,
    jobs: int | None = None,
    subsets: Sequence[str] | None = None,
) -> polars.DataFrame:
    """Make a submission in the challenge's format, as `higgsbench submit` does; arguments as for `predict`.

    Returns:
        EventId, RankOrder and Class, in the order of the file.
    """
    predictor = open_predictor(Path(run), model)
    found = polars.concat(list(predictions(predictor, data, jobs or available_cores(), subsets)))
    return submission_table(found["EventId"].to_numpy(), found["score"].to_numpy(), predictor.threshold)


def write_report(
    run: str | Path,
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

    folder = find_run(Path(run))
    return write_page(
        folder, output, figures=figures, data=data, test=test, models=FittedRun(folder), all_rows=all_rows
    )
