"""Parts of the site that come from the code and from other folders; written before Sphinx reads its documents.

`_made/` gets parts that pages include; `measurements/` and `project/` get copies of documents. Git ignores all three.
"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

import higgsbench
from higgsbench.cli.main import cli
from higgsbench.leaderboard.columns import COLUMNS
from higgsbench.metrics import METRICS
from higgsbench.metrics.spectators import spectator_metrics

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MADE = DOCS / "_made"
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]

COPIES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "results/README.md": "measurements/index.md",
} | {
    f"results/reference/{file.name}": f"measurements/{file.name}" for file in (ROOT / "results/reference").glob("*.md")
}
"""Documents outside this folder, and where the site has them."""

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[/#])([^)\s#]+)(?=[)#])")


def site_links(text: str, document: str) -> str:
    """Turn the relative links of a document, given by its path in the repository, into links that work on the site."""

    def target(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(document), found[1]))
        if path in COPIES:
            return f"/{COPIES[path]}"
        return path.removeprefix("docs") if path.startswith("docs/") else f"{REPOSITORY}/blob/main/{path}"

    return LINK.sub(target, text)


def write() -> None:
    """Write all parts and copies, and draw the figures of the gallery."""
    for source, place in COPIES.items():
        toctree = "\n```{toctree}\n:glob:\n*\n```\n" if place.endswith("index.md") else ""
        _save(DOCS / place, site_links((ROOT / source).read_text(encoding="utf-8"), source) + toctree)
    for name, lines in {"keys": keys(), "models": models(), "features": features(), "metrics": metrics()}.items():
        _save(MADE / f"{name}.md", "\n".join(lines) + "\n")
    draw()


def _save(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    if not file.exists() or file.read_text(encoding="utf-8") != text:  # Sphinx reads a document again if it is newer
        file.write_text(text, encoding="utf-8")


def _output(*command: str) -> str:
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (titles, ["---"] * len(titles), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    yield ""


def features() -> Iterator[str]:
    """List the built-in feature sets with all their features."""
    for one in json.loads(_output("features", "--format", "json")):
        name = one["name"]
        yield from (f"## `{name}`", "", f"{one['what']}.", "", _output("features", name, "--format", "markdown"))


def metrics() -> Iterator[str]:
    """List the metrics and the columns of leaderboards."""
    yield from ("## Metrics", "")
    known = (*METRICS.values(), *spectator_metrics("COLUMN"))
    rows = ([f"`{m.name}`", m.heading, m.help, "lower" if m.lower_is_better else "higher"] for m in known)
    yield from _table(["name", "heading", "meaning", "better"], rows)
    yield from ("## Columns of a leaderboard", "")
    columns = ([f"`{c.name}`", c.title, ", ".join(f"`{key}`" for key in c.keys)] for c in COLUMNS)
    yield from _table(["name", "heading", "keys in csv and json"], columns)


def models() -> Iterator[str]:
    """List the built-in models with their presets."""
    presets = {name: json.loads(_output("models", "--preset", name, "--format", "json")) for name in PRESETS}
    for at, model in enumerate(presets["quick"]):
        handling = {"native": "It accepts missing values.", "imputed": "Missing values are imputed and flagged first."}
        yield from (f"## `{model['name']}`", "", f"{model['description']}. {handling[model['missing']]}", "")
        rows = ([name, *_settings(listed[at])] for name, listed in presets.items())
        yield from _table(["preset", "features", "training weights", "parameters"], rows)


PRESETS = ("quick", "good", "best")


def _settings(model: Mapping[str, Any]) -> list[str]:
    parameters = ", ".join(f"`{key}: {value}`" for key, value in model["parameters"].items())
    return [model["features"] or "of the run", model["training_weights"] or "of the run", parameters]


def keys() -> Iterator[str]:
    """List the keys of a configuration, section by section, from its JSON schema."""
    schema = json.loads(_output("config", "schema"))
    places = {"": ""}  # section of the schema, and the key that it stands under first
    written: set[str] = set()
    while rest := [name for name in places if name not in written]:
        name = rest[0]
        written.add(name)
        definition = schema["$defs"][name] if name else schema
        section = next(form for form in _forms(definition) if "properties" in form)
        title = f"`{places[name]}`" if name else "The file"
        short = [_kind(form) for form in _forms(definition) if "properties" not in form and form.get("type") != "null"]
        shorthand = f" Short form: {' or '.join(short)}." if short else ""
        yield from (f"({_anchor(name)})=", f"## {title}", "", f"{section['description']}{shorthand}", "")
        rows = []
        for key, field in section["properties"].items():
            for used in re.findall(r"#/\$defs/(\w+)", json.dumps(field)):
                several = "[]" if '"items"' in json.dumps(field) else ""
                places.setdefault(used, ".".join(filter(None, (places[name], key))) + several)
            needed = "required" if key in section.get("required", ()) else _default(field)
            rows.append([f"`{key}`", _kind(field), needed, field.get("description", "")])
        yield from _table(["key", "value", "default", "meaning"], rows)


def _anchor(name: str) -> str:
    return f"keys-of-{name.lower() or 'the-file'}"


def _forms(field: Mapping[str, Any]) -> list[dict[str, Any]]:
    return field.get("anyOf") or field.get("oneOf") or [dict(field)]


def _default(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    return "" if default is None or "$ref" in field else f"`{json.dumps(default)}`"


def _kind(field: Mapping[str, Any]) -> str:
    """Say which values a key takes."""
    forms = _forms(field)
    if len(forms) > 1:
        return " or ".join(dict.fromkeys(_kind(form) for form in forms if form.get("type") != "null"))
    form = forms[0]
    if "$ref" in form:
        return f"[mapping](#{_anchor(form['$ref'].rpartition('/')[2])})"
    if "enum" in form:
        return ", ".join(f"`{value}`" for value in form["enum"])
    named = form.get("type", "string")  # a pattern beside other forms of text names none
    kinds = [named] if isinstance(named, str) else [kind for kind in named if kind != "null"]
    if kinds == ["array"]:
        return f"list of {_kind(form['items'])}".replace("list of list", "list of lists").replace(
            "mapping]", "mappings]"
        )
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`"}
    return " or ".join(names.get(kind, "mapping") for kind in kinds) + _range(form)


def _range(form: Mapping[str, Any]) -> str:
    """Say which numbers are allowed; bounds of the number format itself are left out."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {form[key]}" for key, sign in signs.items() if key in form and form[key] < 1e6]
    return f" {', '.join(bounds)}" if bounds else ""


def draw() -> None:
    """Run two models on simulated events, also on fewer of them, and draw the report and its figures."""
    folder = MADE / "gallery"
    config = {
        "name": "gallery",
        "data": {"source": "simulated", "events": 6000, "seed": 1},
        "models": ["xgboost", "logistic"],
        "preset": "quick",
        "folds": 3,
    }
    result = higgsbench.run(config, output=folder / "results")
    higgsbench.learning_curve(config, repeats=2, output=folder / "results")
    higgsbench.write_report(result, folder / "example-report.html", figures=folder / "figures", formats=["svg"])
