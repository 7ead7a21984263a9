"""A run in MLflow: what is logged, once, and nothing where no place was named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from higgsbench.errors import ConfigError, MissingExtraError, StoreError
from higgsbench.export.mlflow import export_mlflow, without_credentials
from tests.conftest import Call

pytestmark = pytest.mark.filterwarnings("default")  # MLflow warns of its own plans

SHARED = {"events": 100, "folds": 2, "data": "d" * 64, "fold_digest": "f" * 64, "n_s": 5.5, "simulated": True}
NUMBERS = {"ams_cv": 1.25, "ams_cv_se": 0.1, "auc": 0.8, "auc_se": 0.01, "log_loss": 0.5, "fraction": 0.2, "s": 3.0,
           "b": 4.0}  # fmt: skip


def record(name: str, **more: Any) -> dict[str, Any]:
    base = {"name": name, "label": name, "variant": "global", "status": "ok", "digest": "0" * 8, "seed": 42}
    return {**base, "model": name, **NUMBERS, **more}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run-1a2b"
    folder.mkdir()
    rows = [
        record("deep", params={"max_depth": 3, "what?": [1, None], "long": "x" * 9000}, log_loss_se=float("nan")),
        record("flat", ams_cv=1.5),
        {**record("bad"), "status": "failed", "error": "ValueError: no"},
    ]
    content = {"rows": rows, "comparability": SHARED, "source": "toys.csv"}
    (folder / "rows.json").write_text(json.dumps(content))
    (folder / "config.yaml").write_text("folds: 2\n")
    (folder / "figure.png").write_bytes(b"picture")
    (tmp_path / "secret.svg").write_text("not the run's")
    (folder / "link.svg").symlink_to(tmp_path / "secret.svg")
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of files in MLflow; nothing is left of the user's own settings."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return (tmp_path / "mlruns").as_uri()


def client(uri: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri)


def logged(uri: str) -> list[Any]:
    known = client(uri).get_experiment_by_name("higgsbench")
    return list(client(uri).search_runs([known.experiment_id], order_by=["attributes.start_time"]))


def test_everything_is_logged(run: Path, store: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>")
    done = export_mlflow(run, tracking_uri=store, files=[tmp_path / "report.html"])
    found = client(store).get_run(done.run_id)
    assert (done.new, done.rows, found.info.status, found.info.run_name) == (True, 3, "FINISHED", "run-1a2b")
    assert found.data.params == {
        "source": "toys.csv", "events": "100", "folds": "2", "data": "d" * 64, "fold_digest": "f" * 64, "n_s": "5.5",
        "simulated": "true",
    }  # fmt: skip
    assert (found.data.tags["best_row"], found.data.metrics["best_ams_cv"]) == ("flat", 1.5)
    names = {file.path for file in client(store).list_artifacts(done.run_id)}
    assert names == {"rows.json", "config.yaml", "leaderboard.md", "leaderboard.csv", "figure.png", "report.html"}
    rows = {r.info.run_name: r for r in logged(store) if r.data.tags.get("mlflow.parentRunId") == done.run_id}
    assert set(rows) == {"deep", "flat", "bad"}
    assert rows["deep"].data.metrics == NUMBERS
    params = rows["deep"].data.params
    assert (params["params.max_depth"], params["params.what_"], params["seed"]) == ("3", "[1, null]", "42")
    assert params["params.long"] == "x" * 500
    assert (rows["bad"].info.status, rows["bad"].data.tags["error"]) == ("FAILED", "ValueError: no")


def test_the_same_rows_are_logged_once(run: Path, store: str) -> None:
    first = export_mlflow(run, tracking_uri=store)
    again = export_mlflow(run, tracking_uri=store)
    assert (again.run_id, again.new) == (first.run_id, False)
    assert len(logged(store)) == 4
    content = json.loads((run / "rows.json").read_text())
    content["rows"].pop()
    (run / "rows.json").write_text(json.dumps(content))
    assert export_mlflow(run, tracking_uri=store).new
    assert export_mlflow(run, tracking_uri=store, experiment="other").new


def test_a_broken_export_is_marked_and_made_again(run: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    def broken(*args: Any, **kwargs: Any) -> None:
        raise mlflow.exceptions.MlflowException(f"no disk at {store}\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "log_artifact", broken)
        with pytest.raises(StoreError, match=r"MLflow at file://.*: no disk at .*mlruns$"):
            export_mlflow(run, tracking_uri=store)
    assert [r.info.status for r in logged(store)] == ["FAILED"]
    assert export_mlflow(run, tracking_uri=store).new


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # MLflow leaves its database open
def test_command_line_with_a_database(
    run: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    for name in ("sqlalchemy", "alembic"):
        pytest.importorskip(name, reason="a database store of MLflow needs it")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    for what in ("3 rows logged", "its 3 rows had been logged before"):
        code, out, _ = call("export", "mlflow", run)
        assert code == 0
        assert out.startswith(f"{run}: {what}, experiment 'higgsbench', run ")
    assert (tmp_path / "mlflow.db").stat().st_size > 0


def test_nothing_is_sent_where_no_place_is_named(run: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    code, _, err = call("export", "mlflow", run)
    assert code == 2
    assert "--tracking-uri: say where MLflow keeps its records" in err
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        export_mlflow(run)
    with pytest.raises(MissingExtraError, match=r"higgsbench\[mlflow\]"):
        export_mlflow(run, tracking_uri="sqlite:///x.db")


def test_what_cannot_be_logged_is_refused_before_anything_is_sent(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.html: no such file"):
        export_mlflow(run, tracking_uri="sqlite:///x.db", files=[tmp_path / "none.html"])
    (run / "rows.json").unlink()
    with pytest.raises(StoreError, match="run-1a2b: no finished run"):
        export_mlflow(run, tracking_uri="sqlite:///x.db")


def test_passwords_are_not_shown() -> None:
    assert without_credentials("https://me:secret@server:80/path?x=1") == "https://server:80/path?x=1"
