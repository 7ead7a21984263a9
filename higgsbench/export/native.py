"""Write a row of a run, or its stack, as model files of the boosting libraries with a recipe that combines them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ModelError, StoreError
from higgsbench.export.onnx import about, blend_terms, chosen_models
from higgsbench.export.trees import best_rounds
from higgsbench.files import check_folder_of, temporary_path, told_plainly, write_json, write_text
from higgsbench.runs import find_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from higgsbench.runs import RunResult
    from higgsbench.runs.predictor import FittedRow
    from higgsbench.runs.stored import StoredRun

FORMAT = 1
RECIPE = "combine.json"


def export_native(
    run: str | Path | StoredRun | RunResult,
    output: str | Path,
    *,
    model: str | None = None,
    fold: int | None = None,
    results: str | Path = "results",
) -> Path:
    """Write the boosted trees of a run as files of their libraries, with feature names, and `combine.json`.

    XGBoost writes UBJSON, LightGBM text, CatBoost cbm. `combine.json` says how to combine their raw predictions; docs/
    deploy.md explains its keys. Missing values are NaN.

    Args:
        run: the run.
        output: folder to write, which does not exist yet or is empty.
        model: row to export, by name or label; the stack when None, or the only row.
        fold: export only the models that did not see this fold (of the first repeat); see `export_onnx`.
        results: folder that holds runs.

    Returns:
        The folder.

    Raises:
        ConfigError: as for `export_onnx`.
        ModelError: if a row has models other than boosted trees.
        StoreError: if the models are not stored, or the folder exists or cannot be written.

    Example:
        >>> import higgsbench
        >>> higgsbench.export_native("results/all-1a2b3c4d", "deploy")  # doctest: +SKIP
        PosixPath('deploy')
    """
    target = Path(output).expanduser()
    check_folder_of(target, StoreError)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise StoreError(f"{target}: already exists; choose a new folder")
    stored = find_run(run, results)
    predictor = chosen_models(stored, model, fold)
    weights, intercept = blend_terms(predictor)
    recipe = {"format": FORMAT, **about(stored, predictor, fold), "intercept": intercept}
    folder = temporary_path(target)
    try:
        with told_plainly(StoreError, target):
            folder.mkdir()
            rows = enumerate(zip(predictor.rows, weights, strict=True))
            recipe["rows"] = [{**_row(row, folder, str(at)), "weight": weight} for at, (row, weight) in rows]
            write_json(folder / RECIPE, recipe)
            folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _row(row: FittedRow, folder: Path, prefix: str) -> dict[str, Any]:
    """Write the models of a row into a folder and describe them."""
    entry, columns = row.entry, row.features.columns
    models = []
    for number, model in enumerate(row.models):
        if entry.groups is None:
            parts = [(model, columns)]
        else:
            chosen = (tuple(columns[at] for at in seen) for seen in model.columns_)
            parts = list(zip(model.submodels_, chosen, strict=True))
        models.append([_part(part, names, folder, f"{prefix}-{number}-{at}") for at, (part, names) in enumerate(parts)])
    described = {"name": entry.name, "model": entry.model, "groups": entry.groups, "calibration": entry.calibration}
    return {**described, "models": models}


def _part(model: Any, names: Sequence[str], folder: Path, prefix: str) -> dict[str, Any]:
    """Write the members of a `PhysicalClassifier` around trees, which sees some columns."""
    inner, files = model.estimator_, []
    for number, member in enumerate(inner.estimators_ if type(inner).__name__ == "SeedBag" else [inner]):
        known = _WRITERS.get(type(member).__name__)
        if known is None:
            what = f"{type(member).__name__} is not a model of XGBoost, LightGBM or CatBoost"
            raise ModelError(f"{what}; choose a row of these with --model, or use `export onnx`")
        library, ending, write = known
        files.append(f"{prefix}-{number}-{library}.{ending}")
        # Libraries refuse brackets, quotes and spaces in names; combine.json has the original names.
        write(member, [re.sub(r"[^\w.+-]", "_", name) for name in names], folder / files[-1])
    return {"columns": list(names), "shift": model.prior_shift_, "files": files}


def _xgboost(model: Any, names: list[str], file: Path) -> None:
    if not np.isnan(model.missing):
        raise ModelError(f"XGBoost's file cannot store missing: {model.missing:g}; use `export onnx`")
    booster = best_rounds(model)
    booster.feature_names = names
    booster.save_model(file)


def _lightgbm(model: Any, names: list[str], file: Path) -> None:
    lines = model.booster_.model_to_string().splitlines()
    lines = [f"feature_names={' '.join(names)}" if line.startswith("feature_names=") else line for line in lines]
    write_text(file, "\n".join([*lines, ""]))


def _catboost(model: Any, names: list[str], file: Path) -> None:
    model.set_feature_names(names)
    model.save_model(str(file), format="cbm")


_WRITERS: dict[str, tuple[str, str, Callable[[Any, list[str], Path], None]]] = {
    "XGBClassifier": ("xgboost", "ubj", _xgboost),
    "LoadedLightGBM": ("lightgbm", "txt", _lightgbm),
    "CatBoostClassifier": ("catboost", "cbm", _catboost),
}
