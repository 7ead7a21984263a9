"""Layer 2: one frozen record per model in a registry; each builds a scikit-learn-compatible estimator.

The registry finds the models that come with higgsbench in the modules of `higgsbench.models.builtin`; installed
packages add more through the entry-point group `higgsbench.models`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from higgsbench.errors import ModelError
from higgsbench.models.spec import PRESETS, BuildContext, ModelSpec, Preset
from higgsbench.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.models.imported import ImportedFile
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
    from higgsbench.models.imported import named

    found, file = named(name)
    title = Path(name).name
    spec = dataclasses.replace(found, name=title) if isinstance(found, ModelSpec) else ModelSpec(title, found)
    return _of_file(spec, file)


def import_models(file: str | Path) -> None:
    r"""Run a Python file with your own models, as the option `--import` does.

    The file may call `register_model`; and configurations may name what it defines as `my.py:NAME`: a function of
    parameters and a `BuildContext`, a scikit-learn classifier, or a `ModelSpec`. Changing the file trains its models
    again. Worker processes get its content by value; it cannot import other files beside it.

    Args:
        file: the Python file. Run only files that you trust.

    Raises:
        ModelError: if there is no such file, or it fails; naming its line.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("my.py").write_text("from sklearn.naive_bayes import GaussianNB\nbayes = GaussianNB()\n")
        >>> higgsbench.import_models("my.py")
        >>> config = {"data": {"source": "simulated"}, "models": [{"model": "my.py:bayes"}]}
        >>> higgsbench.api.resolve_config(config)["models"][0]["label"]
        'bayes'
    """
    from higgsbench.models.imported import IMPORTED, run_file

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
        >>> result = higgsbench.run("quick", data="events.csv", only=["extra_trees"], settings=["models=[extra_trees]"])
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
