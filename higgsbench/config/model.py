"""The run configuration as validated sections; an unknown key is an error that suggests the nearest known one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from higgsbench.config.document import parse_duration, parse_size
from higgsbench.ensemble import BLEND_METHODS, CUT_RULES
from higgsbench.errors import ConfigError, nearest_hint, shortened
from higgsbench.schema import B_REG, SCHEMAS, TableSchema, is_number


def problem(message: str, key: object = None) -> PydanticCustomError:
    """Make an error whose text is shown as it is, braces and all; `key` is the key at fault inside the section."""
    return PydanticCustomError("higgsbench", "{message}", {"message": message, "key": key})


class Strict(BaseModel):
    """Base of all sections: frozen and strictly typed; the error for an unknown key suggests the nearest known one.

    Attributes:
        shorthand: key that a plain value stands for, by the value's type: `cut: max` means `cut: {rule: max}`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    shorthand: ClassVar[Mapping[type, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if value is None:
            return {}
        if type(value) in cls.shorthand:
            return {cls.shorthand[type(value)]: value}
        if isinstance(value, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in value:
                if key not in known:
                    hint = nearest_hint(str(key), known, f" (known keys: {', '.join(known)})")
                    raise problem(f"unknown key {shortened(key)!r}{hint}", key)
        return value


Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _choice(names: Iterable[str]) -> AfterValidator:
    """Return a validator that accepts only some names and suggests the nearest one."""

    def check(value: str) -> str:
        known = list(names)
        if value not in known:
            words = f"{', '.join(map(repr, known[:-1]))} or {known[-1]!r}"
            raise problem(f"expected {words}, got {shortened(value)!r}{nearest_hint(value, known)}")
        return value

    return AfterValidator(check)


def _written(parse: Callable[[str], float]) -> BeforeValidator:
    """Return a validator for a number with a unit; the value is kept as written."""

    def check(value: Any) -> Any:
        text = str(value) if type(value) is int else value
        if isinstance(text, str):
            try:
                parse(text)
            except ConfigError as error:
                raise problem(str(error)) from error
        return text

    return BeforeValidator(check)


MemorySize = Annotated[str, _written(parse_size)]
Duration = Annotated[str, _written(parse_duration)]


def _label(value: Any) -> Any:
    """Refuse booleans (YAML reads words such as `true` as booleans) and everything else that cannot be a cell."""
    if isinstance(value, bool):
        text = str(value).lower()
        raise problem(f"YAML reads {text} as a boolean; put the label in quotes, as in the file, e.g. {text!r}")
    if not isinstance(value, (str, int, float)):
        raise problem(f"expected text or a number, got {shortened(value)!r}")
    return value


def _missing(value: Any) -> Any:
    if isinstance(value, str) and value.lower() == "nan":
        return float("nan")
    if isinstance(value, (str, bool)) and value != "empty":
        raise problem(f"expected a number, .nan or empty (empty cells), got {shortened(value)!r}")
    return value


Label = Annotated[str | int | float, PlainValidator(_label)]


class SchemaConfig(Strict):
    """The user's own table of signal and background events: what each column means."""

    name: Annotated[str, Field(min_length=1, max_length=60)] = "custom"
    features: Annotated[list[str], Field(min_length=1)]
    label: str
    signal: Label = 1
    background: Label | None = None
    weight: str | None = None
    id: str | None = None
    group: str | None = None
    groups: list[Annotated[list[int], Field(min_length=1)]] | None = None
    missing: Annotated[float | Literal["empty"] | None, BeforeValidator(_missing)] = None
    header: bool = True
    columns: list[str] | None = None
    n_s: Positive | None = None
    n_b: Positive | None = None
    negative_weights: Literal["drop", "absolute", "zero"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SchemaConfig:
        special = {"label": self.label, "weight": self.weight, "id": self.id}
        for key, name in special.items():
            if name in self.features:
                raise problem(f"column {name!r} is the {key} and cannot be a feature")
        repeated = next((n for n in self.features if self.features.count(n) > 1), None)
        if repeated is not None:
            raise problem(f"feature {repeated!r} is named twice")
        if self.header == (self.columns is not None):
            raise problem("`columns` is for files without a header; use it only with `header: false`")
        needed = (*self.features, *special.values(), self.group)
        lost = [name for name in needed if name is not None and self.columns is not None and name not in self.columns]
        if lost:
            raise problem(f"column {lost[0]!r} is not in `columns`")
        if self.background is not None:
            labels = {"signal": _label_text(self.signal), "background": _label_text(self.background)}
            kinds = {key: "a number" if is_number(text) else "text" for key, text in labels.items()}
            if labels["signal"] == labels["background"]:
                raise problem(f"`signal` and `background` are the same label {labels['signal']!r}")
            if kinds["signal"] != kinds["background"]:
                said = (f"{key} {shortened(text)!r} is {kinds[key]}" for key, text in labels.items())
                raise problem(f"{' and '.join(said)}; write both labels as they appear in the file")
        if self.groups is not None and self.group is None:
            raise problem("`groups` needs a `group` column")
        if self.negative_weights is not None and self.weight is None:
            raise problem("`negative_weights` needs a `weight` column")
        return self

    def table_schema(self) -> TableSchema:
        """Return the layout."""
        same = {key: getattr(self, key) for key in ("name", "label", "weight", "group", "n_s", "n_b", "header")}
        return TableSchema(
            **same,
            features=tuple(self.features),
            signal=_label_text(self.signal),
            background=None if self.background is None else _label_text(self.background),
            event_id=self.id,
            groups=tuple(tuple(g) for g in self.groups or ()),
            missing=None if self.missing == "empty" else self.missing,
            negative_weights=self.negative_weights is not None,
            columns=tuple(self.columns or ()),
            ignore_unknown=True,
            empty_is_missing=self.missing == "empty",
        )


def _label_text(value: str | int | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class ShiftConfig(Strict):
    """Systematic shifts of simulated events; see `higgsbench.events.shifts.Shifts` for the meaning of each."""

    tes: Number = 0.0
    jes: Number = 0.0
    soft_met: Number = 0.0
    bkg_scale: Positive = 1.0
    z_scale: Positive = 1.0
    w_scale: Positive = 1.0
    ttbar_scale: Positive = 1.0
    ggf_scale: Positive = 1.0
    vbf_scale: Positive = 1.0
    vh_scale: Positive = 1.0


def _kind_of_schema(value: object) -> str:
    """A layout is a name or a mapping; report only the errors of the form that was used."""
    return "name" if isinstance(value, str) else "own"


class DataConfig(Strict):
    """Which events the run uses."""

    source: Literal["file", "simulated", "opendata"] = "file"
    path: str | None = None
    test: str | None = None
    train_sets: list[str] | None = None
    test_sets: list[str] | None = None
    n_s: Positive | None = None
    n_b: Positive | None = None
    layout: Annotated[
        Annotated[Literal["atlas-higgs-2014", "uci-higgs"], Tag("name")] | Annotated[SchemaConfig, Tag("own")],
        Discriminator(_kind_of_schema),
        Field(alias="schema"),
    ] = "atlas-higgs-2014"
    events: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    mix: dict[str, NotNegative] = Field(default_factory=dict)
    higgs_mass: Positive | None = None
    luminosity: Positive | None = None
    set_proportions: dict[str, NotNegative] = Field(default_factory=dict)
    shifts: ShiftConfig | None = None

    def table_schema(self) -> TableSchema:
        """Return the layout of the events."""
        return SCHEMAS[self.layout] if isinstance(self.layout, str) else self.layout.table_schema()

    @property
    def negative_weights(self) -> str | None:
        """How training treats events with negative weights; None if the layout does not allow them."""
        return None if isinstance(self.layout, str) else self.layout.negative_weights

    @field_validator("mix", "set_proportions")
    @classmethod
    def _known_to_the_simulation(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if value:
            from higgsbench.events.simulate import SimulationSettings

            try:
                SimulationSettings(1_000, **{str(info.field_name): value})  # type: ignore[arg-type]
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
        if self.source != "file" and self.layout != "atlas-higgs-2014":
            raise problem(f"`schema` belongs to `source: file`, but the source is {self.source}", "schema")
        return self


JetSplit = Literal["none", "groups", "both"]
TrainingWeights = Literal["balanced", "sqrt_balanced", "physical", "none"]
Calibration = Literal["auto", "prior", "logit"]
Preset = Literal["quick", "good", "best"]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]{0,59}")
RESERVED_LABELS = frozenset({"stack"})


class FeatureEntry(Strict):
    """The name of a column or of any set's feature; or a new feature, defined by an SQL expression over columns."""

    shorthand = {str: "name"}
    name: str
    expr: str | None = None

    @property
    def choice(self) -> str | tuple[str, str]:
        """The entry in the form that `resolve_features` takes."""
        return self.name if self.expr is None else (self.name, self.expr)


class FeatureConfig(Strict):
    """The models' features: a named set minus `drop` plus `add`, or exactly `columns`."""

    shorthand = {str: "set", list: "columns"}
    set: str = "raw"
    columns: list[FeatureEntry] | None = None
    add: list[FeatureEntry] = Field(default_factory=list)
    drop: list[str] = Field(default_factory=list)


def _is_finite(value: Any) -> bool:
    """Whether all numbers in a plain value are finite: NaN and infinity have no JSON form, which identifies a fit."""
    if isinstance(value, (dict, list)):
        return all(_is_finite(item) for item in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


class ModelConfig(Strict):
    """One model of the run; missing keys come from the run, and then from the preset."""

    shorthand = {str: "model"}
    model: str
    label: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    preset: Preset | None = None
    jet_split: JetSplit | None = None
    training_weights: TrainingWeights | None = None
    calibration: Calibration | None = None
    features: FeatureConfig | None = None

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
            if not _is_finite(given):
                raise problem(f"expected a finite value, got {shortened(given)!r}", key)
        return value

    @property
    def row_label(self) -> str:
        """Name of the model in tables."""
        return self.label or self.model


class StackConfig(Strict):
    """How stored out-of-fold scores are blended."""

    shorthand = {bool: "enabled", str: "method"}
    enabled: bool = True
    method: Annotated[str, _choice(BLEND_METHODS)] = "nonnegative"
    members: list[str] | None = None


class CutConfig(Strict):
    """How the one cut is chosen."""

    shorthand = {str: "rule"}
    rule: Annotated[str, _choice(CUT_RULES)] = "smooth"
    b_reg: NotNegative = B_REG


class RunConfig(Strict):
    """The configuration of a whole run."""

    name: str | None = None
    data: DataConfig = DataConfig()
    models: Annotated[list[ModelConfig], Field(min_length=1)]
    preset: Preset = "good"
    features: FeatureConfig | None = None
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31 - 100_000)] = 42
    training_weights: TrainingWeights | None = None
    jet_split: JetSplit = "none"
    jet_groups: Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)] | None = None
    calibration: Calibration = "auto"
    stack: StackConfig = StackConfig()
    cut: CutConfig = CutConfig()
    test_prediction: Literal["fold_mean", "refit"] = "fold_mean"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    store_models: bool = True
    memory_limit: MemorySize | None = None
    device: Literal["cpu", "cuda"] | None = None

    @field_validator("name")
    @classmethod
    def _folder_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", value):
            raise problem(f"name {shortened(value)!r}: use 1 to 60 letters, digits or _.- (the name becomes a folder)")
        return value

    @field_validator("jet_groups")
    @classmethod
    def _disjoint(cls, value: list[list[int]] | None) -> list[list[int]] | None:
        numbers = [number for members in value or [] for number in members]
        repeated = next((number for number in numbers if numbers.count(number) > 1), None)
        if repeated is not None:
            raise problem(f"jet number {repeated} is in two groups")
        return value
