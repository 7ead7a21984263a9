"""Reference files made of sections: each part of a benchmark writes its own and leaves the others as they are."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks._common import machine

__all__ = ["write_section"]


def write_section(file: Path, head: str, titles: Mapping[str, str], name: str, lines: Sequence[str]) -> None:
    """Print a section and put it into a file.

    Args:
        file: the file; made where there is none.
        head: title and first lines of the file.
        titles: titles of all sections by name, in their order.
        name: the section.
        lines: its text.
    """
    text = "\n".join([*lines, "", f"Measured on {machine()}."])
    sys.stdout.write(text + "\n")
    found = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", _text(file), flags=re.DOTALL))
    found[name] = text
    body = [f"## {titles[key]}\n\n<!-- {key} -->\n{found[key]}\n<!-- end -->\n" for key in titles if key in found]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([head, *body]))


def _text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""
