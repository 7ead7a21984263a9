"""What all sections of the configuration share: strictness, error texts, number types."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from higgsbench.errors import nearest_hint, shortened

__all__ = ["AnyNumber", "NotNegative", "Number", "Positive", "Strict", "problem"]


def problem(message: str, key: object = None) -> PydanticCustomError:
    """Make an error whose text is shown as it is, braces and all; `key` is the key at fault inside the section."""
    return PydanticCustomError("higgsbench", "{message}", {"message": message, "key": key})


def _whole_number_too(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Strict(BaseModel):
    """Base of all sections: frozen, strictly typed, unknown keys refused with the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if value is None:
            return {}
        if isinstance(value, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in value:
                if key not in known:
                    hint = nearest_hint(str(key), known, f" (known keys: {', '.join(known)})")
                    raise problem(f"unknown key {shortened(key)!r}{hint}", key)
        return value


AnyNumber = Annotated[float, BeforeValidator(_whole_number_too)]
Number = Annotated[float, BeforeValidator(_whole_number_too), Field(allow_inf_nan=False)]
Positive = Annotated[float, BeforeValidator(_whole_number_too), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(_whole_number_too), Field(ge=0, allow_inf_nan=False)]
