"""What a study comes to, and the configuration with its parameters."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import yaml

from higgsbench import __version__
from higgsbench.ensemble.bootstrap import paired_error
from higgsbench.metrics import paired_difference
from higgsbench.runs.artifacts import resolved_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from higgsbench.config import RunConfig
    from higgsbench.ensemble.evaluate import RowMetrics
    from higgsbench.runs.plan import Plan
    from higgsbench.tune.journal import TrialRecord

__all__ = ["METRICS", "Measured", "NestedScore", "TuneResult", "config_text", "nested_score"]

METRICS = ("log_loss", "auc", "ams")


@dataclass(frozen=True)
class Measured:
    """A number with its standard error."""

    value: float
    se: float


@dataclass(frozen=True)
class NestedScore:
    """Scores on held-out folds of the run, per metric (`log_loss`, `auc`, `ams`).

    Attributes:
        nested: parameters that were chosen without the fold that scores them.
        final: the final parameters, which all events chose.
        start: the parameters of the configuration.
        optimism: final minus nested, paired on the same events.
        gain: nested minus start, paired.
        chosen: parameters that each nested study chose.
    """

    nested: dict[str, Measured]
    final: dict[str, Measured]
    start: dict[str, Measured]
    optimism: dict[str, Measured]
    gain: dict[str, Measured]
    chosen: list[dict[str, Any]]

    def better(self, metric: str) -> bool:
        """Whether parameters chosen without the fold that scores them beat those of the beginning."""
        gain = self.gain[metric].value
        return gain < 0 if metric == "log_loss" else gain > 0


@dataclass(frozen=True)
class TuneResult:
    """What a study comes to.

    Attributes:
        folder: where journals, fits and the configuration are.
        model: the model.
        label: its label.
        objective: what it was tuned for.
        data_digest: identity of the training events.
        events: their number.
        best: best trial of the final study.
        trials: all trials of the final study.
        importances: share of the objective's scatter per dimension.
        nested: scores on events that did not choose, or None.
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
        """Whether a trial was better than the first, which has the parameters of the beginning."""
        return self.best.number != self.trials[0].number

    @property
    def config_file(self) -> Path:
        """The configuration with the parameters."""
        return self.folder / "tuned.yaml"

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        out = asdict(self)
        return {**out, "folder": str(self.folder), "config": str(self.config_file)}


def nested_score(metrics: Mapping[str, RowMetrics], chosen: list[dict[str, Any]]) -> NestedScore:
    """Compare the three ways of choosing parameters; see `NestedScore`.

    Args:
        metrics: metrics of `nested`, `final` and `start` on the same events.
        chosen: parameters that each nested study chose.
    """
    nested, final, start = metrics["nested"], metrics["final"], metrics["start"]
    return NestedScore(
        _measured(nested), _measured(final), _measured(start), _paired(final, nested), _paired(nested, start), chosen
    )


def _measured(row: RowMetrics) -> dict[str, Measured]:
    return {
        "log_loss": Measured(row.log_loss.value, row.log_loss.se),
        "auc": Measured(row.auc.value, row.auc.se),
        "ams": Measured(row.ams_cv, row.ams_cv_se),
    }


def _paired(a: RowMetrics, b: RowMetrics) -> dict[str, Measured]:
    ams_se = paired_error(a.replicas, b.replicas)
    return {
        "log_loss": Measured(*paired_difference(a.log_loss, b.log_loss)),
        "auc": Measured(*paired_difference(a.auc, b.auc)),
        "ams": Measured(a.ams_cv - b.ams_cv, ams_se),
    }


def config_text(result: TuneResult, config: RunConfig, plan: Plan) -> str:
    """Return YAML for `higgsbench run`, with what the study found in comments at its head."""
    content = resolved_config(config, plan)
    content.pop("name", None)
    states = [record.state for record in result.trials]
    lines = [
        f"Parameters of {result.model} found by higgsbench tune {__version__} for {result.objective}.",
        f"Data {result.data_digest}, {result.events} training events.",
        f"{len(states)} trials: {states.count('complete')} complete, {states.count('pruned')} broken off, "
        f"{states.count('failed')} failed.",
        f"Best value on the events that chose it (optimistic): {result.best.value!r}.",
    ]
    if result.nested is None:
        lines.append("No nested score: nothing here says what the parameters are worth on other events.")
    else:
        own, gain = result.nested.nested[result.objective], result.nested.gain[result.objective]
        folds = len(result.nested.chosen)
        lines.append(f"Nested score on {folds} held-out folds: {own.value:.6g} +- {own.se:.2g}; against the parameters")
        lines.append(f"of the beginning {gain.value:+.3g} +- {gain.se:.2g} (paired, same events).")
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return "".join(f"# {' '.join(line.split())}\n" for line in lines) + text
