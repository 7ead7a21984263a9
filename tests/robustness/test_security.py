"""Files of strangers execute nothing, write nowhere but where they were asked to, and neither mark up nor steer."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import pickle
import re
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.cli.main import main
from tests.robustness.conftest import Refuse
from tests.robustness.test_bad_runs import forged, model, vouch, with_part

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)> &lt; '];\x1b[31m"


class Payload:
    """What a pickle would do: leave a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("open('owned', 'w')",))


def untouched(here: Path) -> None:
    assert not list(here.rglob("owned"))


def test_a_pickle_for_a_model_is_not_opened(here: Path, refuse: Refuse) -> None:
    model(lambda file: file.write_bytes(pickle.dumps(Payload())))(here / "run")
    assert "not a stored model of higgsbench" in refuse("predict", "run", "test.csv", "-o", "s.csv")
    untouched(here)


def test_pickled_arrays_in_a_model_are_not_opened(here: Path, refuse: Refuse) -> None:
    """The second row is made of scikit-learn parts, whose arrays are .npy files."""
    rows = json.loads((here / "run" / "predictor.json").read_text())["rows"]
    forged("predictor.json", lambda c: c.update(rows=list(reversed(rows))))(here / "run")
    planted = io.BytesIO()
    np.save(planted, np.array([Payload()], dtype=object), allow_pickle=True)
    with_part("0.npy", lambda _: planted.getvalue())(here / "run")
    line = refuse("predict", "run", "test.csv", "-o", "s.csv", "--model", "logistic")
    assert "Object arrays cannot be loaded" in line
    untouched(here)


def test_planted_pickles_beside_the_files_of_a_run_are_ignored(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model.pkl", "units/model.pkl", "units/x.joblib", "data.pickle"):
        (here / "run" / name).write_bytes(pickle.dumps(Payload()))
    for args in (
        ["leaderboard", "--results", "run"],
        ["members", "run"],
        ["predict", "run", "test.csv", "-o", "s.csv"],
    ):
        with pytest.raises(SystemExit, match="0"):
            main(args)
    untouched(here)


@pytest.mark.parametrize("module", ["os", "posix", "builtins"])
def test_skops_parts_of_foreign_types_are_refused(module: str, tmp_path: Path) -> None:
    from higgsbench.errors import StoreError
    from higgsbench.models import get_model, storage_codecs
    from higgsbench.models.storage import read_model

    schema = {
        "__class__": "system", "__module__": module, "__loader__": "FunctionNode", "__id__": 1,
        "content": {"module_path": module, "function": "system"}, "protocol": 2, "_skops_version": "0.13",
    }  # fmt: skip
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    node = {"kind": "sklearn", "part": "0.skops", "sklearn": importlib.metadata.version("scikit-learn")}
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("model.json", json.dumps({"format": 2, "model": node}))
        archive.writestr("0.skops", stream.getvalue())
    with pytest.raises(StoreError, match=f"the type {module}.system, which is not trusted"):
        read_model(tmp_path / "m.zip", storage_codecs(get_model("logistic")))


FOREIGN = "evil  evil:Model  evil.Model  ./evil.py  evil.py:Model  ./evil.py:Model  os:system  sklearn.svm.SVC"


@pytest.mark.parametrize("name", FOREIGN.split())
def test_a_model_names_a_record_and_never_a_module(name: str, here: Path, refuse: Refuse) -> None:
    (here / "evil.py").write_text("open('owned', 'w')\nclass Model: pass\n")
    (here / "c.yaml").write_text(f"models: [{{model: '{name}'}}]\n")
    problem = "is code in a file, which a configuration alone never runs" if ":" in name else "no model named"
    assert problem in refuse("run", "c.yaml", "--data", "train.csv")
    forged("predictor.json", lambda c: c["rows"][0].update(model=name))(here / "run")
    assert problem in refuse("predict", "run", "test.csv", "-o", "s.csv")
    assert "evil" not in sys.modules
    untouched(here)


def test_yaml_tags_construct_nothing(here: Path, refuse: Refuse) -> None:
    for tag in ("object/apply:os.system", "object/new:os.system", "module:os", "name:os.system"):
        (here / "c.yaml").write_text(f"models: !!python/{tag} ['touch owned']\n")
        assert "c.yaml:1" in refuse("run", "c.yaml", "--data", "train.csv")
    untouched(here)


def test_a_link_inside_a_run_leads_nowhere_when_the_run_goes_on(here: Path, refuse: Refuse) -> None:
    """A results folder from elsewhere whose run has its units somewhere else is not written to."""
    folder = higgsbench.run("c.yaml", data="train.csv", output="own", jobs=1).folder
    victim = here / "victim"
    (folder / "units").rename(victim)
    (folder / "units").symlink_to(victim)
    (folder / "rows.json").unlink()
    before = sorted(victim.iterdir())
    assert "a link" in refuse("run", "c.yaml", "--data", "train.csv", "--output", "own", "-j", "1", "-q")
    assert sorted(victim.iterdir()) == before


def test_units_of_runs_beside_are_taken_from_files_only(here: Path) -> None:
    from higgsbench.runs.store import RunStore

    folder = higgsbench.run("c.yaml", data="train.csv", output="own", jobs=1).folder
    key = next(iter(RunStore(folder).keys()))
    secret = here / "secret"
    secret.write_text("secret")
    beside = RunStore(here / "own" / "stranger")
    beside.prepare()
    (beside.units / f"{key}.json").write_bytes((folder / "units" / f"{key}.json").read_bytes())
    (beside.units / f"{key}.parquet").symlink_to(secret)
    (beside.units / f"{key}.model.zip").symlink_to(secret)
    fresh = RunStore(here / "own" / "fresh")
    fresh.prepare()
    assert fresh.adopt([key], [beside]) == 0
    assert list(fresh.units.iterdir()) == []


@pytest.mark.parametrize("command", ["predict run test.csv -o", "submit run test.csv -o", "data convert test.csv"])
def test_an_output_replaces_a_link_and_not_what_it_leads_to(command: str, here: Path) -> None:
    precious = here / "precious.csv"
    precious.write_text("precious")
    (here / "out.csv").symlink_to(precious)
    with pytest.raises(SystemExit, match="0"):
        main([*command.split(), "out.csv"])
    assert precious.read_text() == "precious"


def test_figures_of_odd_names_stay_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from higgsbench.pages.drawing import Pictures

    written: list[str] = []
    monkeypatch.setattr(Pictures, "_write", lambda self, folder, stem, figure: written.append(stem))
    monkeypatch.setattr("higgsbench.pages.drawing.svg_text", lambda figure: "<svg/>")
    pictures = Pictures(tmp_path / "figures")
    figure: Any = None
    for name in ("../../x", "/etc/passwd", "..", "a\x00b", "x" * 500, "CON", ""):
        pictures.add(name, figure, name)
    assert all(re.fullmatch(r"[a-z0-9.-]{1,83}", stem) and ".." not in stem for stem in written)


class Page(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.scripts = 0
        self.pictures: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} has {name}={value}"
            assert name != "srcdoc"
            if name in ("src", "href"):
                assert value is not None
                assert value.startswith(("#", "data:image/svg+xml;base64,"))
                if value.startswith("data:"):
                    self.pictures.append(base64.b64decode(value.partition(",")[2]).decode())


def harmless(text: str) -> Page:
    """Check that nothing of a page was brought in by the names on it."""
    page = Page()
    page.feed(text)
    assert "\x1b" not in text
    assert page.scripts <= 1
    assert not page.tags & {"iframe", "object", "embed", "link", "base", "form", "input", "svg"}
    for picture in page.pictures:
        for element in ElementTree.fromstring(picture).iter():  # noqa: S314  (matplotlib's own)
            kind = element.tag.rpartition("}")[2]
            assert kind not in ("script", "foreignObject", "a")
            links = [value for name, value in element.attrib.items() if name.endswith("href")]
            assert all(link.startswith("data:image/png;base64," if kind == "image" else "#") for link in links)
            assert not any(name.lower().startswith("on") for name in element.attrib)
    return page


def evil_rows(content: dict[str, Any]) -> None:
    content["source"] = EVIL
    content["left_out"] = [{"name": EVIL}]
    content["comparability"]["folds"] = EVIL
    content["comparability"]["data"] = EVIL
    for key in ("label", "variant", "features", "model", "run"):
        content["rows"][0][key] = EVIL
    content["rows"].append({**content["rows"][1], "name": EVIL, "label": EVIL, "status": "failed", "error": EVIL})


def test_leaderboards_escape_everything(here: Path) -> None:
    forged("rows.json", evil_rows)(here / "run")
    board = higgsbench.Leaderboard.read(here / "run")
    text = board.render("html")
    tags = "html head meta title style body main h1 h2 div table caption span thead tbody tr th td"
    tags += " a header nav ul li section footer button p script"
    assert harmless(text).tags <= set(tags.split())
    assert "&lt;script&gt;alert(1)" in text
    text = board.render("markdown")
    assert not any(sign in text for sign in ("<script", "<img", "\x1b"))


def evil_run(run: Path) -> None:
    """Give the first row a name that is markup, in all files of the run."""
    forged("rows.json", evil_rows)(run)
    old = json.loads((run / "rows.json").read_text())["rows"][0]["name"]
    forged("rows.json", lambda c: c["rows"][0].update(name=EVIL))(run)
    for name in ("scores.parquet", "replicas.parquet"):
        frame = pl.read_parquet(run / name)
        frame.rename({c: c.replace(f":{old}", f":{EVIL}") for c in frame.columns}).write_parquet(run / name)
        vouch(run, name)
    forged("stack.json", lambda c: c["members"][0].update(name=EVIL))(run)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(f"# {EVIL}\n{text}")
    forged("environment.json", lambda c: c.update(processor=EVIL, packages={EVIL: EVIL}))(run)


@pytest.mark.filterwarnings("ignore")
def test_reports_escape_everything(here: Path) -> None:
    pytest.importorskip("mplhep")
    from higgsbench.inference.events import reload_events
    from higgsbench.pages.drawing import Pictures
    from higgsbench.report import render_report
    from higgsbench.report.context import Context
    from higgsbench.runs import find_run

    evil_run(here / "run")
    text = render_report(Context(run := find_run(here / "run"), reload_events(run), Pictures()))
    assert len(harmless(text).pictures) > 3
    assert "&lt;script&gt;alert(1)" in text


@pytest.mark.filterwarnings("ignore")
def test_pages_of_events_escape_names_of_columns(here: Path) -> None:
    pytest.importorskip("mplhep")
    evil = EVIL.replace("\x1b", "").replace("'", "")
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({evil: rng.normal(size=60), "$x_$": rng.normal(size=60), "y": rng.integers(0, 2, 60)})
    columns = [evil, "$x_$", "y"]
    schema = {"features": columns[:2], "label": "y", "background": 0, "header": False, "columns": columns}
    frame.write_csv(here / "odd.csv", include_header=False)
    (here / "odd.yaml").write_text(json.dumps(schema))
    with pytest.raises(SystemExit, match="0"):
        main(["explore", "odd.csv", "--schema", "odd.yaml", "--html", "odd.html"])
    assert len(harmless((here / "odd.html").read_text()).pictures) >= 2


@pytest.mark.parametrize(
    "command",
    [
        *("data info", "data validate", "explore", "predict run -o s.csv", "submit run -o s.csv"),
        "run c.yaml --set models=[lightgbm] --data",
    ],
)
def test_names_of_files_steer_no_terminal(command: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[2J\x07\u202eb.csv"
    (here / "train.csv").rename(here / name)
    with pytest.raises(SystemExit):
        main([*command.split(), name])
    out, err = capfd.readouterr()
    assert out + err
    for sign in ("\x1b", "\x07", "\u202e"):
        assert sign not in out + err


def test_tables_of_a_run_of_odd_names_steer_no_terminal(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evil_run(here / "run")
    for args in (["leaderboard", "--results", "run"], ["members", "run"], ["compare", "run"], ["stats", "run"]):
        with pytest.raises(SystemExit) as exit_:
            main(args)
        out, err = capfd.readouterr()
        assert "\x1b" not in out + err, args
        assert exit_.value.code in (0, 2), err


def test_spreadsheets_run_no_formula_out_of_a_leaderboard(here: Path) -> None:
    forged("rows.json", lambda c: c["rows"][0].update(label="=cmd|' /C calc'!A0"))(here / "run")
    assert "'=cmd|" in higgsbench.Leaderboard.read(here / "run").render("csv")
