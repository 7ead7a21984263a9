"""Export a row of a run, or its stack, as one ONNX graph or as model files of the boosting libraries with a recipe."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench import __version__
from higgsbench.errors import ConfigError, MissingExtraError, ModelError, StoreError
from higgsbench.export.graph import IR_VERSION, OPSET, TREES_OPSET, Graph, log_odds
from higgsbench.export.trees import best_rounds
from higgsbench.files import check_folder_of, temporary_path, told_plainly, write_bytes, write_json, write_text
from higgsbench.runs import find_run
from higgsbench.runs.predictor import FittedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from higgsbench.features import Quantity
    from higgsbench.runs import RunResult
    from higgsbench.runs.predictor import FittedRow, Predictor
    from higgsbench.runs.stored import StoredRun

FORMAT = 1
"""Version of `combine.json`."""

RECIPE = "combine.json"

_LARGEST = 2**31 - 1
_CERTAINLY_MISSING = 99.0
"""A sentinel of at least this size means "missing" in every column; a smaller one only in columns of the file,
because a computed feature may have such a value."""


def export_onnx(
    run: str | Path | StoredRun | RunResult,
    output: str | Path,
    *,
    model: str | None = None,
    fold: int | None = None,
    results: str | Path = "results",
) -> Path:
    """Write the models of a run as one ONNX graph, which onnxruntime evaluates in C++, Python and other languages.

    The graph takes `features`, float32 (n, p), and returns `log_odds`, float32 (n,), in physical normalisation, and
    `selected`, bool (n,): whether the log-odds are at or above the frozen cut. It includes imputation, scaling, the
    choice of the submodel by jet number, bags of seeds, the mean of the fold models, recalibration and the blend of a
    stack. The metadata names the p columns in order, with units (key `columns`). NaN and the layout's sentinel mark
    missing values. Pass a category as its position in the `categories` of its column. Events whose jet number belongs
    to no group get NaN and are not selected.

    Args:
        run: the run.
        output: file to write; the name ends with .onnx.
        model: row to export, by name or label; the stack when None, or the only row.
        fold: export only the models that did not see this fold (of the first repeat), with its recalibration and blend.
            Score the events of that fold with them, as `predict` does; the cut is that of the run.
        results: folder that holds runs.

    Returns:
        The file.

    Raises:
        ConfigError: for a row or fold that the run does not have, or rows whose features have the same names but
            different definitions.
        ModelError: if a model cannot be written as ONNX.
        StoreError: if the models are not stored, or the file cannot be written.
        MissingExtraError: if onnx is not installed.

    Example:
        >>> import higgsbench
        >>> higgsbench.export_onnx("results/all-1a2b3c4d", "model.onnx")  # doctest: +SKIP
        PosixPath('model.onnx')
    """
    target = Path(output).expanduser()
    if target.suffix != ".onnx":
        raise StoreError(f"{target}: the name must end with .onnx")
    check_folder_of(target, StoreError)
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("export onnx", "onnx") from error
    stored = find_run(run, results)
    predictor = chosen_models(stored, model, fold)
    built = _model(predictor)
    described = about(stored, predictor, fold).items()
    onnx.helper.set_model_props(built, {key: v if isinstance(v, str) else json.dumps(v) for key, v in described})
    if built.ByteSize() > _LARGEST:
        raise ModelError(
            f"{target}: the graph is larger than 2 GiB, the limit of ONNX; choose a row with --model or --fold"
        )
    onnx.checker.check_model(built)
    with told_plainly(StoreError, target):
        write_bytes(target, built.SerializeToString())
    return target


def chosen_models(stored: StoredRun, model: str | None, fold: int | None) -> Predictor:
    """Return the scorer of a row or the stack, with all its models or with those that did not see a fold."""
    fitted = FittedRun(stored)
    predictor, folds = fitted.held_out(model), fitted.content.folds
    if not predictor.rows:
        raise ModelError(f"{stored.folder}: no member of the stack has a weight; choose a row with --model")
    if fold is None:
        return predictor
    scorers = fitted.of_folds(predictor)
    if folds is None or not scorers:
        raise ConfigError(
            "--fold: the run stores the refit, not the models of its folds (test_prediction: refit), or an earlier "
            "version made it; run the configuration again, with `fold_mean`"
        )
    if not 0 <= fold < folds.number:
        raise ConfigError(f"--fold {fold}: the run has folds 0 to {folds.number - 1}")
    return scorers[fold]


def input_columns(predictor: Predictor) -> list[dict[str, Any]]:
    """Describe the inputs in order: the features of all rows, then the group number if needed and not a feature."""
    schema = predictor.schema
    found: dict[str, tuple[str, Quantity]] = {}
    for quantity in (q for row in predictor.rows for q in row.features.quantities):
        definition = quantity.identity or str(quantity.expression)
        if found.setdefault(quantity.name, (definition, quantity))[0] != definition:
            raise ConfigError(
                f"the rows of {predictor.name!r} have different features named {quantity.name!r}; choose a row with "
                "--model, or rename one"
            )
    columns: list[dict[str, Any]] = [
        {"name": name, "unit": q.unit, "formula": q.formula, **({"categories": q.categories} if q.categories else {})}
        for name, (_, q) in found.items()
    ]
    if schema.group is not None and schema.group not in found and any(row.entry.groups for row in predictor.rows):
        columns.append({"name": schema.group, "unit": "", "formula": "column that chooses the submodel"})
    for column in columns:
        everywhere = schema.missing is not None and abs(schema.missing) >= _CERTAINLY_MISSING
        own = schema.missing if everywhere or column["name"] in schema.numeric else None
        column["missing"] = None if own is None or np.isnan(own) else own
    return columns


def about(stored: StoredRun, predictor: Predictor, fold: int | None) -> dict[str, Any]:
    """Describe the exported models, for the metadata of any format."""
    return {
        "higgsbench": __version__,
        "run": stored.name,
        "row": predictor.name,
        "fold": "all" if fold is None else fold,
        "layout": predictor.schema.name,
        "group": predictor.schema.group,
        "columns": input_columns(predictor),
        "threshold": predictor.threshold,
    }


def blend_terms(predictor: Predictor) -> tuple[list[float], float]:
    """Return the weight of each row and the intercept of the final score."""
    blend = predictor.blend
    if blend is None:
        return [1.0], 0.0
    weights = [float(c) for c in blend.coefficients]
    return weights, blend.intercept + blend.prior * (1.0 - sum(weights))


def _model(predictor: Predictor) -> Any:
    from onnx import TensorProto, helper

    columns, g = input_columns(predictor), Graph()
    sentinels = np.array([np.nan if c["missing"] is None else c["missing"] for c in columns], dtype=np.float32)
    x = g("Where", g("Equal", "features", sentinels), np.float32(np.nan), "features")
    names = [column["name"] for column in columns]
    scores = [_row(g, row, x, names, predictor.schema.group) for row in predictor.rows]
    weights, intercept = blend_terms(predictor)
    score = g("Reshape", g.scaled(list(zip(scores, weights, strict=True)), intercept), np.array([-1], dtype=np.int64))
    ends = {
        "log_odds": g.cast(score, np.float32),
        "selected": g("GreaterOrEqual", score, np.float64(predictor.threshold)),
    }
    for name, end in ends.items():
        g.nodes.append(helper.make_node("Identity", [end], [name]))
    graph = helper.make_graph(
        g.nodes,
        "higgsbench",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["events", len(columns)])],
        [helper.make_tensor_value_info("log_odds", TensorProto.FLOAT, ["events"]),
         helper.make_tensor_value_info("selected", TensorProto.BOOL, ["events"])],
        g.constants,
    )  # fmt: skip
    versions = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", TREES_OPSET)]
    return helper.make_model(
        graph, opset_imports=versions, ir_version=IR_VERSION, producer_name="higgsbench", producer_version=__version__
    )


def _row(g: Graph, row: FittedRow, x: str, names: list[str], group: str | None) -> str:
    """Add the models of a row and return its log-odds (n, 1) for new events."""
    groups, seen = row.entry.groups, list(row.features.columns)
    number = g.columns(x, [names.index(str(group))]) if groups is not None else ""
    inputs = g.columns(x, [names.index(name) for name in (seen if groups is None else [*seen, str(group)])])
    try:
        score = g.mean([log_odds(g, model, inputs) for model in row.models])
    except ModelError as error:
        raise ModelError(f"{row.entry.name!r} cannot be exported: {error}; choose another row with --model") from error
    if row.entry.calibration is None:
        return score
    parts = [g.scaled([(score, float(slope))], float(intercept)) for slope, intercept in row.entry.calibration]
    return parts[0] if groups is None else g.by_group(number, groups, parts)


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
            recipe["rows"] = [{**_row_in_files(row, folder, str(at)), "weight": weight} for at, (row, weight) in rows]
            write_json(folder / RECIPE, recipe)
            folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _row_in_files(row: FittedRow, folder: Path, prefix: str) -> dict[str, Any]:
    """Write the models of a row into a folder and describe them."""
    entry, columns = row.entry, row.features.columns
    models = []
    for number, model in enumerate(row.models):
        if entry.groups is None:
            parts = [(model, columns)]
        else:
            chosen = (tuple(columns[at] for at in seen) for seen in model.columns_)
            parts = list(zip(model.submodels_, chosen, strict=True))
        models.append(
            [_in_file(part, names, folder, f"{prefix}-{number}-{at}") for at, (part, names) in enumerate(parts)]
        )
    described = {"name": entry.name, "model": entry.model, "groups": entry.groups, "calibration": entry.calibration}
    return {**described, "models": models}


def _in_file(model: Any, names: Sequence[str], folder: Path, prefix: str) -> dict[str, Any]:
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
