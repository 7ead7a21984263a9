"""Read configuration text: YAML with the line number of every key, sizes, durations, and messages about bad values."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.representer import SafeRepresenter

from higgsbench.errors import ConfigError, shortened
from higgsbench.files import one_line
from higgsbench.schema import is_number

KeyPath = tuple[str | int, ...]

_MAX_BYTES = 1 << 20
_MAX_VALUES = 100_000
_MAX_DEPTH = 50
_MAX_BITS = 64
_ENDLESS = re.compile(r"\d{4000}|0x[0-9a-fA-F]{4000}")
_KEY_TWICE = re.compile(r'found duplicate key "?(.*?)"? with value', re.DOTALL)


@dataclass
class Document:
    """A parsed YAML document.

    Attributes:
        source: file name for messages.
        value: plain Python value.
        lines: line number (from 1) of every key path; 0 if the document was not parsed from text.
        origins: command-line option that set a key path, for keys that are not in the document.
    """

    source: str
    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    _values: int = 0

    def at(self, path: KeyPath) -> str:
        """Return "file:line" of a key path or of its nearest known parent; for an override, the option it came from."""
        prefixes = [path[:end] for end in range(len(path), -1, -1)]
        origin = next((self.origins[prefix] for prefix in prefixes if prefix in self.origins), None)
        line = next((self.lines[prefix] for prefix in prefixes if self.lines.get(prefix)), None)
        return origin or (self.source if line is None else f"{self.source}:{line}")

    def plain(self, value: Any, path: KeyPath, line: int) -> Any:
        """Return a copy of a value with plain types only, and record the line of each key in it.

        Raises:
            ConfigError: naming the line and key, if a value has a tag or another type, or if there are too many values.
        """
        self._values += 1
        self.lines.setdefault(path, line)
        if self._values > _MAX_VALUES:
            raise ConfigError(f"{self.at(path)}: more than {_MAX_VALUES} values, counting aliases; not a configuration")
        if len(path) > _MAX_DEPTH:
            raise ConfigError(f"{self.at(path)}: nested deeper than {_MAX_DEPTH} levels")
        tag = getattr(value, "tag", None)
        if isinstance(value, TaggedScalar) or (tag is not None and tag.value is not None):
            raise self.refusal(path, f"the tag {tag} is not allowed")
        if isinstance(value, Mapping):
            return self._mapping(value, path, line)
        if isinstance(value, (list, tuple)):
            at = [value.lc.item(i)[0] + 1 if isinstance(value, CommentedSeq) else line for i in range(len(value))]
            return [self.plain(item, (*path, i), at[i]) for i, item in enumerate(value)]
        return self._scalar(value, path)

    def _mapping(self, value: Mapping[Any, Any], path: KeyPath, line: int) -> dict[str, Any]:
        if getattr(value, "merge", None):
            raise ConfigError(f"{self.at(path)}: merge keys (<<) are not supported; write the keys out")
        out = {}
        for key, item in value.items():
            at = value.lc.key(key)[0] + 1 if isinstance(value, CommentedMap) and key in value.lc.data else line
            place = (*path, str(key))
            self.lines[place] = at
            if not isinstance(key, str):
                raise self.refusal(place, f"the key {key!r} must be text")
            out[str(key)] = self.plain(item, place, at)
        return out

    def _scalar(self, value: Any, path: KeyPath) -> Any:
        plain = value.item() if isinstance(value, np.generic) else value
        if plain is None or isinstance(plain, bool):
            return plain
        # ruamel.yaml's classes remember how a value was written; convert them to plain Python types.
        if isinstance(plain, (str, Path)):
            return str(plain)
        if isinstance(plain, float):
            return float(plain)
        if isinstance(plain, int):
            if plain.bit_length() > _MAX_BITS:
                raise self.refusal(path, f"a whole number with more than {_MAX_BITS} bits")
            return int(plain)
        kind_found = type(value).__name__
        if not self.lines.get(path):
            raise self.refusal(path, f"a {kind_found} is not a plain value")
        raise self.refusal(path, f"YAML reads {shortened(value)!r} as a {kind_found.lower()}; put it in quotes")

    def refusal(self, path: KeyPath, message: str) -> ConfigError:
        """Make an error that names the file, line and key path."""
        return ConfigError(f"{self.at(path)}: {dotted(path)}{': ' if path else ''}{message}")


def dotted(path: KeyPath) -> str:
    """Format a key path for people to read: models[2].params.depth."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


def parse_yaml(text: str, source: str) -> Document:
    """Parse one YAML document of plain values; messages call it `source`.

    Raises:
        ConfigError: naming the line, for broken YAML, tags, repeated keys or a document that is too large.
    """
    if len(text) > _MAX_BYTES:
        raise ConfigError(f"{source}: larger than 1 MiB; not a configuration")
    endless = _ENDLESS.search(text)
    if endless is not None:
        raise ConfigError(f"{source}:{text.count(chr(10), 0, endless.start()) + 1}: a number with thousands of digits")
    try:
        value = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        twice = _KEY_TWICE.match(str(error.problem))
        what = f"broken YAML: {error.problem or error.context}"
        if twice is not None:
            what = f"{shortened(one_line(twice[1]))}: the key appears twice"
        raise ConfigError(f"{source}:{line}: {what}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deeply; not a configuration") from error
    except Exception as error:  # the parser lets errors of many kinds escape, such as TypeError for a list as a key
        raise ConfigError(f"{source}: broken YAML: {one_line(str(error))[:200]}") from error
    document = Document(source)
    begin = getattr(getattr(value, "lc", None), "line", None)
    document.value = document.plain(value, (), 1 if begin is None else begin + 1)
    return document


def read_yaml(path: Path) -> Document:
    """Read a YAML file; see `parse_yaml`.

    Raises:
        ConfigError: if the file cannot be read or parsed.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than 1 MiB; not a configuration")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    return parse_yaml(text, str(path))


def document_of(mapping: Mapping[str, Any], source: str) -> Document:
    """Make a document from a copy of a mapping's values; tuples, paths and numpy numbers become plain values.

    Raises:
        ConfigError: naming the key, for a value that YAML could not hold.
    """
    document = Document(source)
    document.value = document.plain(mapping, (), 0)
    return document


class _WithoutAliases(SafeRepresenter):
    def ignore_aliases(self, data: Any) -> bool:
        """Return True: a list that occurs twice is written twice."""
        return True


def yaml_text(content: Mapping[str, Any]) -> str:
    """Return plain values as YAML, with the keys in their original order."""
    writer = YAML(typ="safe", pure=True)
    writer.Representer = _WithoutAliases
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its class says None
    stream = io.StringIO()
    writer.dump(dict(content), stream)
    return stream.getvalue()


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


def said(error: Any) -> str:
    """Return an entry of `ValidationError.errors()` as a message for the author of the configuration."""
    kind, value = error["type"], error.get("input")
    if kind == "higgsbench":
        return str(error["msg"])
    if kind == "missing":
        return f"the key {error['loc'][-1]!r} is missing"
    if kind == "too_short":
        least = error["ctx"]["min_length"]
        return f"expected at least {least} {'entry' if least == 1 else 'entries'}, got {len(value)}"
    expected = _EXPECTED.get(kind)
    message = error["msg"].replace("Input should be ", "expected ") if expected is None else f"expected {expected}"
    for bound in ("greater", "less"):
        message = message.replace(f"expected {bound}", f"expected a number {bound}")
    if isinstance(value, (dict, list)):
        return f"{message}, got {'a list' if isinstance(value, list) else 'keys and values'}"
    if value is None:
        return f"{message}, got nothing"
    quoted = kind in ("int_type", "float_type") and isinstance(value, str) and is_number(value)
    return f"{message}, got {shortened(value)!r}{', which is text: remove the quotes' if quoted else ''}"


_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20,
          "gib": 2**30, "tib": 2**40}  # fmt: skip
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]i?b|b|)")


def parse_size(text: str) -> int:
    """Return the bytes of `4GB`, `500 MB`, `1.5GiB` or `4000000000`.

    Raises:
        ConfigError: if the text is not an amount of memory or is less than a byte.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 1:
        raise ConfigError(f"{shortened(text)!r} is not an amount of memory; write 500MB, 4GB or 1.5GiB")
    return size


def format_size(size: float) -> str:
    """Return "1.0 kB", "812 MB", "4.00 GB" or "12.3 GB"."""
    if size < 1e3:
        return f"{size:.0f} bytes"
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    if size < 1e7:
        return f"{size / 1e6:.1f} MB"
    if size < 1e9:
        return f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.2f} GB" if size < 1e10 else f"{size / 1e9:.1f} GB"


_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|)")


def parse_duration(text: str) -> float:
    """Return the seconds of `90`, `90s`, `30m`, `2h`, `1.5h` or `1d`.

    Raises:
        ConfigError: if the text is not a duration or is not positive.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0.0 < seconds < float("inf"):
        raise ConfigError(f"{shortened(text)!r} is not a duration; write 90, 90s, 30m or 2h")
    return seconds


def format_duration(seconds: float) -> str:
    """Return "3.2 s", "45 s", "12 min 5 s" or "6 h 40 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
