"""What units learn from simulated events: models, trained once and kept in the cache, or the events themselves."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench.errors import ConfigError
from higgsbench.events.cache import cache_entry, intact, replace_entry
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.models import registered_models
from higgsbench.models.spec import BAG
from higgsbench.runs.dataset import Dataset, Matrix, save_events, working_folder
from higgsbench.runs.engines import EngineSettings, execute
from higgsbench.runs.unit import Start, Unit, UnitResult, Workspace
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from higgsbench.config.model import ModelConfig
    from higgsbench.events.simulate import SimulationSettings
    from higgsbench.features import Features
    from higgsbench.models import ModelSpec
    from higgsbench.schema import TableSchema

SEED = 20140512
"""Seed of the simulated events and of the fits on them, so that all seeds of a run start from the same models."""
EVENTS_PER_EPOCH = 10_000
"""Training events per epoch of the further training, within the limits of `further_rounds`."""


class Simulation(NamedTuple):
    """How a row uses simulated events.

    Attributes:
        key: `pretrain` or `trained_on`.
        events: number of simulated events.
        params: parameters of the model on these.
        then: those that differ in the further training; None if there is none.
        beside: whether the model is trained on the events of the run too.
    """

    key: str
    events: int
    params: dict[str, Any]
    then: dict[str, Any] | None
    beside: bool = False

    @property
    def settings(self) -> SimulationSettings:
        """The simulated events."""
        from higgsbench.events.simulate import SimulationSettings  # it imports scipy

        return SimulationSettings(events=self.events, seed=SEED)

    def __str__(self) -> str:
        how = "pretrained" if self.key == "pretrain" else "trained"
        also = " and the run's" if self.beside else ""
        return f"{how} on {self.events:,} events{also}"


def simulation_of(
    entry: ModelConfig,
    spec: ModelSpec,
    preset: Mapping[str, Any],
    params: Mapping[str, Any],
    weights: str,
    schema: TableSchema,
    simulated: bool,
    fitted: int | None,
) -> tuple[Simulation | None, str]:
    """Return how a model uses simulated events, or why it does not, if the configuration allows this.

    Args:
        entry: the model in the configuration.
        spec: its record.
        preset: parameters of its preset.
        params: its own parameters and the preset's.
        weights: its training weights.
        schema: layout of the run's events.
        simulated: whether these are simulated too.
        fitted: number of training events of a fit, None if unknown.

    Raises:
        ConfigError: naming the key, if the simulation cannot be used.
    """
    asked, key = entry.pretrain or entry.trained_on, "trained_on" if entry.pretrain is None else "pretrain"
    if asked is None:
        return None, ""
    if key == "pretrain" and spec.pretraining is None:
        able = " or ".join(model.name for model in registered_models() if model.pretraining is not None)
        raise ConfigError(f"pretrain: model {spec.name!r} cannot continue a fit; use {able}, or `trained_on`")
    ways, problem = "`elsewhere: skip` to train without simulated events", ""
    if schema.name != ATLAS_HIGGS.name:
        problem = f"the simulation has the layout {ATLAS_HIGGS.name}, and the events of the run have {schema.name}"
    elif simulated and asked.elsewhere != "use":
        problem = "the events of the run are simulated themselves"
        ways += ", or `elsewhere: use` to use them anyway"
    if problem and asked.elsewhere != "skip":
        raise ConfigError(f"{key}: {problem}; remove the key, or set {ways}")
    if problem:
        return None, f"{entry.row_label}: trained without `{key}`: {problem}"
    if entry.pretrain is None or spec.pretraining is None:
        beside = asked.source == "simulated+real"
        if beside and weights == "none":
            ways = "`trained_on: simulated`" + (" or other `training_weights`" if spec.sample_weight else "")
            raise ConfigError(f"trained_on: {asked.source} needs weights, and {spec.name} trains without; use {ways}")
        return Simulation(key, asked.events, dict(params), None, beside), ""
    first, then = spec.pretraining
    # Of the parameters that differ between the two trainings, the user chooses only those of the second.
    own = {name: value if name not in spec.rounds else further_rounds(value, fitted) for name, value in then.items()}
    own |= {name: entry.params[name] for name in own if name in entry.params}
    base = {**preset, **{name: value for name, value in params.items() if name not in then}}
    # The members of a bag start from one model.
    return Simulation(key, asked.events, {**base, **first, BAG: 1}, own), ""


def further_rounds(least: int, events: int | None) -> int:
    """Return the epochs of the further training: `least` for few events, up to four times as many for 200,000.

    With few events, more epochs would make a network forget the simulation; many events teach more than it does.
    """
    return least if events is None else min(max(least, events // EVENTS_PER_EPOCH), 4 * least)


def starts_to_train(units: Iterable[Unit]) -> list[Start]:
    """Return the models that a run of the units would first train, because the cache does not hold them."""
    return [start for key, start in _starts(units).items() if intact(_cached(key)) is None]


def _starts(units: Iterable[Unit], *, beside: bool = False) -> dict[str, Start]:
    """Return what units start from, by key: models or, with `beside`, simulated events to add to their own."""
    starts = (unit.start for unit in units if unit.start is not None)
    return {start.unit.key: start for start in starts if start.beside == beside}


def provide_starts(
    units: Sequence[Unit],
    features: Mapping[int, Features],
    workspace: Workspace,
    engine: EngineSettings,
    shared: Path | None,
    say: Callable[[str], None],
) -> list[UnitResult]:
    """Put what units start from into the workspace: simulated events, and models from the cache or trained now.

    Args:
        units: the units that will run.
        features: what the models see, by row.
        workspace: that of the units.
        engine: where models are trained.
        shared: folder that all workers can read, or None where they are on this machine.
        say: receives notes.

    Returns:
        A failed result for each unit whose model could not be trained.
    """
    beside = _starts(units, beside=True).values()
    for events in {start.events for start in beside}:
        own = [start.unit for start in beside if start.events == events]
        place = next(start.simulated(workspace) for start in beside if start.events == events)
        Path(place.folder).mkdir(exist_ok=True)
        _save_simulated(place, events, own, [features[unit.row] for unit in own])
    missing = [start for key, start in _starts(units).items() if not _taken_from_cache(key, workspace)]
    failed: dict[str, str] = {}
    for events in sorted({start.events for start in missing}):
        own = [start.unit for start in missing if start.events == events]
        names = ", ".join(unit.name for unit in own)
        say(f"training on {events:,} simulated events, kept for later runs: {names}")
        with working_folder(shared) as folder:
            simulated = Workspace(folder)
            _save_simulated(simulated, events, own, [features[unit.row] for unit in own])
            waiting = [dataclasses.replace(unit, model_file=str(simulated.model(unit.key))) for unit in own]
            source = functools.partial(next, iter(waiting), None)
            with contextlib.closing(execute(source, simulated, engine, say=say)) as results:
                for result in results:
                    if reason := _kept(result, workspace):
                        failed[result.key] = reason
    lost = [(unit, unit.start.unit.key) for unit in units if unit.start is not None and unit.start.unit.key in failed]
    return [UnitResult.failed(unit.key, failed[key]) for unit, key in lost]


def _save_simulated(workspace: Workspace, number: int, units: Sequence[Unit], features: Iterable[Features]) -> None:
    from higgsbench.events.simulate import SimulationSettings, simulated_events  # they import scipy

    events = simulated_events(SimulationSettings(events=number, seed=SEED))
    y, totals = events.y, units[0].totals
    weight = evaluation_weights(y, events.weight, *totals)
    save_events(
        workspace,
        Dataset(events, None, y, weight, totals, None, (), np.zeros((1, y.size), int), ""),
        map(Matrix, features),
    )


def _cached(key: str) -> Path:
    return cache_entry(f"pretrained:{key}", ".model")


def _taken_from_cache(key: str, workspace: Workspace) -> bool:
    file = _cached(key)
    if intact(file) is None:
        return False
    with contextlib.suppress(OSError):
        shutil.copyfile(file, workspace.model(key))
        return True
    return False


def _kept(result: UnitResult, workspace: Workspace) -> str:
    """Move a trained model into the workspace, and into the cache if possible; return the reason if there is none."""
    if result.model_file is None:
        return result.error or result.refused or (result.model.reason if result.model is not None else "no model")
    file = workspace.model(result.key)
    shutil.move(result.model_file, file)

    def write(target: Path) -> str:
        shutil.copyfile(file, target)
        return result.key

    with contextlib.suppress(OSError):
        replace_entry(_cached(result.key), write)
    return ""
