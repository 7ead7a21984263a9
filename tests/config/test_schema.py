"""The JSON schema of configurations: whatever `load_config` reads is valid in it, and wrong keys and values are not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from higgsbench.config.document import parse_yaml
from higgsbench.config.load import load_config
from higgsbench.config.model import RunConfig
from higgsbench.config.section import Strict, json_schema
from higgsbench.errors import ConfigError
from higgsbench.models import get_model
from tests.config.test_load import CONFIGS, SHORT, M

ROOT = CONFIGS.parent
BLOCK = re.compile(r"^```yaml\n(.*?)^```", flags=re.S | re.M)


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema(RunConfig)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def valid(validator: Any, text: str) -> bool:
    return bool(validator.is_valid(parse_yaml(text, "text").value))


def documented() -> Iterator[Any]:
    """Configurations in the documents; examples of other files and of several forms of one key are left out."""
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for number, block in enumerate(BLOCK.findall(file.read_text(encoding="utf-8"))):
            try:
                value = parse_yaml(block, file.name).value
            except ConfigError:
                continue
            if isinstance(value, dict) and value.keys() & {"data", "models", "features", "folds"}:
                yield pytest.param(block if "models" in value else f"{block}\n{M}", id=f"{file.stem}-{number}")


@pytest.mark.parametrize(
    "text", [*documented(), *[pytest.param(f.read_text(), id=f.name) for f in CONFIGS.glob("*.yaml")]]
)
def test_configurations_are_valid(validator: Any, text: str) -> None:
    assert valid(validator, text)


SAMPLES = "data:\n  samples: [{{files: a.csv, process: p, signal: true}}, {{files: [b.csv], {}}}]\n"
RIGHT = [text for pair in SHORT for text in pair] + [
    M + "memory_limit: 8GB",
    M + "memory_limit: 4000000000",
    M + "features: [{name: r, expr: PRI_met / 2}, PRI_met]",
    M + "features: {set: physics, add: [PRI_met], drop: [DER_mass_MMC]}",
    M + "data: {source: simulated, mix: {Z: 2}, shifts: {tes: 3%, jes: 0.01}}",
    M + "data: {schema: uci-higgs}",
    M + "folds: {k: 5, by: EventId % 5}",
    M + "data: {schema: {features: [x], categorical: [c], label: y, negative_weights: resample, weight: w}}",
    M + "data: {schema: {features: [x], categorical: {c: [a, 1]}, label: y}}",
    M + "data: {schema: {features: [x], categorical: [], label: y}}",
    M + "data: {schema: {features: [x], label: y, signal: s, missing: NaN}}",
    M + "data: {schema: {features: [x], label: y, signal: 1.5, missing: empty, weight: }}",
    M + SAMPLES.format("process: q"),
    M + SAMPLES.format("process: q, scale: 2, weight: w / 2") + "  features: [all, {name: r, expr: x / y}]",
    M + SAMPLES.format("process: q") + "  features: all\n  id: event\n  categorical: [c]\n  select: x > 3",
    "models: [{model: mlp, label: net, params: {a: {b: [1]}}, features: momenta, preset: best}]",
]  # fmt: skip


@pytest.mark.parametrize("text", RIGHT)
def test_what_loads_is_valid(validator: Any, text: str) -> None:
    load_config(parse_yaml(text, "text").value, check_model=get_model)
    assert valid(validator, text.removeprefix("\ufeff"))


WRONG = [
    "folds: 3",
    "models: []",
    "models: xgboost",
    "models: [xgbost]",
    "models: [{label: a}]",
    "models: [{model: mlp, parms: {}}]",
    "models: [{model: mlp, params: [1]}]",
    M + "foldz: 3",
    M + "folds: 1",
    M + 'folds: "3"',
    M + "folds:",
    M + "folds: {k: 5}",
    M + "folds: {k: 1, by: EventId}",
    M + "data: {schema: {features: [x], categorical: c, label: y}}",
    M + "preset: slow",
    M + "cut: best",
    M + "cut: {rule: max, b_reg: -1}",
    M + "stack: median",
    M + "stack: {members: mlp}",
    M + "features: 3",
    M + "features: {columns: [{expr: PRI_met}]}",
    M + "memory_limit: much",
    M + "data: file.csv",
    M + "data: {source: simulatd}",
    M + "data: {n_b: -3}",
    M + "data: {schema: lhcb}",
    M + "data: {schema: {features: [x]}}",
    M + SAMPLES.format("proces: q"),
    M + SAMPLES.format("process: q, scale: -1"),
    M + SAMPLES.format("process: q") + "  features: [[x]]",
    M + "data: {samples: a.csv}",
    M + "data: {schema: {features: [x], label: y, signal: true}}",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_is_refused_is_not_valid(validator: Any, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(parse_yaml(text, "text").value, check_model=get_model)
    assert not valid(validator, text)


def test_names_of_feature_sets_are_listed(validator: Any) -> None:
    """Whether a set exists is seen only when events are known."""
    assert valid(validator, M + "features: physics")
    assert not valid(validator, M + "features: phisics")


def sections(kind: type[Strict]) -> Iterator[type[Strict]]:
    for each in kind.__subclasses__():
        yield each
        yield from sections(each)


@pytest.mark.parametrize("kind", [k for k in sections(Strict) if k.__module__.startswith("higgsbench.config.")])
def test_every_key_has_a_description(kind: type[Strict]) -> None:
    """Editors show it beside the key: write it as a docstring under the field."""
    assert not [name for name, field in kind.model_fields.items() if not field.description]
