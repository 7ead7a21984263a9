"""The report's sections: each part of the benchmark writes its own and leaves the others as they are."""

from __future__ import annotations

import re
import sys

from benchmarks._common import REFERENCE, machine

__all__ = ["write_section"]

_TITLES = {
    "ladder": "The ladder, on 15,000 real events",
    "stacking": "Against scikit-learn's StackingClassifier",
    "simulated": "The ladder and the learning curve, on simulated events",
}
_FILE = REFERENCE / "quality.md"


def write_section(name: str, lines: list[str]) -> None:
    """Print a section and put it into results/reference/quality.md."""
    text = "\n".join([*lines, "", f"Measured on {machine()}."])
    sys.stdout.write(text + "\n")
    found = _sections()
    found[name] = text
    body = [
        f"## {title}\n\n<!-- {key} -->\n{found[key]}\n<!-- end -->\n" for key, title in _TITLES.items() if key in found
    ]
    REFERENCE.mkdir(parents=True, exist_ok=True)
    head = "# Quality of the built-in recipes\n\nMade by `nox -s bench-quality`. Errors are paired standard errors.\n"
    _FILE.write_text("\n".join([head, *body]))


def _sections() -> dict[str, str]:
    if not _FILE.is_file():
        return {}
    pattern = r"<!-- (\w+) -->\n(.*?)\n<!-- end -->"
    return {m[1]: m[2] for m in re.finditer(pattern, _FILE.read_text(), flags=re.DOTALL)}
