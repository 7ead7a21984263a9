"""The `data` section: which events, and what their columns mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, ValidationInfo, field_validator, model_validator

from higgsbench.config.base import AnyNumber, NotNegative, Number, Positive, Strict, problem
from higgsbench.config.faults import said
from higgsbench.config.yaml_lines import read_yaml
from higgsbench.errors import ConfigError, shortened
from higgsbench.schema import ATLAS_HIGGS, SCHEMAS, TableSchema

__all__ = ["DataConfig", "SchemaConfig", "ShiftConfig", "named_schema"]

_ANY_NUMBER = 1_000
NegativeWeights = Literal["drop", "absolute", "zero"]


class SchemaConfig(Strict):
    """A binary event table of the user's own: which column means what."""

    name: Annotated[str, Field(min_length=1, max_length=60)] = "custom"
    features: Annotated[list[str], Field(min_length=1)]
    label: str
    signal: str | int | float = 1
    background: str | int | float | None = None
    weight: str | None = None
    id: str | None = None
    group: str | None = None
    groups: list[Annotated[list[int], Field(min_length=1)]] | None = None
    missing: AnyNumber | Literal["empty"] | None = None
    header: bool = True
    columns: list[str] | None = None
    n_s: Positive | None = None
    n_b: Positive | None = None
    negative_weights: NegativeWeights | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SchemaConfig:
        special = {"label": self.label, "weight": self.weight, "id": self.id}
        for key, name in special.items():
            if name is not None and name in self.features:
                raise problem(f"column {name!r} is the {key} and can never be a feature")
        repeated = next((n for n in self.features if self.features.count(n) > 1), None)
        if repeated is not None:
            raise problem(f"feature {repeated!r} is named twice")
        if self.header == (self.columns is not None):
            raise problem("`columns` names the columns of a file without a header: give it with `header: false` only")
        needed = [*self.features, *(n for n in (*special.values(), self.group) if n is not None)]
        lost = [n for n in needed if self.columns is not None and n not in self.columns]
        if lost:
            raise problem(f"column {lost[0]!r} does not stand in `columns`")
        if self.background is not None and _label_text(self.signal) == _label_text(self.background):
            raise problem(f"`signal` and `background` are the same label {_label_text(self.signal)!r}")
        if self.groups is not None and self.group is None:
            raise problem("`groups` needs a `group` column")
        if self.negative_weights is not None and self.weight is None:
            raise problem("`negative_weights` needs a `weight` column")
        return self

    def table_schema(self) -> TableSchema:
        """Return the layout."""
        return TableSchema(
            name=self.name,
            features=tuple(self.features),
            label=self.label,
            signal=_label_text(self.signal),
            background=None if self.background is None else _label_text(self.background),
            weight=self.weight,
            event_id=self.id,
            group=self.group,
            groups=tuple(tuple(g) for g in self.groups or ()),
            missing=None if self.missing == "empty" else self.missing,
            n_s=self.n_s,
            n_b=self.n_b,
            negative_weights=self.negative_weights is not None,
            header=self.header,
            columns=tuple(self.columns or ()),
            ignore_unknown=True,
            empty_is_missing=self.missing == "empty",
        )


def _label_text(value: str | int | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class ShiftConfig(Strict):
    """Systematic shifts of simulated events; the meaning of each is `higgsbench.events.shifts.Shifts`'s."""

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
    """A layout is named by a word and described by keys: errors are those of the one that is meant."""
    return "name" if isinstance(value, str) else "own"


class DataConfig(Strict):
    """Which events."""

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
        """How training treats events of negative weight, None where the layout allows none."""
        return None if isinstance(self.layout, str) else self.layout.negative_weights

    @field_validator("path", "test")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value == "":
            raise problem("the file name is empty")
        return value

    @field_validator("mix", "set_proportions")
    @classmethod
    def _known_to_the_simulation(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if value:
            from higgsbench.events.simulate import SimulationSettings

            try:
                SimulationSettings(_ANY_NUMBER, **{str(info.field_name): value})  # type: ignore[arg-type]
            except ConfigError as error:
                raise problem(shortened(error, 300)) from error
        return value

    @model_validator(mode="after")
    def _fitting_the_source(self) -> DataConfig:
        for key in ("events", "seed", "mix", "higgs_mass", "luminosity", "set_proportions", "shifts"):
            if getattr(self, key) not in (None, {}) and self.source != "simulated":
                raise problem(f"`{key}` belongs to `source: simulated`, the source is {self.source}", key)
        if self.source != "file" and self.path is not None:
            raise problem(f"`path` belongs to `source: file`, the source is {self.source}", "path")
        if self.source != "file" and self.layout != "atlas-higgs-2014":
            raise problem(f"`schema` belongs to `source: file`, the source is {self.source}", "schema")
        return self


def named_schema(choice: str) -> TableSchema:
    """Return a layout by its name, or from a YAML file with the keys of `data.schema` (or a whole configuration).

    Raises:
        ConfigError: for a name that is not known, or a file that describes no layout.
    """
    if choice in SCHEMAS:
        return SCHEMAS[choice]
    path = Path(choice).expanduser()
    if not path.is_file():
        raise ConfigError(f"schema: {choice!r} is neither a layout ({', '.join(SCHEMAS)}) nor a YAML file")
    value = read_yaml(path).value
    if isinstance(value, dict) and isinstance(value.get("data"), dict):
        value = value["data"].get("schema", ATLAS_HIGGS.name)
    if isinstance(value, str) and value in SCHEMAS:
        return SCHEMAS[value]
    try:
        return SchemaConfig.model_validate(value).table_schema()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {at + ': ' if at else ''}{said(first)}") from error
