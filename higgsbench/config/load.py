"""Turn a YAML file and `--set` options into a validated configuration, and load the events it names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from higgsbench.config import config_file
from higgsbench.config.document import Document, KeyPath, document_of, dotted, parse_yaml, read_yaml, said
from higgsbench.config.model import RESERVED_LABELS, DataConfig, RunConfig
from higgsbench.config.samples import SchemaConfig
from higgsbench.config.section import Strict
from higgsbench.errors import ConfigError, ModelError, shortened
from higgsbench.events import LARGE_FILE, Events, load_events, open_events, open_samples
from higgsbench.schema import ATLAS_HIGGS, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from higgsbench.schema import TableSchema


Section = TypeVar("Section", bound=Strict)

_SHORTHANDS = {"cut": "rule", "stack": "method", "features": "set"}


@dataclass(frozen=True)
class LoadedConfig:
    """A validated configuration, and the document it came from, which knows the line of each key."""

    config: RunConfig
    document: Document

    def error(self, path: KeyPath, message: str) -> ConfigError:
        """Make an error that names the file, line and key path."""
        return self.document.refusal(path, message)

    def changed(self, **values: Any) -> LoadedConfig:
        """Return a copy with new values for some of the run's keys; the new values are not validated."""
        return LoadedConfig(self.config.model_copy(update=values), self.document)


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    check_model: Callable[[str], object] | None = None,
) -> LoadedConfig:
    """Read and validate a configuration.

    Args:
        source: YAML file, the name of a configuration that comes with higgsbench, or a mapping of the same keys.
        overrides: `key=value` settings, keys dotted (`cut.rule=max`, `models.xgboost.params.max_depth=4`), values YAML.
        check_model: raises `ModelError` for a model name that is not registered.

    Returns:
        The configuration with its lines.

    Raises:
        ConfigError: naming the file, the line, the key and the nearest known name.
    """
    if isinstance(source, Mapping):
        stem, document = "run", document_of(source, "configuration")
    else:
        file = config_file(source)
        stem, document = file.stem, read_yaml(file)
    if not isinstance(document.value, dict):
        raise ConfigError(
            f"{document.source}: expected keys and values at the top level (models, data, ...); "
            "`higgsbench config copy all` writes an example, `higgsbench init FILE` one for your events"
        )
    for setting in overrides:
        _override(document, setting)
    config = validated(document, RunConfig)
    if config.name is None:
        stem = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in stem)[:60]
        config = config.model_copy(update={"name": stem.lstrip("_.-") or "run"})
    loaded = LoadedConfig(config, document)
    _check_labels(loaded, check_model)
    return loaded


def validated(document: Document, kind: type[Section], at: KeyPath = ()) -> Section:
    """Validate a document, or the part of it at a key path, as a section.

    Raises:
        ConfigError: naming the file, the line and the key.
    """
    value = document.value
    for part in at:
        value = value[part]
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # Pydantic puts names of validators and union members into the path; keep only the document's keys.
        key_at_fault = first.get("ctx", {}).get("key")
        location = first["loc"] if key_at_fault is None else (*first["loc"], key_at_fault)
        path: KeyPath = ()
        for part in (*at, *location):
            path = (*path, part) if (*path, part) in document.lines else path
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        key = f" {shortened(dotted(path), 120)}:" if path else ""
        raise ConfigError(f"{document.at(path)}:{key} {said(first)}{more}") from error


def named_schema(choice: str | None) -> TableSchema | None:
    """Return a layout by its name, or from a YAML file with the keys of `data.schema` (or a whole configuration).

    None, or a configuration without `data.schema`, stands for the layout that is recognised by the file's columns.

    Raises:
        ConfigError: for an unknown name, or a file that does not describe a layout.
    """
    if choice is None:
        return None
    if choice in SCHEMAS:
        return SCHEMAS[choice]
    path = Path(choice).expanduser()
    if not path.is_file():
        raise ConfigError(f"schema: {choice!r} is neither a layout ({', '.join(SCHEMAS)}) nor a YAML file")
    document = read_yaml(path)
    if not isinstance(document.value, dict) or "data" not in document.value:
        return validated(document, SchemaConfig).table_schema()
    data = validated(document, DataConfig, ("data",))
    if data.layout is None and data.samples is None:
        return None
    return data.table_schema(_folds_by(document))


def configured_events(path: Path) -> Events | None:
    """Return the events that a configuration names; None if the name of the file does not end in .yaml or .yml.

    Raises:
        ConfigError: if the file is not a configuration with a section `data`.
        DataError: if the events cannot be read.
    """
    if path.suffix.lower() not in (".yaml", ".yml"):
        return None
    document = read_yaml(path.expanduser())
    if not isinstance(document.value, dict) or "data" not in document.value:
        raise ConfigError(f"{document.source}: no section `data`, so the configuration names no events")
    return source_events(validated(document, DataConfig, ("data",)), stored=True, by=_folds_by(document))


def _folds_by(document: Document) -> str | None:
    folds = document.value.get("folds")
    return folds.get("by") if isinstance(folds, dict) else None


def _check_labels(loaded: LoadedConfig, check_model: Callable[[str], object] | None) -> None:
    seen: dict[str, int] = {}
    for i, entry in enumerate(loaded.config.models):
        if check_model is not None:
            try:
                check_model(entry.model)
            except ModelError as error:
                raise loaded.error(("models", i, "model"), str(error)) from error
        label = entry.row_label
        if label in RESERVED_LABELS:
            raise loaded.error(("models", i), f"{label!r} is the blend's label; give this model another `label`")
        if label in seen:
            raise loaded.error(
                ("models", i), f"label {label!r} is already used by models[{seen[label]}]; give this one a `label`"
            )
        seen[label] = i


def _override(document: Document, setting: str) -> None:
    """Apply one `key=value` to the raw document, before validation."""
    key, equals, text = setting.partition("=")
    source = f"--set {shortened(setting)}"
    if not equals or not key.strip():
        raise ConfigError(f"{source}: expected key=value, e.g. --set folds=3")
    given = parse_yaml(text, source)
    parts = key.strip().split(".")
    node: Any = document.value
    path: tuple[str | int, ...] = ()
    for depth, part in enumerate(parts):
        if not isinstance(node, (dict, list)):
            raise ConfigError(f"{source}: {part!r} cannot be set: its parent is a plain value, not a section")
        step: Any = _list_position(node, part, source) if isinstance(node, list) else part
        path = (*path, step)
        if path not in document.lines:  # the setting creates this section
            document.lines[path] = 1
            document.origins[path] = source
        if depth == len(parts) - 1:
            node[step] = given.value
            break
        child = node[step] if isinstance(node, list) else node.get(step)
        if path[:-1] == ("datasets",) and child is None:
            raise ConfigError(f"{source}: no data set {part!r}; choose from {', '.join(map(str, node))}")
        if child is None or isinstance(child, (str, bool)):
            # Expand a shorthand such as `stack: mean` into its section; validation then checks the keys.
            opened = "model" if isinstance(node, list) else _SHORTHANDS.get(step)
            node[step] = {opened: child} if opened is not None and isinstance(child, str) else {}
        node = node[step]
    for old in [known for known in document.lines if known[: len(path)] == path]:
        del document.lines[old]
    document.lines |= {(*path, *below): line for below, line in given.lines.items()} | {path: 1}
    document.origins[path] = source


def _list_position(node: list[Any], part: str, source: str) -> int:
    """Find an entry of a list by its number, label or model name."""
    if part.isdigit() and int(part) < len(node):
        return int(part)
    names = [(e.get("label") or e.get("model")) if isinstance(e, dict) else e for e in node]
    names = [str(name).rpartition(":")[2] for name in names]
    if part in names:
        return names.index(part)
    raise ConfigError(f"{source}: no entry {part!r}; choose from {', '.join(str(n) for n in names)}")


def with_layout(loaded: LoadedConfig) -> LoadedConfig:
    """Return the configuration with the recognised layout of its file, if it names none.

    Raises:
        DataError: if the file has no built-in layout.
    """
    data = loaded.config.data
    if data.layout is not None or data.samples is not None:
        return loaded
    return loaded.changed(data=data.model_copy(update={"layout": data.table_schema().name}))


DEFAULT_EVENTS = 48_000
"""Default number of simulated events; 15,000 of them are training events."""


def source_events(data: DataConfig, *, stored: bool = False, by: str | None = None) -> Events:
    """Return the events that a `data` section names.

    Args:
        data: the section.
        stored: whether the measured columns of a file stay on disk (`open_events`).
        by: expression of the folds (`folds.by`), which samples compute from columns of their files.

    Raises:
        ConfigError: if it names none.
        DataError: if a file breaks a rule or has not been fetched yet.
    """
    load = open_events if stored else load_events
    if data.samples is not None:
        layout = data.table_schema(by)
        return open_samples(data.sample_list(layout), layout, large=LARGE_FILE if stored else sys.maxsize)
    if data.source == "opendata":
        from higgsbench.events.fetch import opendata_path

        return load(opendata_path(), ATLAS_HIGGS)
    if data.source == "simulated":
        from higgsbench.events.shifts import Shifts
        from higgsbench.events.simulate import SimulationSettings, simulated_events

        keys = ("events", "seed", "mix", "higgs_mass", "luminosity", "set_proportions")
        given: dict[str, Any] = {key: getattr(data, key) for key in keys if getattr(data, key) not in (None, {})}
        if data.shifts is not None:
            given["shifts"] = Shifts(**data.shifts.model_dump())
        return simulated_events(SimulationSettings(**{"events": DEFAULT_EVENTS, **given}))
    if data.path is None:
        raise ConfigError(
            "data: no events given; name a file with --data training.csv or data.path in the configuration, "
            "or use simulated events with data.source: simulated"
        )
    return load(data.path, data.table_schema())
