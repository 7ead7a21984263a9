"""YAML documents of plain values that know the line of every key, and the words for what is wrong with a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from higgsbench.errors import ConfigError, shortened

__all__ = ["Document", "document_of", "parse_yaml", "read_yaml", "said"]


KeyPath = tuple[str | int, ...]

_MAX_BYTES = 1 << 20
_MAX_VALUES = 100_000
_MAX_DEPTH = 50
_MAX_BITS = 64
_MAX_DIGITS = 4000


@dataclass
class Document:
    """A parsed YAML document.

    Attributes:
        source: file name for messages.
        value: plain Python value.
        lines: line number (from 1) of every key path; 0 where the document is no text.
        origins: where key paths come from that do not stand in the document.
    """

    source: str
    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def at(self, path: KeyPath) -> str:
        """Return "file:line" of a key path, or of its nearest known parent; of an override, the option it came from."""
        prefixes = [path[:end] for end in range(len(path), -1, -1)]
        for prefix in prefixes:
            if prefix in self.origins:
                return self.origins[prefix]
        for prefix in prefixes:
            line = self.lines.get(prefix)
            if line:
                return f"{self.source}:{line}"
        return self.source


def dotted(path: KeyPath) -> str:
    """Write a key path as people do: models[2].params.depth."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


class _Builder:
    """Turns composed nodes into plain values while noting lines and counting values (aliases count each time)."""

    def __init__(self, document: Document, loader: yaml.SafeLoader) -> None:
        self.document = document
        self.loader = loader
        self.values = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.values += 1
        line = node.start_mark.line + 1
        self.document.lines.setdefault(path, line)
        where = f"{self.document.source}:{line}"
        if self.values > _MAX_VALUES:
            raise ConfigError(f"{where}: more than {_MAX_VALUES} values (aliases counted); this is no configuration")
        if len(path) > _MAX_DEPTH:
            raise ConfigError(f"{where}: nested deeper than {_MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            if node.tag != "tag:yaml.org,2002:seq":
                raise ConfigError(f"{where}: the tag {node.tag} is not allowed")
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        self._check_number(node, path)
        try:
            value = self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            problem = getattr(error, "problem", None) or str(error)
            raise ConfigError(f"{where}: {dotted(path)}: {problem}") from error
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise ConfigError(
                f"{where}: {dotted(path)}: {shortened(node.value)!r} is read as a {type(value).__name__}; quote it"
            )
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise ConfigError(f"{where}: {dotted(path)}: a whole number of more than {_MAX_BITS} bits")
        return value

    def _check_number(self, node: yaml.Node, path: KeyPath) -> None:
        """Refuse numbers of endless digits, and of base 60, which YAML 1.1 reads otherwise than people (1:30 is 90)."""
        if node.tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            return
        where = f"{self.document.source}:{node.start_mark.line + 1}: {dotted(path)}"
        if len(node.value) > _MAX_DIGITS:
            raise ConfigError(f"{where}: a whole number of more than {_MAX_BITS} bits")
        if ":" in node.value:
            raise ConfigError(
                f"{where}: {node.value!r} is a number of base 60 in YAML; quote it, or write a plain number"
            )

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if node.tag != "tag:yaml.org,2002:map":
            raise ConfigError(f"{self.document.source}:{node.start_mark.line + 1}: the tag {node.tag} is not allowed")
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{self.document.source}:{line}: a key must be a plain word")
            key = str(key_node.value)
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise ConfigError(
                    f"{self.document.source}:{line}: merge keys (<<) are not supported; write the keys out"
                )
            if key in out:
                raise ConfigError(
                    f"{self.document.source}:{line}: {shortened(dotted((*path, key)))}: the key appears twice"
                )
            self.document.lines[(*path, key)] = line
            out[key] = self.build(value_node, (*path, key))
        return out


def parse_yaml(text: str, source: str) -> Document:
    """Parse one YAML document of plain values.

    Args:
        text: YAML text.
        source: name for messages.

    Raises:
        ConfigError: naming the line, for broken YAML, tags, repeated keys or a document out of proportion.
    """
    if len(text) > _MAX_BYTES:
        raise ConfigError(f"{source}: larger than 1 MiB; this is no configuration")
    document = Document(source, None)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 1
        raise ConfigError(f"{source}:{line}: broken YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: broken YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deeply; this is no configuration") from error
    if node is not None:
        document.value = _Builder(document, loader).build(node, ())
    return document


def read_yaml(path: Path) -> Document:
    """Read a YAML file; see `parse_yaml`.

    Raises:
        ConfigError: if the file cannot be read or parsed.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than 1 MiB; this is no configuration")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    return parse_yaml(text, str(path))


def document_of(mapping: Mapping[str, Any], source: str) -> Document:
    """Make a document of a mapping, whose values are copied; tuples, paths and numpy numbers become plain values.

    Args:
        mapping: keys and values as YAML would give them.
        source: name for messages.

    Raises:
        ConfigError: naming the key, for a value that YAML could not hold.
    """
    document = Document(source, None)
    document.value = _plain(mapping, (), document)
    return document


def _plain(value: Any, path: KeyPath, document: Document) -> Any:
    document.lines[path] = 0
    if len(path) > _MAX_DEPTH:
        raise ConfigError(f"{document.source}: nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise ConfigError(f"{document.source}: {dotted((*path, str(wrong)))}: the key {wrong!r} must be a text")
        return {str(key): _plain(item, (*path, str(key)), document) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*path, i), document) for i, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, (str, int, float, bool, type(None))):
        raise ConfigError(f"{document.source}: {dotted(path)}: a {type(value).__name__} is no plain value")
    return plain


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "finite_number": "a finite number",
}
_NUMBER = re.compile(r"([-+]?)(\d+)(\.\d*)?(?:[eE]([-+]?)(\d+))?")
_LARGEST = 10**18


def said(error: Any) -> str:
    """Return one error of the validator as a message.

    Args:
        error: an entry of `ValidationError.errors()`.
    """
    kind, value = error["type"], error.get("input")
    if kind == "higgsbench":
        return str(error["msg"])
    if kind == "missing":
        return f"the key {error['loc'][-1]!r} is missing"
    if kind == "too_short":
        least = error["ctx"]["min_length"]
        return f"expected at least {least} {'entry' if least == 1 else 'entries'}, there are {len(value)}"
    expected = _EXPECTED.get(kind)
    message = error["msg"].replace("Input should be ", "expected ") if expected is None else f"expected {expected}"
    for bound in ("greater", "less"):
        message = message.replace(f"expected {bound}", f"expected a number {bound}")
    if isinstance(value, (dict, list)):
        return f"{message}, it is {'a list' if isinstance(value, list) else 'keys and values'}"
    if value is None:
        return f"{message}, it is empty"
    return f"{message}, it is {shortened(value)!r}{_as_number(kind, value)}"


def _as_number(kind: str, value: Any) -> str:
    """Say how a number is written that YAML took for text; empty where it is none."""
    found = _NUMBER.fullmatch(value) if isinstance(value, str) and len(value) < 50 else None
    if found is None or kind not in ("int_type", "float_type"):
        return ""
    sign, whole, part, power, digits = found.groups()
    if digits is None:
        return ", which is text: remove the quotes"
    number = float(value)
    if kind == "int_type":
        return f", which is text in YAML: write {int(number)}" if abs(number) < _LARGEST and number.is_integer() else ""
    return f", which is text in YAML: write {sign}{whole}{part or '.0'}e{power or '+'}{digits}"
