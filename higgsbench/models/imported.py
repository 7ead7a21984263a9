"""Models in Python files of the user: `--import my.py` runs a file, and `my.py:build` names a model in it.

A configuration alone never runs code: a file that nobody imported is an error. Worker processes get what a file
defines by value, so that they need neither the file nor its folder.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from higgsbench.errors import ModelError, nearest_hint, raised

_PREFIX = "higgsbench_import_"
"""Begins the names of these modules, so that a file named random.py does not replace the module `random`."""

_FILE = re.compile(r"[\w +-]+\.py")
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)


class ImportedFile(NamedTuple):
    """A file that was run: its path and module, the digest of its text, and its classes."""

    path: Path
    module: ModuleType
    code: str
    types: tuple[type, ...]


IMPORTED: dict[str, ImportedFile] = {}
"""The files that were run in this process, by their names without folders."""


def run_file(file: str | Path) -> ImportedFile:
    """Run a Python file and remember what it defines.

    Raises:
        ModelError: naming the file, and the line at which it fails.
    """
    import cloudpickle

    path = Path(file).expanduser().resolve()
    before = IMPORTED.get(path.name)
    problem = (
        "a folder; name a Python file" if path.is_dir()
        else "no such file" if not path.is_file()
        else "expected a Python file, with letters, digits, _, + or - before .py" if not _FILE.fullmatch(path.name)
        else f"{before.path} has the same name; rename one of them" if before and before.path != path
        else ""
    )  # fmt: skip
    if problem:
        raise ModelError(f"--import {file}: {problem}")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelError(f"--import {file}: cannot be read: {error.strerror or error}") from error
    module = ModuleType(_PREFIX + path.stem)
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, str(path), "exec"), vars(module))  # noqa: S102 - the user names the file for this
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        reason = str(error) if isinstance(error, ModelError) else raised(error)
        raise ModelError(f"--import {file}: {reason}") from error
    cloudpickle.register_pickle_by_value(module)
    own = (value for value in vars(module).values() if isinstance(value, type))
    types = tuple(value for value in own if value.__module__ == module.__name__)
    IMPORTED[path.name] = ImportedFile(path, module, hashlib.sha256(text).hexdigest(), types)
    return IMPORTED[path.name]


def named(reference: str) -> tuple[Any, ImportedFile]:
    """Return what `my.py:build` names, and the file.

    Raises:
        ModelError: if the file was not imported, or has nothing of that name.
    """
    file, _, name = reference.rpartition(":")
    found = IMPORTED.get(Path(file).name)
    if found is None:
        raise ModelError(
            f"{reference!r} is code in a file, which a configuration alone never runs: add --import {file} to the "
            f"command, or call higgsbench.import_models({file!r}) in Python"
        )
    public = [known for known in vars(found.module) if _NAME.fullmatch(known)]
    if name not in public:
        hint = nearest_hint(name, public, "; a name begins with a letter")
        raise ModelError(f"{file} defines no {name!r}{hint}")
    return getattr(found.module, name), found
