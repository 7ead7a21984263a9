"""Reports in sections: each part of a benchmark writes its own and leaves the others as they are."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks._common import machine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["SectionedReport"]

_SECTION = re.compile(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", flags=re.DOTALL)


@dataclass(frozen=True)
class SectionedReport:
    """A Markdown file whose sections are written one by one.

    Attributes:
        file: the file.
        head: what stands above the first section.
        titles: heading of each section by its name, in the order of the file.
    """

    file: Path
    head: str
    titles: Mapping[str, str]

    def write(self, name: str, lines: list[str]) -> None:
        """Print a section, with the machine named, and put it into the file.

        Args:
            name: a key of `titles`.
            lines: the section without its heading.
        """
        text = "\n".join([*lines, "", f"Measured on {machine()}."])
        sys.stdout.write(f"## {self.titles[name]}\n\n{text}\n\n")
        found = self._sections()
        found[name] = text
        body = [
            f"## {title}\n\n<!-- {key} -->\n{found[key]}\n<!-- end -->\n"
            for key, title in self.titles.items()
            if key in found
        ]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("\n".join([self.head, *body]))

    def _sections(self) -> dict[str, str]:
        if not self.file.is_file():
            return {}
        return {m[1]: m[2] for m in _SECTION.finditer(self.file.read_text())}
