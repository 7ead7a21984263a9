"""Links of the documents lead somewhere, the README stands alone, and the site's reference is complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import higgsbench

ROOT = Path(__file__).parents[1]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
DOCUMENTS = sorted(
    file
    for pattern in (
        "*.md",
        "docs/*.md",
        "docs/reference/*.md",
        "results/*.md",
        "results/reference/*.md",
        "examples/*.ipynb",
    )
    for file in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$|^```\{toctree\}\n(?::.*\n)*((?:[\w/-]+\n)+)```", flags=re.M)
MADE = ("_made/", "measurements/", "project/")
"""Folders that the build of the site writes."""


def links(document: Path) -> list[str]:
    """Return the files that a document links to, relative to its folder; links to the repository's web page count."""
    found = []
    for inline, reference, _ in LINK.findall(document.read_text(encoding="utf-8")):
        target = (inline or reference).partition("#")[0]
        web = re.fullmatch(rf"{re.escape(REPOSITORY)}/(?:blob|tree|raw)/main/(.+)", target)
        if web:
            found.append(str(ROOT / web[1]))
        elif target and not re.match(r"[a-z]+:", target):
            found.append(target)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(document: Path) -> None:
    missing = [link for link in links(document) if not (document.parent / link).exists()]
    assert not missing, f"{document.name} links to files that do not exist"


def test_the_readme_stands_alone() -> None:
    """It is shown outside the repository, where relative links lead nowhere."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    targets = [inline or reference for inline, reference, _ in LINK.findall(text)]
    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert set(re.findall(r"\]\[(\w+)\]|\[(\w+)\](?![(\[:])", text)) <= {
        pair for name in re.findall(r"^\[(\w+)\]:", text, flags=re.M) for pair in ((name, ""), ("", name))
    }, "a link has no address"


def test_every_page_is_in_the_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = {line for block in re.findall(r"^```\{toctree\}\n(.*?)^```", index, flags=re.S | re.M)
              for line in block.splitlines() if line and not line.startswith((":", *MADE))}  # fmt: skip
    docs = ROOT / "docs"
    pages = {file.relative_to(docs).with_suffix("").as_posix() for file in DOCUMENTS if docs in file.parents}
    assert pages - {"index"} == listed


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, flags=re.M)) == set(higgsbench.__all__) - {"__version__"}
