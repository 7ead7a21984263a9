"""A stored run in MLflow's tracking: one run, with a nested run for each row. Sends nothing unless told where."""

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
from higgsbench.files import file_digest, read_vouched
from higgsbench.leaderboard.board import Leaderboard
from higgsbench.runs.stored import StoredRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from higgsbench.runs.stored import StoredRow

__all__ = ["Exported", "export_mlflow"]

_FILES = ("rows.json", "config.yaml", "environment.json", "stack.json")
_FIGURES = (".html", ".pdf", ".png", ".svg")
_SETTINGS = ("label", "model", "variant", "features", "n_features", "preset", "training_weights", "calibration", "seed")
_SETTINGS_OF_ROW = (*_SETTINGS, "cut_rule", "digest")
_PARAM_LENGTH = 500
"""What servers of all versions take; rows.json carries every value in full."""
_PARAMS_AT_A_TIME = 100
_DIGEST_TAG = "higgsbench_rows"


@dataclass(frozen=True)
class Exported:
    """Where a run stands in MLflow.

    Attributes:
        run_id: MLflow's number of the run.
        experiment: name of the experiment.
        rows: number of nested runs.
        uri: tracking server or store, without credentials.
        new: False where the same rows had been exported to the experiment before, and nothing was sent.
    """

    run_id: str
    experiment: str
    rows: int
    uri: str
    new: bool


def export_mlflow(
    run: str | Path,
    *,
    tracking_uri: str | None = None,
    experiment: str = "higgsbench",
    files: Sequence[str | Path] = (),
) -> Exported:
    """Log a stored run to MLflow: parameters, metrics with errors, tables, configuration and pictures.

    The run's folder gives rows.json, config.yaml, environment.json, stack.json and, where there are any, pages and
    pictures; fitted models and scores of single events stay where they are. MLflow's own usage telemetry is switched
    off for this process unless MLFLOW_DISABLE_TELEMETRY says otherwise.

    Args:
        run: the run's folder.
        tracking_uri: where MLflow keeps its records, such as `sqlite:///mlflow.db` or a server's address; the
            environment variable MLFLOW_TRACKING_URI when None.
        experiment: experiment to log to; it is made where there is none.
        files: further files to log, such as a report.

    Returns:
        Where the run stands; an export of the same rows to the same experiment is found and not repeated.

    Raises:
        ConfigError: if no place is named.
        StoreError: if the run is unfinished, a file is missing, or MLflow refuses.
        MissingExtraError: if MLflow is not installed.
    """
    folder = Path(run).expanduser()
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ConfigError("--tracking-uri: name where MLflow keeps its records (or set MLFLOW_TRACKING_URI)")
    rows = list(StoredRun(folder).rows)
    for file in _files_of(folder):
        read_vouched(folder, str(file.relative_to(folder)))
    attached = [Path(file).expanduser() for file in files]
    for file in attached:
        if not file.is_file():
            raise StoreError(f"{file}: no such file")
    shown = without_credentials(uri)
    library = _mlflow()
    try:
        # A database store imports what it needs only now.
        client = library.MlflowClient(tracking_uri=uri)
        return _Export(client, folder, rows, [*_files_of(folder), *attached], shown).carry_out(experiment)
    except library.exceptions.MlflowException as error:
        # Servers answer with pages of text, and an address in it may hold a password.
        message = str(error).replace(uri, shown).strip().splitlines()[0][:300]
        raise StoreError(f"MLflow at {shown}: {message}") from None
    except ModuleNotFoundError as error:
        raise StoreError(f"MLflow at {shown}: a store of this kind needs {error.name}: pip install mlflow") from error


def without_credentials(uri: str) -> str:
    """Return an address without user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def _mlflow() -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtraError("logging a run to MLflow", "mlflow") from error
    return mlflow


def _files_of(folder: Path) -> list[Path]:
    """Return what a run's folder has to show; a link might lead to a file that is not the run's."""
    pictures = sorted(p for place in (folder, folder / "report") for p in place.glob("*") if p.suffix in _FIGURES)
    return [p for p in (*(folder / name for name in _FILES), *pictures) if p.is_file() and not p.is_symlink()]


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a record: numbers that are finite and no settings."""
    found = {k: v for k, v in record.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {k: float(v) for k, v in found.items() if k not in _SETTINGS and math.isfinite(v)}


def _texts(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings under names and of a length that MLflow takes."""
    out = {}
    for key, value in content.items():
        text = value if isinstance(value, str) else json.dumps(value)
        out[re.sub(r"[^\w.\- /]", "_", f"{prefix}{key}")] = text[:_PARAM_LENGTH]
    return out


class _Export:
    def __init__(self, client: Any, folder: Path, rows: list[StoredRow], files: list[Path], uri: str) -> None:
        self.client = client
        self.folder = folder
        self.rows = rows
        self.files = files
        self.uri = uri

    def carry_out(self, experiment: str) -> Exported:
        known = self.client.get_experiment_by_name(experiment)
        place = self.client.create_experiment(experiment) if known is None else known.experiment_id
        digest = file_digest(self.folder / "rows.json")
        query = f"tags.{_DIGEST_TAG} = '{digest}' and attributes.status = 'FINISHED'"
        before = self.client.search_runs([place], filter_string=query, max_results=1)
        if before:
            return Exported(before[0].info.run_id, experiment, len(self.rows), self.uri, new=False)
        parent = self.client.create_run(place, run_name=self.folder.name).info.run_id
        try:
            self._log_run(parent)
            for row in self.rows:
                self._log_row(place, parent, row)
            self.client.set_tag(parent, _DIGEST_TAG, digest)
        except BaseException:
            with contextlib.suppress(Exception):
                self.client.set_terminated(parent, status="FAILED")
            raise
        self.client.set_terminated(parent)
        return Exported(parent, experiment, len(self.rows), self.uri, new=True)

    def _log_run(self, run_id: str) -> None:
        shared = {"source": self.rows[0].run.source, **self.rows[0].run.comparability} if self.rows else {}
        self._log(run_id, _texts(shared), {})
        board = Leaderboard.read(self.folder)
        for form, ending in (("markdown", "md"), ("csv", "csv")):
            self.client.log_text(run_id, board.render(form), f"leaderboard.{ending}")
        first = board.tables[0].rows[0] if board.tables else {}
        if first.get("rank") == 1:
            self.client.set_tag(run_id, "best_row", first["name"])
            self._log(run_id, {}, {f"best_{key}": value for key, value in _numbers(first).items() if key != "rank"})
        for file in self.files:
            self.client.log_artifact(run_id, str(file))

    def _log_row(self, place: str, parent: str, row: StoredRow) -> None:
        record = row.record
        tags = {"mlflow.parentRunId": parent, "status": record["status"]}
        if not row.ok:
            tags["error"] = str(record.get("error", ""))[:_PARAM_LENGTH]
        run_id = self.client.create_run(place, run_name=record["name"], tags=tags).info.run_id
        settings = {key: record[key] for key in _SETTINGS_OF_ROW if key in record}
        params = record.get("params")
        texts = _texts(settings) | _texts(params if isinstance(params, dict) else {}, "params.")
        self._log(run_id, texts, _numbers(record))
        self.client.set_terminated(run_id, status="FINISHED" if row.ok else "FAILED")

    def _log(self, run_id: str, params: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        items = [Param(key, text) for key, text in params.items()]
        for start in range(0, len(items), _PARAMS_AT_A_TIME):
            self.client.log_batch(run_id, params=items[start : start + _PARAMS_AT_A_TIME])
        if metrics:
            self.client.log_batch(run_id, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()])
