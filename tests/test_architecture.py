"""Modules import only from lower layers, without circular imports; tables and figures load no training library."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "higgsbench"
FLOOR = {
    **dict.fromkeys(("errors", "schema", "files", "registry", "expressions"), 0),
    **dict.fromkeys(("metrics", "events", "features", "pages"), 1),
    **dict.fromkeys(("ensemble", "models", "challenge"), 2),
    **dict.fromkeys(("config", "validation"), 3),
    "runs": 4,
    **dict.fromkeys(("leaderboard", "explore", "compare", "inference", "tune"), 5),
    **dict.fromkeys(("report", "export"), 6),
    "api": 7,
    "cli": 8,
    "__main__": 9,
}
NO_TRAINER = ("leaderboard", "explore", "compare", "inference", "report", "export", "ensemble", "metrics", "pages")
TRAINERS = {"sklearn", "xgboost", "lightgbm", "catboost", "torch"}
ENTRY_POINTS = {"higgsbench.models", "higgsbench.features"}
"""Names of entry-point groups that are also names of packages; here they do not count as imports."""

Graph = dict[str, set[str]]


def import_graph(root: Path) -> Graph:
    """Modules of ours that each module imports, at any depth: at its top, in functions, for type checking, by name."""
    files = {_dotted(file, root): file for file in root.rglob("*.py")}
    return {module: _imported(module, file, set(files)) for module, file in files.items()}


def _dotted(file: Path, root: Path) -> str:
    parts = (root.name, *file.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(module: str, file: Path, known: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in ENTRY_POINTS:
            found.add(node.value)  # importlib.import_module, lazy names
    return (found & known) - {module}


def rises(graph: Graph, floor: dict[str, int]) -> list[tuple[str, str]]:
    """Imports between packages that do not lead to a lower floor; the modules of floor 0 may import each other."""
    return [
        (module, target)
        for module, targets in graph.items()
        for target in sorted(targets)
        if _home(module) != _home(target)
        and not (floor[_home(target)] < floor[_home(module)] or floor[_home(target)] == floor[_home(module)] == 0)
    ]


def _home(module: str) -> str:
    return module.split(".")[1]


@cache
def graph() -> Graph:
    """Imports of the package; its __init__ names all that is public and is on no floor."""
    whole = import_graph(PACKAGE)
    return {module: targets - {"higgsbench"} for module, targets in whole.items() if module != "higgsbench"}


def test_every_module_has_a_floor() -> None:
    assert {_home(module) for module in graph()} == set(FLOOR)
    assert all(isinstance(floor, int) for floor in FLOOR.values())


def test_imports_go_down() -> None:
    found = rises(graph(), FLOOR)
    assert not found, "\n".join(f"{module} imports {target}" for module, target in found)


def test_there_are_no_circles() -> None:
    TopologicalSorter(graph()).prepare()  # the error names the circle


@pytest.mark.parametrize("package", NO_TRAINER)
def test_tables_and_pictures_load_no_trainer(package: str) -> None:
    modules = sorted(module for module in graph() if _home(module) == package)
    for module in modules:
        assert not {"models", "validation"} & {_home(target) for target in graph()[module]}, module
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=True)
    assert not TRAINERS & set(done.stdout.split())


def test_the_checks_would_notice(tmp_path: Path) -> None:
    """A made-up tree has a circle through functions, types and names, and imports that do not go down."""
    files = {
        "low/a.py": "def f():\n    from house.low.b import g\n",
        "low/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.low import c\n",
        "low/c.py": "import importlib\nimportlib.import_module('house.low.a')\n",
        "low/e.py": "from house.high.f import x\nimport house.low.a\n",
        "high/f.py": "import house.low.b\nx = 1\n",
        "beside/__init__.py": "from house.low.a import f\n",
    }
    for name, text in files.items():
        (tmp_path / "house" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "house" / name).write_text(text)
    found = import_graph(tmp_path / "house")
    with pytest.raises(CycleError) as error:
        TopologicalSorter(found).prepare()
    assert set(error.value.args[1]) == {"house.low.a", "house.low.b", "house.low.c"}
    expected = {("house.beside", "house.low.a"), ("house.low.e", "house.high.f")}
    assert set(rises(found, {"low": 1, "beside": 1, "high": 2})) == expected
