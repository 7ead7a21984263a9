"""The run configuration as validated objects. Every key has its meaning beside it; unknown keys are refused."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from higgsbench.config.base import NotNegative, Strict, problem
from higgsbench.config.data import DataConfig
from higgsbench.config.sizes import MemorySize
from higgsbench.errors import shortened
from higgsbench.schema import B_REG

__all__ = ["CutConfig", "DataConfig", "FeatureConfig", "ModelConfig", "RunConfig", "StackConfig"]

JetSplit = Literal["none", "groups", "both"]
TrainingWeights = Literal["balanced", "sqrt_balanced", "physical", "none"]
Calibration = Literal["auto", "prior", "logit"]
Preset = Literal["quick", "good", "best"]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]{0,59}")
RESERVED_LABELS = frozenset({"stack"})


class FeatureEntry(Strict):
    """A column of the layout or feature of any set, by name; or a new feature by an SQL expression over columns."""

    name: str
    expr: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def choice(self) -> str | tuple[str, str]:
        """The entry as `resolve_features` takes it."""
        return self.name if self.expr is None else (self.name, self.expr)


class FeatureConfig(Strict):
    """What the models see: a named set, less `drop`, plus `add`; or exactly `columns`."""

    set: str = "raw"
    columns: list[FeatureEntry] | None = None
    add: list[FeatureEntry] = Field(default_factory=list)
    drop: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"set": value}
        if isinstance(value, list):
            return {"columns": value}
        return value


def _is_finite(value: Any) -> bool:
    """Whether no number in a plain value is NaN or infinite: such a value has no JSON, which names the fits."""
    if isinstance(value, (dict, list)):
        return all(_is_finite(item) for item in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


class ModelConfig(Strict):
    """One model of the run; what is not given comes from the run, what is not given there from the preset."""

    model: str
    label: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    preset: Preset | None = None
    jet_split: JetSplit | None = None
    training_weights: TrainingWeights | None = None
    calibration: Calibration | None = None
    features: FeatureConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @field_validator("label")
    @classmethod
    def _plain_label(cls, value: str | None) -> str | None:
        if value is not None and (not _LABEL.fullmatch(value) or value in RESERVED_LABELS):
            raise problem(
                f"label {shortened(value)!r}: use 1 to 60 letters, digits, blanks or _.+-, beginning with a letter or "
                f"digit, and not {', '.join(sorted(RESERVED_LABELS))}"
            )
        return value

    @field_validator("params")
    @classmethod
    def _finite(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, given in value.items():
            if not _is_finite(given):
                raise problem(f"expected a finite value, it is {shortened(given)!r}", key)
        return value

    @property
    def row_label(self) -> str:
        """Name of the model in tables."""
        return self.label or self.model


class StackConfig(Strict):
    """How stored out-of-fold scores are blended."""

    enabled: bool = True
    method: Literal["mean", "nonnegative", "greedy", "logistic"] = "nonnegative"
    members: list[str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"enabled": value} if isinstance(value, bool) else {"method": value} if isinstance(value, str) else value


class CutConfig(Strict):
    """How the one cut is chosen."""

    rule: Literal["max", "smooth", "lower"] = "smooth"
    b_reg: NotNegative = B_REG

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"rule": value} if isinstance(value, str) else value


class RunConfig(Strict):
    """A whole run."""

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
            raise problem(f"name {shortened(value)!r}: use 1 to 60 letters, digits or _.- ; the name becomes a folder")
        return value

    @field_validator("jet_groups")
    @classmethod
    def _disjoint(cls, value: list[list[int]] | None) -> list[list[int]] | None:
        seen: set[int] = set()
        for members in value or []:
            for number in members:
                if number in seen:
                    raise problem(f"jet number {number} stands in two groups")
                seen.add(number)
        return value
