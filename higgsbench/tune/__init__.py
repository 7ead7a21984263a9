"""Layer 5: searches one model's parameters in nested studies; `runs` trains. This module: settings and results."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from higgsbench.errors import ConfigError
from higgsbench.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from higgsbench.metrics.estimates import Value

OBJECTIVES = {name: metric for name, metric in METRICS.items() if metric.headline}
"""Metrics that parameters can be tuned for."""


@dataclass(frozen=True)
class TuneSettings:
    """What to search and how; see `higgsbench.tune_model`. The time limit is in seconds.

    Raises:
        ConfigError: for an unknown objective or a number out of range.
    """

    model: str
    trials: int = 40
    time_limit: float | None = None
    objective: str = "log_loss"
    inner: int = 3
    outer: int | None = None
    prune: bool = True
    vary: Sequence[str] = ()
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"objective: {self.objective!r} is not one of {', '.join(OBJECTIVES)}")
        for name, least in (("trials", 1), ("inner", 2), ("outer", 0), ("jobs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}: {value} is less than {least}")


@dataclass(frozen=True)
class TrialRecord:
    """One trial that was run.

    Attributes:
        number: number in the study.
        state: `complete`, `pruned` or `failed`.
        value: objective on all folds, None if the trial is not complete.
        values: value per dimension.
        seconds: wall time.
        error: last line of the traceback of a failed trial.
        calibration: slope and intercept of the recalibration of its scores, one pair per part, or None.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Any]
    seconds: float
    error: str = ""
    calibration: list[list[float]] | None = None


@dataclass(frozen=True)
class NestedScore:
    """Scores on held-out folds of the run, per metric (`log_loss`, `auc`, `ams`).

    Attributes:
        nested: score of parameters that were chosen without the fold that scores them.
        final: score of the final parameters, which were chosen on all events.
        start: score of the configuration's parameters.
        optimism: final minus nested, paired on the same events.
        gain: nested minus start, paired.
        chosen: parameters that each nested study chose.
    """

    nested: dict[str, Value]
    final: dict[str, Value]
    start: dict[str, Value]
    optimism: dict[str, Value]
    gain: dict[str, Value]
    chosen: list[dict[str, Any]]

    def better(self, metric: str) -> bool:
        """Whether parameters chosen without the fold that scores them beat those of the starting point."""
        gain = self.gain[metric].value
        return gain < 0 if OBJECTIVES[metric].lower_is_better else gain > 0


@dataclass(frozen=True)
class TuneResult:
    """Result of a study.

    Attributes:
        folder: where journals, fits and the configuration are.
        model: the model, and `label`: its label.
        objective: what it was tuned for.
        data_digest: identity of the training events, and `events`: their number.
        best: best trial of the final study, and `trials`: all of them.
        importances: share of the objective's scatter that each dimension explains.
        nested: scores on events that were not used to choose parameters, or None.
        seconds: wall time.
    """

    folder: Path
    model: str
    label: str
    objective: str
    data_digest: str
    events: int
    best: TrialRecord
    trials: list[TrialRecord]
    importances: dict[str, float]
    nested: NestedScore | None
    seconds: float

    @property
    def improved(self) -> bool:
        """Whether some trial was better than the first one, which has the starting point's parameters."""
        return self.best.number != self.trials[0].number

    @property
    def config_file(self) -> Path:
        """The configuration with the parameters."""
        return self.folder / "tuned.yaml"

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        out = asdict(self)
        return {**out, "folder": str(self.folder), "config": str(self.config_file)}
