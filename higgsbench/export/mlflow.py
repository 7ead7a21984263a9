"""Layer 6: log a stored run to MLflow, with a nested run for each row; this needs a named server or store."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from higgsbench.errors import ConfigError, MissingExtraError, StoreError
from higgsbench.files import ROWS, file_digest, read_vouched
from higgsbench.leaderboard import Leaderboard
from higgsbench.runs import find_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from higgsbench.runs import RunResult
    from higgsbench.runs.stored import StoredRow, StoredRun

_FILES = (ROWS, "config.yaml", "environment.json", "stack.json")
_FIGURES = (".html", ".pdf", ".png", ".svg")
_SETTINGS = ("label", "model", "variant", "features", "n_features", "preset", "training_weights", "calibration", "seed")
_PARAM_LENGTH = 500
"""Limit of the oldest servers; rows.json has every value in full."""
_AT_A_TIME = 100
_DIGEST_TAG = "higgsbench_rows"


@dataclass(frozen=True)
class Exported:
    """A run in MLflow.

    Attributes:
        run_id: MLflow's identifier of the run.
        experiment: name of the experiment.
        rows: number of nested runs.
        uri: tracking server or store, without credentials.
        new: False if the same rows were already in the experiment and nothing was sent.
    """

    run_id: str
    experiment: str
    rows: int
    uri: str
    new: bool


def export_mlflow(
    run: str | Path | StoredRun | RunResult,
    *,
    tracking_uri: str | None = None,
    experiment: str = "higgsbench",
    files: Sequence[str | Path] = (),
    results: str | Path = "results",
) -> Exported:
    """Log a stored run to MLflow: parameters, metrics with errors, tables, configuration and pictures.

    The run's folder gives rows.json, config.yaml, environment.json, stack.json and, where there are any, pages and
    pictures; fitted models and scores of single events stay where they are. MLflow's own usage telemetry is switched
    off for this process unless MLFLOW_DISABLE_TELEMETRY says otherwise.

    Args:
        run: the run.
        tracking_uri: where MLflow keeps its records, such as `sqlite:///mlflow.db` or a server's address; the
            environment variable MLFLOW_TRACKING_URI when None.
        experiment: experiment to log to; a new one is made if needed.
        files: further files to log, such as a report.
        results: folder that holds runs.

    Returns:
        The run in MLflow. Rows that were exported to the experiment before are not sent again.

    Raises:
        ConfigError: if no server or store is named.
        StoreError: if the run is unfinished, a file is missing, or MLflow refuses.
        MissingExtraError: if MLflow is not installed.

    Example:
        >>> higgsbench.export_mlflow("latest", tracking_uri="sqlite:///mlflow.db")  # doctest: +SKIP
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ConfigError("--tracking-uri: say where MLflow keeps its records (or set MLFLOW_TRACKING_URI)")
    stored = find_run(run, results)
    attached = [Path(file).expanduser() for file in files]
    missing = [file for file in attached if not file.is_file()]
    if missing:
        raise StoreError(f"{missing[0]}: no such file")
    logged, shown = [*_files_of(stored.folder), *attached], without_credentials(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtraError("logging a run to MLflow", "mlflow") from error
    try:
        # A database store imports its dependencies only now.
        run_id, new = _export(mlflow.MlflowClient(tracking_uri=uri), experiment, stored, logged)
    except mlflow.exceptions.MlflowException as error:
        # Servers may answer with pages of text, and the address may contain a password.
        message = str(error).replace(uri, shown).strip().splitlines()[0][:300]
        raise StoreError(f"MLflow at {shown}: {message}") from None
    except ModuleNotFoundError as error:
        raise StoreError(f"MLflow at {shown}: a store of this kind needs {error.name}: pip install mlflow") from error
    return Exported(run_id, experiment, len(stored.rows), shown, new)


def without_credentials(uri: str) -> str:
    """Return an address without user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def _files_of(folder: Path) -> list[Path]:
    """Return the files of a run that are logged, after a check; links are left out because they may lead elsewhere."""
    pictures = sorted(p for place in (folder, folder / "report") for p in place.glob("*") if p.suffix in _FIGURES)
    candidates = (*(folder / name for name in _FILES), *pictures)
    files = [file for file in candidates if file.is_file() and not file.is_symlink()]
    for file in files:
        read_vouched(folder, str(file.relative_to(folder)))
    return files


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a record: finite numbers that are not settings."""
    found = {k: v for k, v in record.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {_name(k): float(v) for k, v in found.items() if k not in _SETTINGS and math.isfinite(v)}


def _name(text: str) -> str:
    """Return a name that MLflow accepts."""
    return re.sub(r"[^\w.\- /]", "_", text)


def _texts(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings with names and lengths that MLflow accepts."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in content.items()}
    return {_name(f"{prefix}{key}"): text[:_PARAM_LENGTH] for key, text in texts.items()}


def _export(client: Any, experiment: str, run: StoredRun, files: list[Path]) -> tuple[str, bool]:
    """Return MLflow's identifier of the run, and whether it is new."""
    known = client.get_experiment_by_name(experiment)
    place = client.create_experiment(experiment) if known is None else known.experiment_id
    digest = file_digest(run.folder / ROWS)
    query = f"tags.{_DIGEST_TAG} = '{digest}' and attributes.status = 'FINISHED'"
    for before in client.search_runs([place], filter_string=query, max_results=1):
        return before.info.run_id, False
    parent = client.create_run(place, run_name=run.name).info.run_id
    try:
        _log(client, parent, _texts({"source": run.source, **run.comparability}), {})
        board = Leaderboard.read(run.folder)
        for form, ending in (("markdown", "md"), ("csv", "csv")):
            client.log_text(parent, board.render(form), f"leaderboard.{ending}")
        first = board.tables[0].rows[0] if board.tables else {}
        if first.get("rank") == 1:
            client.set_tag(parent, "best_row", first["name"])
            best = {f"best_{key}": value for key, value in _numbers(first).items() if key != "rank"}
            _log(client, parent, {}, best)
        for file in files:
            client.log_artifact(parent, str(file))
        for row in run.rows:
            _log_row(client, place, parent, row)
        client.set_tag(parent, _DIGEST_TAG, digest)
    except BaseException:
        with contextlib.suppress(Exception):
            client.set_terminated(parent, status="FAILED")
        raise
    client.set_terminated(parent)
    return parent, True


def _log_row(client: Any, place: str, parent: str, row: StoredRow) -> None:
    tags = {"mlflow.parentRunId": parent, "status": row.record["status"]}
    if not row.ok:
        tags["error"] = str(row.record.get("error", ""))[:_PARAM_LENGTH]
    run_id = client.create_run(place, run_name=row.name, tags=tags).info.run_id
    settings = {key: row.record[key] for key in (*_SETTINGS, "cut_rule", "digest") if key in row.record}
    params = _texts(row.record.get("params") or {}, "params.")
    _log(client, run_id, _texts(settings) | params, _numbers(row.record))
    client.set_terminated(run_id, status="FINISHED" if row.ok else "FAILED")


def _log(client: Any, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric, Param
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    items = [Param(key, text) for key, text in params.items()]
    for start in range(0, len(items), _AT_A_TIME):
        client.log_batch(run_id, params=items[start : start + _AT_A_TIME])
    numbers = [Metric(key, value, now, 0) for key, value in metrics.items()]
    for start in range(0, len(numbers), _AT_A_TIME):
        client.log_batch(run_id, metrics=numbers[start : start + _AT_A_TIME])
