"""Layer 5: searches one model's parameters in nested studies; `runs` trains. This module: settings and results."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from higgsbench.errors import ConfigError
from higgsbench.metrics import METRICS
from higgsbench.pages import Shown, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from higgsbench.metrics.estimates import Value

OBJECTIVES = {name: metric for name, metric in METRICS.items() if metric.headline}
"""Metrics that parameters can be tuned for."""

_SHOWN = 8
"""Trials in the table of a study."""


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

    def as_table(self) -> Table:
        """Return the scores with their standard errors."""
        lines = (
            ("starting point", self.start, ""),
            ("nested (chosen without the fold)", self.nested, ""),
            ("final (chosen with the fold)", self.final, ""),
            ("gain: nested - starting point", self.gain, "+"),
            ("optimism: final - nested", self.optimism, "+"),
        )
        metrics = [METRICS[name] for name in ("log_loss", "auc", "ams")]
        rows = [
            [title, *(m.shown(values[m.name].value, values[m.name].se, sign) for m in metrics)]
            for title, values, sign in lines
        ]
        title = f"On {len(self.chosen)} held-out folds of the run, with standard errors"
        return Table(title, ["parameters", *(m.column_heading or m.heading for m in metrics)], rows)


@dataclass(frozen=True, repr=False)
class TuneResult(Shown):
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

    def __repr__(self) -> str:
        """Name the folder and the best value; the trials are long."""
        best = f"best {self.objective} {_cell(self.best.value)}"
        return f"<TuneResult {self.folder}: {len(self.trials)} trials of {self.label}, {best}>"

    def as_tables(self) -> list[Table]:
        """Return the best trials, one column each, and the nested score if there is one."""
        best = self.best.value or 0.0
        # Best first: sorted by distance from the best value, whatever the direction.
        complete = sorted((r for r in self.trials if r.value is not None), key=lambda r: abs((r.value or 0.0) - best))
        shown = complete[:_SHOWN]
        rows = [
            [self.objective, *(f"{record.value:.6g}" for record in shown)],
            ["seconds", *(f"{record.seconds:.1f}" for record in shown)],
            *([name, *(_cell(record.values.get(name)) for record in shown)] for name in self.best.values),
        ]
        headings = ["trial", *(str(record.number) for record in shown)]
        trials = Table(f"Best trials of {self.label}", headings, rows, rules=(1,))
        return [trials] if self.nested is None else [trials, self.nested.as_table()]

    def records(self) -> list[dict[str, Any]]:
        """Return all trials, with a column per parameter."""
        return [
            {**{key: v for key, v in vars(trial).items() if key != "values"}, **trial.values} for trial in self.trials
        ]

    def remarks(self) -> list[str]:
        """Return what the parameters are worth, and how far the best value can be trusted."""
        lines = []
        if self.importances:
            shares = ", ".join(f"{name} {100 * share:.0f}%" for name, share in self.importances.items())
            lines.append(f"Importance: {shares}")
        if self.nested is None:
            lines.append("No nested score (--outer 0, or no time): the best value above is optimistic.")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        out = asdict(self)
        return {**out, "folder": str(self.folder), "config": str(self.config_file)}


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
