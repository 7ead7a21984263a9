"""Base of all sections of YAML files: known keys, shorthands, checked values and entries, and their JSON schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from higgsbench.config.document import parse_duration, parse_size
from higgsbench.errors import ConfigError, nearest_hint, repeated, shortened
from higgsbench.schema import MOST_CATEGORIES, is_number, parse_share


def problem(message: str, key: object = None) -> PydanticCustomError:
    """Make an error whose text is shown unchanged, including braces; `key` is the key at fault in the section."""
    return PydanticCustomError("higgsbench", "{message}", {"message": message, "key": key})


class Strict(BaseModel):
    """Base of all sections: frozen and strictly typed; the error for an unknown key suggests the nearest known one.

    The docstring of a field is its description in the JSON schema.

    Attributes:
        shorthand: key that a plain value stands for, by the value's type: `cut: max` means `cut: {rule: max}`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)
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

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema of the section, or of its shorthand value."""
        section = handler.resolve_ref_schema(handler(schema))
        short = [section["properties"][key] for key in cls.shorthand.values()]
        nothing = [] if section.get("required") else [{"type": "null"}]
        return {"anyOf": [*short, section, *nothing]} if short or nothing else section


Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def is_finite(value: Any) -> bool:
    """Whether all numbers in a plain value are finite: NaN and infinity have no JSON form, which identifies a fit."""
    if isinstance(value, (dict, list)):
        return all(is_finite(item) for item in (value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def choice(names: Iterable[str]) -> AfterValidator:
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


def listed(known: Callable[[], Iterable[str]]) -> Any:
    """Return the annotation that lists names in the JSON schema; making a schema looks them up."""
    return Field(json_schema_extra=lambda schema: schema.update(enum=list(known())))


_AMOUNT = WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\s*\d"})
MemorySize = Annotated[str, _written(parse_size), _AMOUNT]
Duration = Annotated[str, _written(parse_duration), _AMOUNT]


def _label_cell(value: Any) -> Any:
    """Refuse booleans (YAML reads words such as `true` as booleans) and everything else that cannot be a cell."""
    if isinstance(value, bool):
        text = str(value).lower()
        raise problem(f"YAML reads {text} as a boolean; put the label in quotes, as in the file, e.g. {text!r}")
    if not isinstance(value, (str, int, float)):
        raise problem(f"expected text or a number, got {shortened(value)!r}")
    return value


def _missing_value(value: Any) -> Any:
    """Read `nan` as the number; refuse text other than `empty`."""
    if isinstance(value, str) and value.lower() == "nan":
        return float("nan")
    if isinstance(value, (str, bool)) and value != "empty":
        raise problem(f"expected a number, .nan or empty (empty cells), got {shortened(value)!r}")
    return value


def label_text(value: str | int | float) -> str:
    """Return a label as it appears in the file."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def check_labels(signal: str | int | float, background: str | int | float | None) -> None:
    """Refuse labels of signal and background that cannot be distinguished."""
    if background is None:
        return
    labels = {"signal": label_text(signal), "background": label_text(background)}
    kinds = {key: "a number" if is_number(text) else "text" for key, text in labels.items()}
    if labels["signal"] == labels["background"]:
        raise problem(f"`signal` and `background` are the same label {labels['signal']!r}")
    if kinds["signal"] != kinds["background"]:
        said = (f"{key} {shortened(text)!r} is {kinds[key]}" for key, text in labels.items())
        raise problem(f"{' and '.join(said)}; write both labels as they appear in the file")


Label = Annotated[str | int | float, PlainValidator(_label_cell), WithJsonSchema({"type": ["string", "number"]})]
Missing = Annotated[
    float | Literal["empty"] | None,
    BeforeValidator(_missing_value),
    WithJsonSchema({"anyOf": [{"type": ["number", "null"]}, {"enum": ["empty", "nan", "NaN"]}]}),
]
_COLUMNS = {"type": "array", "items": {"type": "string"}}
_VALUES = {"type": "object", "additionalProperties": {"type": "array", "items": {"type": ["string", "number"]}}}
_CategoricalForms = WithJsonSchema({"anyOf": [_COLUMNS, _VALUES, {"type": "null"}]})


def _categorical(value: Any) -> Any:
    """Turn names of columns into a mapping; the training events give the values later."""
    if value == []:
        return None
    names = value if isinstance(value, list) else []
    if (twice := repeated(names)) is not None:
        raise problem(f"column {shortened(twice)!r} is named twice")
    return {name: [] for name in names} if names and all(isinstance(name, str) for name in names) else value


def _checked_values(value: dict[str, list[str | int | float]] | None) -> dict[str, list[str | int | float]] | None:
    for name, values in (value or {}).items():
        words = [label_text(item) for item in values]
        if len(set(words)) < len(words) or len(words) > MOST_CATEGORIES:
            raise problem(f"expected at most {MOST_CATEGORIES} different values", name)
    return value


Categorical = Annotated[
    dict[str, list[Label]] | None, BeforeValidator(_categorical), AfterValidator(_checked_values), _CategoricalForms
]
NegativeWeights = Literal["drop", "absolute", "zero", "resample"]


def several(value: Any) -> Any:
    """Make a list of text that stands for a list of one entry."""
    return [value] if isinstance(value, str) else value


class OrText:
    """Annotation of a list that may be written as its only entry, or of a number with a percent sign."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema of both forms."""
        return {"anyOf": [{"type": "string"}, handler(schema)]}


Texts = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(several), Field(min_length=1), OrText()]


class FeatureEntry(Strict):
    """The name of a column or of any set's feature; or a new feature, defined by an SQL expression over columns."""

    shorthand: ClassVar[Mapping[type, str]] = {str: "name"}
    name: str
    """Column, feature of any set, or name of a new feature."""
    expr: str | None = None
    """SQL expression over columns that defines a new feature."""

    @property
    def choice(self) -> str | tuple[str, str]:
        """The entry in the form that `resolve_features` takes."""
        return self.name if self.expr is None else (self.name, self.expr)


def _percentage(value: Any) -> Any:
    """Turn 3% into 0.03; anything else stays as it is."""
    with suppress(ValueError):
        return parse_share(value) if isinstance(value, str) and value.endswith("%") else value
    return value


_Relative = Annotated[float, BeforeValidator(_percentage), Field(allow_inf_nan=False), OrText()]


class ShiftConfig(Strict):
    """Systematic shifts of simulated events; see `higgsbench.events.shifts.Shifts` for the meaning of each."""

    tes: _Relative = 0.0
    """Tau energy scale, relative change: 0.03 or 3%."""
    jes: _Relative = 0.0
    """Jet energy scale, relative change."""
    soft_met: Number = 0.0
    """Soft missing momentum to add, GeV per axis."""
    bkg_scale: Positive = 1.0
    """Factor on the weights of all backgrounds."""
    z_scale: Positive = 1.0
    """Factor on the weights of Z -> tau tau."""
    w_scale: Positive = 1.0
    """Factor on the weights of W + jets."""
    ttbar_scale: Positive = 1.0
    """Factor on the weights of top pairs."""
    ggf_scale: Positive = 1.0
    """Factor on the weights of gluon fusion."""
    vbf_scale: Positive = 1.0
    """Factor on the weights of vector-boson fusion."""
    vh_scale: Positive = 1.0
    """Factor on the weights of associated production."""


def shift_size(name: str, text: str) -> float | None:
    """Read the size of a shift, a number or, unless it is in GeV, a percentage; None if it is neither.

    Example:
        >>> shift_size("tes", "3%"), shift_size("soft_met", "2.5"), shift_size("soft_met", "3%")
        (0.03, 2.5, None)
    """
    try:
        return float(text) if name == "soft_met" else parse_share(text)
    except ValueError:
        return None


class _Simulation(Strict):
    shorthand: ClassVar[Mapping[type, str]] = {str: "source"}
    events: Annotated[int, Field(ge=1_000, le=10_000_000)] = 400_000
    """Number of simulated events."""
    elsewhere: Literal["error", "skip", "use"] = "error"
    """On simulated events or another layout: stop, train without the key, or (simulated events only) use it."""


class SimulatedEvents(_Simulation):
    """Events of the built-in simulation that a model is trained on first."""

    source: Literal["simulated"]
    """The built-in simulation of the challenge."""


class TrainedOn(_Simulation):
    """Simulated events that a model is trained on, alone or together with those of the run."""

    source: Literal["simulated", "simulated+real"]
    """Events of the built-in simulation only, or reweighted ones together with those of the run."""


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: editors show the key and its description."""
        return False


def json_schema(kind: type[Strict]) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of files that hold a section, with the names that are registered now."""
    return {"$schema": _Untitled.schema_dialect, **kind.model_json_schema(schema_generator=_Untitled)}
