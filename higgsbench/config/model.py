"""The run configuration as validated objects. Every key has its meaning beside it; unknown keys are refused."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from higgsbench.schema import B_REG

__all__ = ["CutConfig", "DataConfig", "FeatureConfig", "ModelConfig", "RunConfig", "StackConfig"]

JetSplit = Literal["none", "groups", "both"]
TrainingWeights = Literal["balanced", "sqrt_balanced", "physical", "none"]
Calibration = Literal["auto", "prior", "logit"]
Preset = Literal["quick", "good", "best"]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]{0,59}")
RESERVED_LABELS = frozenset({"stack"})


def problem(message: str, key: object = None) -> PydanticCustomError:
    """Make an error whose text is shown as it is, braces and all; `key` is the key at fault inside the section."""
    return PydanticCustomError("higgsbench", "{message}", {"message": message, "key": key})


class _Strict(BaseModel):
    """Base of all sections: frozen, strictly typed, unknown keys refused with the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if value is None:
            return {}
        if isinstance(value, dict):
            for key in value:
                if key not in cls.model_fields:
                    close = difflib.get_close_matches(str(key), cls.model_fields, n=1)
                    hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(cls.model_fields)}"
                    raise problem(f"unknown key {key!r} ({hint})", key)
        return value


class DataConfig(_Strict):
    """Which events."""

    source: Literal["file", "simulated", "opendata"] = "file"
    path: str | None = None
    test: str | None = None
    train_sets: list[str] | None = None
    test_sets: list[str] | None = None
    n_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    n_b: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @field_validator("n_s", "n_b", mode="before")
    @classmethod
    def _whole_numbers_too(cls, value: Any) -> Any:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class FeatureConfig(_Strict):
    """Which columns the models see: a named set, less `drop`, plus `add`; or exactly `columns`."""

    set: str = "raw"
    columns: list[str] | None = None
    add: list[str] = []
    drop: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"set": value}
        if isinstance(value, list):
            return {"columns": value}
        return value


class ModelConfig(_Strict):
    """One model of the run; what is not given comes from the run."""

    model: str
    label: str | None = None
    params: dict[str, Any] = {}
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
                f"label {value!r}: use 1 to 60 letters, digits, blanks or _.+-, beginning with a letter or digit, and "
                f"not {', '.join(sorted(RESERVED_LABELS))}"
            )
        return value

    @property
    def row_label(self) -> str:
        """Name of the model in tables."""
        return self.label or self.model


class StackConfig(_Strict):
    """How stored out-of-fold scores are blended."""

    enabled: bool = True
    method: Literal["mean", "nonnegative", "greedy", "logistic"] = "nonnegative"
    members: list[str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"enabled": value} if isinstance(value, bool) else {"method": value} if isinstance(value, str) else value


class CutConfig(_Strict):
    """How the one cut is chosen."""

    rule: Literal["max", "smooth", "lower"] = "smooth"
    b_reg: Annotated[float, Field(ge=0, allow_inf_nan=False)] = B_REG

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"rule": value} if isinstance(value, str) else value

    @field_validator("b_reg", mode="before")
    @classmethod
    def _whole_numbers_too(cls, value: Any) -> Any:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class RunConfig(_Strict):
    """A whole run."""

    name: str | None = None
    data: DataConfig = DataConfig()
    models: Annotated[list[ModelConfig], Field(min_length=1)]
    preset: Preset = "good"
    features: FeatureConfig = FeatureConfig()
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31 - 100_000)] = 42
    training_weights: TrainingWeights = "balanced"
    jet_split: JetSplit = "none"
    jet_groups: list[Annotated[list[int], Field(min_length=1)]] | None = None
    calibration: Calibration = "auto"
    stack: StackConfig = StackConfig()
    cut: CutConfig = CutConfig()
    test_prediction: Literal["fold_mean", "refit"] = "fold_mean"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1

    @field_validator("name")
    @classmethod
    def _folder_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", value):
            raise problem(f"name {value!r}: use 1 to 60 letters, digits or _.- ; the name becomes a folder")
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
