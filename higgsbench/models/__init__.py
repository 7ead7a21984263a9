"""Layer 2: one frozen record per model in a registry; each builds a scikit-learn-compatible estimator.

The registry finds the models that come with higgsbench in the modules of `higgsbench.models.builtin`; installed
packages add more through the entry-point group `higgsbench.models`. Models may also be in the user's Python file:
`--import my.py` runs a file, and `my.py:build` names a model in it. A configuration alone never runs code: a file that
nobody imported is an error. Worker processes get the content of the file, so they need neither the file nor its
folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from higgsbench.errors import ModelError, nearest_hint, raised
from higgsbench.models.spec import PRESETS, BuildContext, ModelSpec, Preset
from higgsbench.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.models.storage import Codec

__all__ = [
    "PRESETS",
    "BuildContext",
    "ModelSpec",
    "Preset",
    "get_model",
    "import_models",
    "model_names",
    "register_model",
    "registered_models",
    "storage_codecs",
]


def _builtin() -> Sequence[ModelSpec]:
    """Records of all modules in the package `builtin`, those that need no extra first, by name."""
    package = importlib.import_module(f"{__name__}.builtin")
    modules = (importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__))
    return sorted((spec for module in modules for spec in module.MODELS), key=lambda s: (s.extra is not None, s.name))


_MODELS = Registry("model", ModelSpec, "higgsbench.ModelSpec", _builtin, "higgsbench.models", ModelError)

registered_models = _MODELS.all


def get_model(name: str) -> ModelSpec:
    """Return the registered model of this name, or what `my.py:build` names in a file given to `import_models`.

    Raises:
        ModelError: if there is none, with the nearest known name or the option that imports the file.
    """
    if ":" not in name:
        return _MODELS.get(name)
    found, file = named(name)
    title = Path(name).name
    spec = dataclasses.replace(found, name=title) if isinstance(found, ModelSpec) else ModelSpec(title, found)
    return _of_file(spec, file)


def import_models(file: str | Path) -> None:
    r"""Run a Python file with your own models, as the option `--import` does.

    The file may call `register_model`, and configurations may name what it defines as `my.py:NAME`: a function of
    parameters and a `BuildContext`, a scikit-learn classifier, or a `ModelSpec`. Changing the file trains its models
    again. Worker processes get its content, so it cannot import other files beside it.

    Args:
        file: the Python file. Run only files that you trust.

    Raises:
        ModelError: if there is no such file, or it fails; naming its line.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("my.py").write_text("from sklearn.naive_bayes import GaussianNB\nbayes = GaussianNB()\n")
        >>> higgsbench.import_models("my.py")
        >>> config = {"data": {"path": "events.csv"}, "models": [{"model": "my.py:bayes"}], "folds": 2}
        >>> higgsbench.run(config, output="mine", jobs=1).rows[0]["label"]
        'bayes'
    """
    earlier = IMPORTED.get(Path(file).name)  # it was run before, and may have changed
    for spec in registered_models():
        if earlier is not None and spec.code.endswith(earlier.code):
            _MODELS.remove(spec.name)
    before = registered_models()
    found = run_file(file)
    for spec in registered_models():
        if not any(spec is known for known in before):
            _MODELS.add(_of_file(spec, found), replace=True)


def _of_file(spec: ModelSpec, file: ImportedFile) -> ModelSpec:
    """Return the record of a model that a file defines: the file is part of its identity, its classes are trusted."""
    return dataclasses.replace(spec, code=spec.code + file.code, trusted=(*spec.trusted, *file.types))


def register_model(spec: ModelSpec, *, replace: bool = False) -> ModelSpec:
    """Add a model to the registry of this process and return its record.

    Args:
        spec: the model's record.
        replace: whether it may replace a model of the same name.

    Raises:
        ModelError: if the name is taken and `replace` is false, or `spec` is not a `ModelSpec`.

    Example:
        >>> from sklearn.ensemble import ExtraTreesClassifier
        >>> def build(params, context):
        ...     return ExtraTreesClassifier(**params, random_state=context.seed, n_jobs=context.threads)
        >>> spec = higgsbench.register_model(higgsbench.ModelSpec("extra_trees", build))
        >>> settings = ["models=[extra_trees]"]
        >>> result = higgsbench.run("quick", data="events.csv", settings=settings, output="forests")
        >>> result.rows[0]["model"]
        'extra_trees'
    """
    return _MODELS.add(spec, replace=replace)


def model_names() -> tuple[str, ...]:
    """Return the names of all registered models."""
    return tuple(spec.name for spec in registered_models())


def storage_codecs(spec: ModelSpec) -> tuple[Codec, ...]:
    """Return the formats in which fitted estimators of a model may be stored: its own, those of all models, skops."""
    from higgsbench.models.sklearn_codecs import SklearnCodec

    shared = (codec for other in registered_models() for codec in other.codecs)
    return (*spec.codecs, *shared, SklearnCodec(frozenset(map(str, spec.trusted))))


_PREFIX = "higgsbench_import_"
"""Prefix of the names of these modules, so that a file named random.py does not replace the module `random`."""

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
