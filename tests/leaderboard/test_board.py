"""Leaderboards: what is ranked together, what is left out, what is shown, also of runs that are under way."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.text import Text

from higgsbench import Leaderboard
from higgsbench.cli.main import cli
from higgsbench.errors import ConfigError, StoreError
from higgsbench.leaderboard import show, watch
from higgsbench.leaderboard.columns import COLUMNS

SHARED: dict[str, Any] = {
    "data": "d" * 64, "test": None, "layout": "atlas-higgs-2014", "simulated": False, "events": 1000, "test_events": 0,
    "folds": 5, "repeats": 1, "fold_digest": "f" * 64, "n_s": 691.9, "n_b": 410999.8, "b_reg": 10.0,
    "metrics_version": 1,
}  # fmt: skip
REPLICAS = 200
FAILED = {"name": "f", "label": "f", "variant": "global", "status": "failed", "digest": "q", "error": "out of memory"}


def record(name: str, ams: float, **more: Any) -> dict[str, Any]:
    row = {
        "name": name, "label": name, "model": name, "variant": "global", "features": "raw", "status": "ok",
        "digest": f"{name}-fits", "ams_cv": ams, "ams_cv_se": 0.1, "s": 200.0, "b": 3000.0, "fraction": 0.15,
        "ams_oof_max": ams + 0.1, "ams_oof_max_se": 0.2, "auc": 0.9 + ams / 100, "auc_se": 0.002,
        "log_loss": 0.012 - ams / 1e3, "log_loss_se": 1e-4, "cut_rule": "smooth", "threshold": 0.5,
        "fit_seconds": 12.34, "predict_us": 3.2, "peak_mb": 256.0, "seed": 42, "error": "",
    }  # fmt: skip
    return {**row, **more}


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a run by hand; `noise` is the scatter of each row's difference to what all rows share."""

    def run(name: str, rows: list[dict[str, Any]], noise: float = 0.01, source: str = "x.csv", **shared: Any) -> Path:
        folder = tmp_path / "results" / name
        (folder / "units").mkdir(parents=True)
        common = np.random.default_rng(1).normal(size=REPLICAS)
        columns = {}
        for row in rows:
            for metric in ("ams_cv", "auc"):
                own = np.random.default_rng(sum(map(ord, row["name"] + metric))).normal(size=REPLICAS)
                columns[f"{metric}:{row['name']}"] = row.get(metric, 0.0) + 0.1 * common + noise * own
        pl.DataFrame(columns).write_parquet(folder / "replicas.parquet")
        content = {"run": name, "comparability": {**SHARED, **shared}, "source": source, "rows": rows}
        (folder / "rows.json").write_text(json.dumps(content))
        return folder

    return run


def printed(board: Leaderboard, **how: Any) -> str:
    """What a console shows."""
    out = io.StringIO()
    show(board, Console(file=out, **{"width": 400, **how}))
    return out.getvalue()


def names(board: Leaderboard) -> list[list[str]]:
    return [[row["name"] for row in table.rows] for table in board.tables]


def test_rows_are_ranked_by_ams(make: Make) -> None:
    (table,) = Leaderboard.read(make("a", [record("x", 3.1), record("y", 3.5), record("z", 3.3)]).parent).tables
    assert [(r["rank"], r["name"]) for r in table.rows] == [(1, "y"), (2, "z"), (3, "x")]
    assert [r["diff"] for r in table.rows] == [0.0, 3.3 - 3.5, 3.1 - 3.5]
    assert "1,000 events, 5 folds, data dddddddd, folds ffffffff" in table.title


def test_comparable_runs_are_one_table_and_one_may_be_named(make: Make) -> None:
    first, second = make("a", [record("x", 3.1)]), make("b", [record("y", 3.5)])
    board = Leaderboard.read(first.parent)
    assert names(board) == [["y", "x"]]
    assert [r["run"] for r in board.tables[0].rows] == ["b", "a"]
    assert board.notes == ()
    assert names(Leaderboard.read(second)) == [["y"]]


@pytest.mark.parametrize(
    "other",
    [{"data": "e" * 64}, {"fold_digest": "0" * 64}, {"folds": 3}, {"repeats": 2}, {"b_reg": 0.0}, {"n_s": 1.0},
     {"test": "t" * 64}, {"metrics_version": 2}, {"layout": "mine"}, {"simulated": True}],
    ids=lambda o: next(iter(o)),
)  # fmt: skip
def test_other_data_or_definitions_are_never_ranked_together(make: Make, tmp_path: Path, other: dict[str, Any]) -> None:
    make("a", [record("x", 3.1), record("w", 3.0)])
    make("b", [record("y", 3.5)], **other)
    board = Leaderboard.read(tmp_path / "results")
    assert names(board) == [["x", "w"], ["y"]]
    assert [t.rows[0]["rank"] for t in board.tables] == [1, 1]
    assert board.notes == ("2 tables: different events, folds or definitions are never ranked together",)


def test_toys_come_last_and_say_so(make: Make, tmp_path: Path) -> None:
    make("a", [record(c, 3.0) for c in "pqr"], simulated=True)
    make("b", [record("y", 2.0)])
    board = Leaderboard.read(tmp_path / "results")
    assert names(board)[0] == ["y"]
    assert board.tables[1].title.startswith("TOY SIMULATION, ")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_table_looks_like_a_short_one(make: Make, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [record(f"row {i}", 3.0 - i / 50) for i in range(5)] + [record("\N{GREEK SMALL LETTER ALPHA} 漢字", 2.0)]
    board = Leaderboard.read(make("a", [*rows, FAILED]).parent)
    shown = []
    for many in (100, 3):
        monkeypatch.setattr("higgsbench.leaderboard.MANY", many)
        shown.append(Text.from_ansi(printed(board, force_terminal=terminal, color_system="standard")))
    assert shown[0].plain == shown[1].plain
    styled = [{(text.plain[s.start : s.end].strip(), str(s.style)) for s in text.spans} for text in shown]
    assert {t for t in styled[0] if t[0]} == {t for t in styled[1] if t[0]}


def test_the_same_fits_are_shown_once_for_each_cut(make: Make, tmp_path: Path) -> None:
    make("a", [record("x", 3.1), record("y", 3.2)])
    make("b", [record("x", 3.1), record("z", 3.3), record("y", 3.0, cut_rule="max")])
    board = Leaderboard.read(tmp_path / "results")
    assert names(board) == [["z", "y", "x", "y"]]
    assert board.notes == ("1 row occurs in more than one run with the same fits and is shown once",)


def test_failed_rows_are_shown_without_rank_and_odd_values_do_not_stop_the_others(make: Make) -> None:
    """Regression: a list as the cut rule could not be compared."""
    odd = record("x", 3.1, cut_rule=["max"], seed="s", fraction=float("nan"), predict_us=None)
    alone = Leaderboard.read(make("all failed", [{**FAILED, "seed": 1}]), sort="seed")
    assert alone.tables[0].rows[0]["rank"] is None
    board = Leaderboard.read(make("a", [FAILED, odd]))
    assert [(r["name"], r["rank"]) for r in board.tables[0].rows] == [("x", 1), ("f", None)]
    assert "f (failed: out of memory)" in board.render("markdown")
    assert "| - " in board.render("markdown")
    assert all("x" in board.render(form) for form in ("csv", "json"))


@pytest.mark.parametrize(("noise", "apart"), [(0.01, True), (0.2, False)])
def test_rows_within_two_paired_errors_are_marked(make: Make, noise: float, apart: bool) -> None:
    folder = make("a", [record("x", 3.5), record("y", 3.4)], noise=noise)
    board = Leaderboard.read(folder)
    best, other = board.tables[0].rows
    stored = pl.read_parquet(folder / "replicas.parquet")
    expected = float(np.std((stored["ams_cv:y"] - stored["ams_cv:x"]).to_numpy(), ddof=1))
    assert other["diff_se"] == pytest.approx(expected)
    assert (best["distinguishable"], other["distinguishable"]) == (None, apart)
    assert ("2 ≈" in board.render("markdown")) is not apart
    assert best["diff_se"] == 0.0


def test_the_mark_is_of_the_column_that_ranks_and_of_equal_scores(make: Make) -> None:
    """Regression: the mark followed the AMS whatever ranked, and a difference of 0 was at least two errors of 0."""
    folder = make("a", [record("x", 3.5, auc=0.93), record("y", 2.5, auc=0.9299)], noise=0.01)
    assert Leaderboard.read(folder).tables[0].rows[1]["distinguishable"] is True
    assert Leaderboard.read(folder, sort="auc").tables[0].rows[1]["distinguishable"] is False
    folder = make("b", [record("x", 3.5), record("y", 3.5)])
    stored = pl.read_parquet(folder / "replicas.parquet")
    stored.with_columns(stored["ams_cv:x"].alias("ams_cv:y")).write_parquet(folder / "replicas.parquet")
    assert Leaderboard.read(folder).tables[0].rows[1]["distinguishable"] is False


@pytest.mark.parametrize("damage", ["gone", "column", "length", "NaN"])
def test_without_replicas_there_is_no_verdict(make: Make, tmp_path: Path, damage: str) -> None:
    """Regression: an error of NaN counted as not distinguishable."""
    make("a", [record("x", 3.5)])
    file = make("b", [record("y", 3.4)]) / "replicas.parquet"
    stored = pl.read_parquet(file)
    file.unlink()
    changed = {
        "column": stored.rename({"ams_cv:y": "other"}),
        "length": stored[:50],
        "NaN": stored.with_columns(pl.lit(float("nan")).alias("ams_cv:y")),
    }
    if damage in changed:
        changed[damage].write_parquet(file)
    row = Leaderboard.read(tmp_path / "results").tables[0].rows[1]
    assert row["distinguishable"] is None
    assert row["diff"] == pytest.approx(-0.1)


def test_unfinished_and_damaged_runs_are_left_out_with_a_word(make: Make, tmp_path: Path) -> None:
    """What counts as damage is the matter of `StoredRun`."""
    make("good", [record("x", 3.1)])
    (make("unfinished", []) / "rows.json").unlink()
    (tmp_path / "results" / "unfinished" / "units" / "k.json").write_text("{}")
    (make("cut", []) / "rows.json").write_text('{"rows": [')
    make("no number", [record("x", 3.0, log_loss=None)])
    (tmp_path / "results" / "notes").mkdir()
    (tmp_path / "results" / "README.md").write_text("no run")
    board = Leaderboard.read(tmp_path / "results")
    assert names(board) == [["x"]]
    assert len(board.notes) == 3
    assert all("left out" in note for note in board.notes)
    assert "unfinished: left out, unfinished (1 units stored); run its configuration again to continue" in board.notes
    assert Leaderboard.read(tmp_path / "results" / "notes").tables == ()
    with pytest.raises(StoreError, match="no such folder"):
        Leaderboard.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("sort", "first"), [("ams_cv", "x"), ("auc", "y"), ("log_loss", "y"), ("fit_seconds", "z"), ("ams_public", "z")]
)
def test_sort(make: Make, sort: str, first: str) -> None:
    rows = [record("x", 3.5, auc=0.91, log_loss=0.02), record("y", 3.4, auc=0.93, log_loss=0.01)]
    rows += [record("z", 3.3, auc=0.92, log_loss=0.03, fit_seconds=1.0, ams_public=3.0)]
    nothing = record("zero", 3.2, **{sort: float("nan")})
    ranked = Leaderboard.read(make("a", [*rows, nothing]), sort=sort).tables[0].rows
    assert (ranked[0]["name"], ranked[3]["name"]) == (first, "zero")
    assert [r["rank"] for r in ranked] == [1, 2, 3, 4]


@pytest.mark.parametrize("form", ["table", "markdown", "html", "csv", "json"])
def test_differences_are_to_the_first_row_and_called_so(make: Make, form: str) -> None:
    """Regression: ranked by AUC, a row was better in AMS than what was called the best."""
    folder = make("a", [record("x", 3.5, auc=0.91), record("y", 3.4, auc=0.93)])
    board = Leaderboard.read(folder, sort="auc")
    first, second = board.tables[0].rows
    assert (first["name"], second["diff"]) == ("y", pytest.approx(0.1))
    text = printed(board) if form == "table" else board.render(form).split("</style>")[-1]
    assert not re.search(r"best(?! cut)", re.sub(r"class=\S+|<script.*", "", text, flags=re.DOTALL))
    expected = ("0.1000",) if form in ("csv", "json") else ("Δ AMS to first", "+0.100 ±")
    assert all(word in text for word in expected)


def test_unknown_sort_and_columns_are_refused(make: Make, tmp_path: Path) -> None:
    make("a", [record("x", 3.5)])
    for sort, message in {
        "label": r"--sort: no column of numbers is named 'label' \(choose from ams_cv, ",
        "aux": r"--sort: no column of numbers is named 'aux' \(did you mean 'auc'\?\)",
        "x" * 500: r"--sort: no column of numbers is named 'x{60}…'",
    }.items():
        with pytest.raises(ConfigError, match=message):
            Leaderboard.read(tmp_path / "nowhere", sort=sort)
    with pytest.raises(ConfigError, match=r"--sort: no row has a number 'ams_test' \(choose from ams_cv"):
        Leaderboard.read(tmp_path / "results", sort="ams_test")
    board = Leaderboard.read(tmp_path / "results")
    with pytest.raises(ConfigError, match=r"--columns: no column 'ams_vc' \(did you mean 'ams_cv'\?\)"):
        board.render("markdown", ["ams_vc"])
    with pytest.raises(ConfigError, match="choose from rank, model"):
        board.render("csv", ["qqq"])


def test_csv_and_json_carry_full_precision(make: Make) -> None:
    board = Leaderboard.read(make("a", [record("x", 3.1234567890123456, s=1 / 3)]))
    (row,) = csv.DictReader(io.StringIO(board.render("csv")))
    assert (float(row["ams_cv"]), float(row["s"]), row["table"]) == (3.1234567890123456, 1 / 3, "1")
    content = json.loads(board.render("json"))
    assert content["tables"][0]["rows"][0]["ams_cv"] == 3.1234567890123456
    assert content["tables"][0]["comparability"]["n_b"] == 410999.8
    assert "3.1235" not in board.render("markdown")
    assert "3.123 ± 0.100" in board.render("markdown")
    # Columns are chosen and ordered.
    assert board.render("csv", ["auc", "model"]).splitlines()[0] == "table,auc,auc_se,label,model,status,error"
    assert "| wAUC | model |" in board.render("markdown", ["auc", "model"])
    assert list(json.loads(board.render("json", ["s"]))["tables"][0]["rows"][0]) == ["s"]


def test_held_out_columns_appear_with_held_out_data(make: Make, tmp_path: Path) -> None:
    make("a", [record("x", 3.1)])
    assert "AMS private" not in Leaderboard.read(tmp_path / "results").render("markdown")
    make("b", [record("y", 3.1, ams_private=3.2, ams_private_se=0.05)], test_events=550_000, test="t" * 64)
    text = Leaderboard.read(tmp_path / "results").render("markdown")
    assert all(found in text for found in ("AMS private", "3.200 ± 0.050", "550,000 held out"))


def test_every_number_of_merit_is_shown_with_its_error() -> None:
    shown = {c.name: c.show(record("x", 3.1) | {"rank": 2, "diff": -0.1, "diff_se": None}) for c in COLUMNS}
    expected = {"ams_cv": "3.100 ± 0.100", "auc": "0.9310 ± 0.0020", "diff": "-0.100 ± ?", "fraction": "15.0%"}
    assert shown == {**shown, **expected}


EVIL = "\x1b[2J[red]a|b*c<script>[t](http://x)`d`\u202e\n=1+1"


def test_names_cannot_steer_a_terminal_or_a_page(make: Make, tmp_path: Path) -> None:
    """Regression: links and code passed into Markdown, and notes were not escaped at all."""
    make("a", [record("x", 3.1, label=EVIL, variant=EVIL), record("y", 3.0, label="=1+1", variant="@x")])
    make("<b>|[n](y)", [])
    (tmp_path / "results" / "<b>|[n](y)" / "rows.json").write_text("[]")
    board = Leaderboard.read(tmp_path / "results")
    text = board.render("markdown")
    for bad in ("\x1b", "\u202e", "<script>", "<b>", "[t](", "[n]("):
        assert bad not in text
    assert {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")} == {
        1 + sum(not c.optional for c in COLUMNS)
    }
    text = printed(board)
    assert "\x1b" not in text
    assert "[red]a|b*c<script>" in text, "markup of rich stays text"
    rows = list(csv.DictReader(io.StringIO(board.render("csv"))))
    assert (rows[1]["label"], rows[1]["variant"]) == ("'=1+1", "'@x")
    assert not any("\x1b" in board.render(form) for form in ("csv", "json", "html"))
    assert "<script>[t]" not in board.render("html")


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [40, 80, 120, 300])
def test_a_narrow_output_leaves_columns_out_and_says_so(make: Make, width: int, terminal: bool) -> None:
    board = Leaderboard.read(make("a", [record("x", 3.1), record("y", 3.0)]))
    text = printed(board, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    assert ("more columns need a wider terminal" in " ".join(text.split())) == (width < 300)
    assert "AMS cv" in text
    assert max(len(line) for line in text.splitlines() if line[:1] in "┏┃┡│└") <= width
    assert width < 300 or all(column.title in text for column in COLUMNS if not column.optional)


def test_html_marks_rows_and_sorts_by_full_precision(make: Make) -> None:
    text = Leaderboard.read(make("a", [record("x", 3.123456), FAILED])).render("html")
    assert re.findall(r'<tr class="(\w+)">', text) == ["best", "failed"]
    assert 'data-value="3.123456">3.123 ± 0.100' in text
    assert set(re.findall(r'href="([^"]*)"', text)) == {"#main", "#runs"}
    heads = re.findall(r'<th scope="col"[^>]*>([^<]*)', text)
    assert (heads[:4], heads[-1]) == (["model", "#", "variant", "AMS cv"], "run")


def test_watch_ends_when_the_runs_are_done(make: Make) -> None:
    results = make("done", [record("x", 3.1)]).parent
    (results / "going" / "units").mkdir(parents=True)
    (results / "going" / "units" / "k.json").write_text("{}")
    looks = []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            shutil.copy(make("late", [record("late", 3.0)]) / "rows.json", results / "going")

    out = io.StringIO()
    watch(results, "ams_cv", None, Console(file=out, width=200, force_terminal=True), wait=wait)
    assert looks == [2.0, 2.0, 2.0]
    assert "going: 1 units stored, running" in out.getvalue()
    assert "late" in out.getvalue()
    (results / "going" / "rows.json").unlink()
    with pytest.raises(KeyboardInterrupt):
        watch(results, "ams_cv", None, Console(file=out), wait=Mock(side_effect=KeyboardInterrupt))


def test_watch_shows_a_table_only(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["leaderboard", "--results", str(tmp_path), "--watch", "--format", "csv"])
    assert done.exit_code == 2
    assert "remove --format" in done.output
