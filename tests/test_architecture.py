"""Modules import only from lower floors."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULE = re.compile(r"higgsbench(\.\w+)+")
PACKAGE = Path(__file__).parents[1] / "higgsbench"
FLOOR = {
    "errors": 0,
    "lazy": 0,
    "panics": 0,
    "files": 0.2,
    "registry": 0.5,
    "sealed": 0.5,
    "schema": 0,
    "metrics": 1,
    "events": 1,
    "features": 1,
    "pages": 1,
    "config": 2,
    "models": 2,
    "challenge": 2,
    "validation": 3.5,
    "ensemble": 3,
    "runs": 4,
    "explore": 5,
    "leaderboard": 5,
    "report": 5.4,
    "compare": 5.2,
    "inference": 5.3,
    "export": 5.3,
    "tune": 5,
    "api": 5.5,
    "cli": 6,
    "__main__": 7,
}
TRAINERS = ("models", "validation", "runs")
LIBRARIES = ("sklearn", "xgboost", "lightgbm", "catboost", "joblib")


def imported(file: Path) -> Iterator[str]:
    """All modules a file imports, at any depth: at the top, in functions, for type checking, and by name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and MODULE.fullmatch(str(node.value)):
            yield str(node.value)


def home(module: str) -> str | None:
    """Subpackage or module of ours that a dotted name belongs to."""
    parts = module.split(".")
    return parts[1] if parts[0] == "higgsbench" and len(parts) > 1 and parts[1] in FLOOR else None


FILES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def owner(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_module_has_a_floor() -> None:
    assert {owner(file) for file in FILES} <= set(FLOOR)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_down(file: Path) -> None:
    own = owner(file)
    for module in imported(file):
        target = home(module)
        # The registry's entry-point group is a name, not a module.
        if target is None or target == own or (file.name == "registry.py" and module == "higgsbench.models"):
            continue
        assert FLOOR[target] < FLOOR[own], f"{own} (floor {FLOOR[own]}) imports {module} (floor {FLOOR[target]})"


@pytest.mark.parametrize("package", ["explore", "leaderboard", "pages", "report", "compare", "inference", "export"])
def test_tables_and_pictures_import_no_trainer(package: str) -> None:
    for file in (PACKAGE / package).rglob("*.py"):
        for module in imported(file):
            assert home(module) not in ("models", "validation"), f"{file.name} imports {module}"
            assert module.split(".")[0] not in LIBRARIES, f"{file.name} imports {module}"
    modules = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in FILES]
    ours = [module.removesuffix(".__init__") for module in modules if home(module) == package]
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *ours], capture_output=True, text=True, check=True)
    assert not {"sklearn", "xgboost", "lightgbm", "catboost"} & set(done.stdout.split())


def test_blends_never_train_a_base_model() -> None:
    for file in (PACKAGE / "ensemble").rglob("*.py"):
        for module in imported(file):
            assert home(module) not in TRAINERS
            assert module.split(".")[0] not in LIBRARIES


def test_the_check_would_notice(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("def f():\n    from higgsbench.runs import run\n    import_module('higgsbench.cli.main')\n")
    assert {home(m) for m in imported(file)} == {"runs", "cli"}
