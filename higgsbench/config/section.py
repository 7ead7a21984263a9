"""Base of all sections of YAML files: known keys, shorthands, checked values, and their JSON schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from higgsbench.config.document import parse_duration, parse_size
from higgsbench.errors import ConfigError, nearest_hint, shortened


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


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: editors show the key and its description."""
        return False


def json_schema(kind: type[Strict]) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of files that hold a section, with the names that are registered now."""
    return {"$schema": _Untitled.schema_dialect, **kind.model_json_schema(schema_generator=_Untitled)}
