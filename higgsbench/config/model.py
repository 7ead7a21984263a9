"""The run configuration as validated sections; an unknown key is an error that suggests the nearest known one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from higgsbench.config.regions import StatisticalModel
from higgsbench.config.samples import SampleKeys, SchemaConfig
from higgsbench.config.section import (
    FeatureEntry,
    MemorySize,
    NotNegative,
    Positive,
    ShiftConfig,
    SimulatedEvents,
    Strict,
    TrainedOn,
    choice,
    is_finite,
    listed,
    problem,
)
from higgsbench.config.training import Augmentation, Decorrelation, TrainingEvents, TrainingWeights
from higgsbench.ensemble.blend import BLEND_METHODS
from higgsbench.ensemble.cut import CUT_RULES
from higgsbench.errors import ConfigError, repeated, shortened
from higgsbench.events.samples import recognised
from higgsbench.schema import ATLAS_HIGGS, B_REG, SCHEMAS, TableSchema


def _kind_of_schema(value: object) -> str:
    """A layout is a name or a mapping; report only the errors of the form that was used."""
    return "name" if isinstance(value, str) else "own"


class DataConfig(SampleKeys):
    """Which events the run uses."""

    source: Literal["file", "simulated", "opendata"] = "file"
    """A file, events of the built-in toy simulation, or the downloaded CERN Open Data file."""
    path: str | None = None
    """Event file to train on: CSV, gzipped CSV, Parquet or ROOT."""
    test: str | None = None
    """Separate file of held-out events; otherwise the sets named by `test_sets` of the same file."""
    train_sets: list[str] | None = None
    """KaggleSets to train on; t by default."""
    test_sets: list[str] | None = None
    """KaggleSets held out for a test; b and v by default."""
    n_s: Positive | None = None
    """Expected signal events at which results are evaluated."""
    n_b: Positive | None = None
    """Expected background events at which results are evaluated."""
    layout: Annotated[
        Annotated[
            Annotated[str, choice(SCHEMAS), listed(lambda: SCHEMAS), Tag("name")] | Annotated[SchemaConfig, Tag("own")],
            Discriminator(_kind_of_schema),
        ]
        | None,
        Field(alias="schema"),
    ] = None
    """Layout of the file: a built-in name, or what its columns mean; by default it is recognised by its columns."""
    events: Annotated[int, Field(ge=1)] | None = None
    """Number of simulated events."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Seed of the simulated events."""
    mix: dict[str, NotNegative] = Field(default_factory=dict)
    """Factors on the share of a simulated process in its class, by process."""
    higgs_mass: Positive | None = None
    """Mass of the simulated Higgs boson, GeV."""
    luminosity: Positive | None = None
    """Factor on all expected events of the simulation."""
    set_proportions: dict[str, NotNegative] = Field(default_factory=dict)
    """Relative sizes of the simulated KaggleSets."""
    shifts: ShiftConfig | None = None
    """Systematic shifts of the simulated events."""

    def table_schema(self, by: str | None = None) -> TableSchema:
        """Return the layout of the events; if none is given, the layout that matches the file's columns.

        Args:
            by: expression of the folds; samples compute it from columns of their files.
        """
        if self.samples is not None:
            return replace(self.sample_layout(by), n_s=self.n_s, n_b=self.n_b)
        if self.layout is None:
            known = self.path is not None and Path(self.path).expanduser().is_file()
            return recognised(str(self.path)) if known else ATLAS_HIGGS
        return SCHEMAS[self.layout] if isinstance(self.layout, str) else self.layout.table_schema()

    def with_values(self, schema: TableSchema) -> DataConfig:
        """Return the section with the values of categories, features and files that were found in the events."""
        if self.samples is not None:
            return self.model_copy(update=self.found_in(schema))
        if not isinstance(self.layout, SchemaConfig) or not schema.categories:
            return self
        known = {name: list(values) for name, values in schema.categories.items()}
        return self.model_copy(update={"layout": self.layout.model_copy(update={"categorical": known})})

    @property
    def negative_weights(self) -> str | None:
        """How training treats events with negative weights; None if the layout does not allow them."""
        if self.samples is not None:
            return self.policy
        return self.layout.negative_weights if isinstance(self.layout, SchemaConfig) else None

    def layout_keys(self) -> set[str]:
        """Return the names of the fields that define the layout."""
        return {"layout"} if self.samples is None else set(SampleKeys.model_fields)

    @field_validator("mix", "higgs_mass", "set_proportions", "shifts")
    @classmethod
    def _known_to_the_simulation(cls, value: Any, info: ValidationInfo) -> Any:
        if value:
            from higgsbench.events.shifts import Shifts
            from higgsbench.events.simulate import SimulationSettings

            given: dict[str, Any] = {str(info.field_name): value}
            try:
                if isinstance(value, ShiftConfig):
                    given["shifts"] = Shifts(**value.model_dump())
                SimulationSettings(1_000, **given)
            except ConfigError as error:
                raise problem(shortened(error, 300)) from error
        return value

    @model_validator(mode="after")
    def _fitting_the_source(self) -> DataConfig:
        for key in ("path", "test"):
            if getattr(self, key) == "":
                raise problem("the file name is empty", key)
        for key in ("events", "seed", "mix", "higgs_mass", "luminosity", "set_proportions", "shifts"):
            if getattr(self, key) not in (None, {}) and self.source != "simulated":
                raise problem(f"`{key}` belongs to `source: simulated`, but the source is {self.source}", key)
        if self.source != "file" and self.path is not None:
            raise problem(f"`path` belongs to `source: file`, but the source is {self.source}", "path")
        if self.source != "file" and self.layout not in (None, ATLAS_HIGGS.name):
            raise problem(f"`schema` belongs to `source: file`, but the source is {self.source}", "schema")
        others = {key: getattr(self, key) for key in ("path", "train_sets", "test_sets")}
        others |= {"source": self.source != "file" or None, "schema": self.layout}
        for key, given in others.items():
            if self.samples is not None and given is not None:
                raise problem(f"`{key}` cannot be combined with `samples`; remove one of them", key)
        return self


def _model_schema(schema: dict[str, Any]) -> None:
    """Describe the name of a model in the JSON schema."""
    from higgsbench.models import model_names

    schema["anyOf"] = [{"enum": list(model_names())}, {"pattern": r"\.py:[A-Za-z]\w*$"}]


def _feature_sets() -> Iterable[str]:
    from higgsbench.features import feature_sets

    return [known.name for known in feature_sets()]


JetSplit = Literal["none", "groups", "both"]
Calibration = Literal["auto", "prior", "logit"]
Preset = Literal["quick", "good", "best"]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]{0,59}")
RESERVED_LABELS = frozenset({"stack"})


class FeatureConfig(Strict):
    """The models' features: a named set minus `drop` plus `add`, or exactly `columns`."""

    shorthand: ClassVar[Mapping[type, str]] = {str: "set", list: "columns"}
    set: Annotated[str, listed(_feature_sets)] = "raw"
    """Named set; `higgsbench features` lists them."""
    columns: list[FeatureEntry] | None = None
    """Exactly these features, instead of a set."""
    add: list[FeatureEntry] = Field(default_factory=list)
    """Features added to the set."""
    drop: list[str] = Field(default_factory=list)
    """Features taken out of the set."""


class ModelConfig(Strict):
    """One model of the run; missing keys come from the run, and then from the preset."""

    shorthand: ClassVar[Mapping[type, str]] = {str: "model"}
    model: Annotated[str, Field(json_schema_extra=_model_schema)]
    """Registered model (`higgsbench models` lists them), or `my.py:NAME` for one in a file given by `--import`."""
    label: str | None = None
    """Name in tables; required if a model appears twice."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters that replace those of the preset."""
    preset: Preset | None = None
    """Effort of this model."""
    jet_split: JetSplit | None = None
    """As the run's key, for this model."""
    training_weights: TrainingWeights | None = None
    """As the run's key, for this model."""
    calibration: Calibration | None = None
    """As the run's key, for this model."""
    features: FeatureConfig | None = None
    """As the run's key, for this model."""
    decorrelate: Decorrelation | None = None
    """Train the networks of `torch_mlp` with a penalty on scores that depend on a column."""
    training: Augmentation | None = None
    """Also train on copies of the events with shifted energies."""
    training_events: TrainingEvents | None = None
    """Train on this number of events instead of all; such a model is cross-validated only, without a test."""
    pretrain: SimulatedEvents | None = None
    """Train on simulated events first, then on those of the run."""
    trained_on: TrainedOn | None = None
    """Train on simulated events only (those of the run then calibrate the scores), or on both."""

    @field_validator("label")
    @classmethod
    def _plain_label(cls, value: str | None) -> str | None:
        if value is not None and (not _LABEL.fullmatch(value) or value in RESERVED_LABELS):
            raise problem(
                f"label {shortened(value)!r}: use 1 to 60 letters, digits, spaces or _.+-, start with a letter or "
                f"digit, and avoid the reserved names {', '.join(sorted(RESERVED_LABELS))}"
            )
        return value

    @field_validator("params")
    @classmethod
    def _finite(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, given in value.items():
            if not is_finite(given):
                raise problem(f"expected a finite value, got {shortened(given)!r}", key)
        return value

    @model_validator(mode="after")
    def _one_use_of_the_simulation(self) -> ModelConfig:
        if self.pretrain is not None and self.trained_on is not None:
            raise problem("`pretrain` and `trained_on` exclude each other; remove one of them", "trained_on")
        return self

    @property
    def row_label(self) -> str:
        """Name of the model in tables."""
        return self.label or self.model.rpartition(":")[2]


class StackConfig(Strict):
    """How stored out-of-fold scores are blended."""

    shorthand: ClassVar[Mapping[type, str]] = {bool: "enabled", str: "method"}
    enabled: bool = True
    """Whether there is a stack."""
    method: Annotated[str, choice(BLEND_METHODS), listed(lambda: BLEND_METHODS)] = "nonnegative"
    """How the scores are blended."""
    members: list[str] | None = None
    """Labels or names of the rows that are blended; all by default."""


class CutConfig(Strict):
    """How the one cut is chosen."""

    shorthand: ClassVar[Mapping[type, str]] = {str: "rule"}
    rule: Annotated[str, choice(CUT_RULES), listed(lambda: CUT_RULES)] = "smooth"
    """The maximum of the AMS curve, of the smoothed curve, or of its lower bound."""
    b_reg: NotNegative = B_REG
    """Regularisation term of the AMS, in expected background events."""


class FoldRule(Strict):
    """Folds from an expression of one event, such as `event_number % 5`: each of its `k` values is a fold."""

    k: Annotated[int, Field(ge=2, le=100)] | None = None
    """Number of folds; if given, the expression must have this many values."""
    by: str
    """Expression over the features and the event number, with one whole value for each fold."""


def _kind_of_folds(value: object) -> str:
    return "rule" if isinstance(value, (Mapping, FoldRule)) else "number"


def _kind_of_seed(value: object) -> str:
    return "list" if isinstance(value, list) else "one"


_Seed = Annotated[int, Field(ge=0, lt=2**31 - 100_000)]


class TrainingKeys(Strict):
    """Keys that determine the scores of a run."""

    name: str | None = None
    """Start of the name of the run's folder; by default the name of the file."""
    data: DataConfig = DataConfig()
    """Which events the run uses."""
    models: Annotated[list[ModelConfig], Field(min_length=1)]
    """Models to train, each as a name or with its own keys."""
    datasets: dict[str, DataConfig] | None = None
    """For `higgsbench suite`: data sets by name, each with the keys of `data`, instead of `data`."""
    preset: Preset = "good"
    """Effort: parameters of each model that the configuration does not set."""
    features: FeatureConfig | None = None
    """Features of the models; by default the feature set of the preset."""
    folds: Annotated[
        Annotated[int, Field(ge=2, le=100), Tag("number")] | Annotated[FoldRule, Tag("rule")],
        Discriminator(_kind_of_folds),
    ] = 5
    """Number of cross-validation folds, or the rule that makes them."""
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """How often cross-validation is repeated with other folds."""
    seed: Annotated[
        Annotated[_Seed, Tag("one")] | Annotated[list[_Seed], Field(min_length=1), Tag("list")],
        Discriminator(_kind_of_seed),
    ] = 42
    """Seed of folds and models, or a list of seeds: one repeat of the cross-validation for each."""
    training_weights: TrainingWeights | None = None
    """Training weights: equal class totals, their square roots, the events' own, none, or flat in a column."""
    jet_split: JetSplit = "none"
    """One model for all events, one per jet group, or a row for each of these."""
    jet_groups: Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)] | None = None
    """Lists of jet numbers; each list has its own submodel. A list without events of both classes joins the next."""
    calibration: Calibration = "auto"
    """How scores become log-odds in physical normalisation: by class priors, by a fit, or as the weights require."""
    stack: StackConfig = StackConfig()
    """The blend of all rows."""
    cut: CutConfig = CutConfig()
    """How the cut on the score is chosen."""
    test_prediction: Literal["fold_mean", "refit"] = "fold_mean"
    """Score held-out events by the mean of the folds' models, or by a model trained on all events."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads of each fit."""
    store_models: bool = True
    """Whether fitted models are kept, to score new events later."""
    memory_limit: MemorySize | None = None
    """Memory for all processes together, e.g. 8GB."""
    device: Literal["cpu", "cuda"] | None = None
    """Device on which to train models that can use it."""

    @property
    def folds_by(self) -> str | None:
        """The expression that defines the folds; None if the identity of the events does."""
        return self.folds.by if isinstance(self.folds, FoldRule) else None

    @property
    def seeds(self) -> tuple[tuple[int, int], ...]:
        """Seeds of the folds and of the models, repeat by repeat."""
        if isinstance(self.seed, list):
            return tuple((seed, seed) for seed in self.seed)
        return tuple((self.seed + repeat, self.seed + 1000 * repeat) for repeat in range(self.repeats))

    @field_validator("seed")
    @classmethod
    def _different(cls, value: int | list[int]) -> int | list[int]:
        if isinstance(value, int):
            return value
        if (twice := repeated(value)) is not None:
            raise problem(f"seed {twice} is in the list twice")
        return value if len(value) > 1 else value[0]

    @model_validator(mode="after")
    def _without_contradiction(self) -> TrainingKeys:
        if isinstance(self.seed, list) and self.repeats > 1:
            raise problem("each of several seeds is a repeat; leave out `repeats`", "repeats")
        if isinstance(self.folds, FoldRule) and self.repeats > 1:
            raise problem("`folds.by` makes the same folds each time; leave out `repeats`", "repeats")
        if self.datasets is not None and "data" in self.model_fields_set:
            raise problem("`data` cannot be combined with `datasets`; remove one of them", "data")
        return self

    @field_validator("name", "datasets")
    @classmethod
    def _folder_names(cls, value: Any) -> Any:
        if value == {}:
            raise problem("name at least one data set")
        for name in value if isinstance(value, dict) else [value] if value is not None else []:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", name):
                raise problem(f"name {shortened(name)!r}: use 1 to 60 letters, digits or _.- (it becomes a folder)")
        return value

    @field_validator("jet_groups")
    @classmethod
    def _disjoint(cls, value: list[list[int]] | None) -> list[list[int]] | None:
        numbers = [number for members in value or [] for number in members]
        if (twice := repeated(numbers)) is not None:
            raise problem(f"jet number {twice} is in two groups")
        return value


class RunConfig(StatisticalModel, TrainingKeys):
    """The configuration of a whole run."""

    spectators: Annotated[list[FeatureEntry], Field(min_length=1)] | None = None
    """Columns on which scores and cuts should not depend; runs measure how much they do. Models may use them."""

    @field_validator("spectators")
    @classmethod
    def _once(cls, value: list[FeatureEntry] | None) -> list[FeatureEntry] | None:
        if (twice := repeated([entry.name for entry in value or []])) is not None:
            raise problem(f"column {shortened(twice)!r} is named twice")
        return value
