from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from higgsbench import write_report
from higgsbench.compare import compare, load_contenders
from higgsbench.errors import ConfigError, DataError, HiggsbenchError, StoreError
from higgsbench.inference.events import reload_events
from higgsbench.inference.statistics import model_significance
from higgsbench.metrics import processes_of
from higgsbench.metrics.estimates import METRICS
from higgsbench.pages import Picture
from higgsbench.pages.drawing import (
    STYLES,
    Pictures,
    figure_data,
    name_axis,
    name_quantity,
    new_figure,
    row_looks,
    style,
    svg_text,
)
from higgsbench.report.events import features_of, stacked
from higgsbench.report.roc import selected_shares
from higgsbench.runs import find_run
from higgsbench.schema import FEATURES, SYMBOLS

from .conftest import Make, ToyModels, draw

HOSTILE = '<img src=x onerror="alert(1)">$\\frac{'


pytest.importorskip("mplhep", reason="needs the extra 'report'")
pytestmark = pytest.mark.usefixtures("undrawn")


class Page(HTMLParser):
    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_page_is_accessible_and_self_contained(drawn: str) -> None:
    page = Page(drawn)
    assert ("html", {"lang": "en"}) in page.tags
    assert [len(page.all(tag)) for tag in ("h1", "main", "nav", "header", "footer")] == [1] * 5
    images = page.all("img")
    # Per row: AMS, scores, calibration; four of ROC, three of selected events, three of features; two each of the
    # leaderboard, ranks, the blend and cost.
    assert len(images) == 3 * 3 + 10 + 2 * 4
    assert all(a["alt"] and (a["src"] or "").startswith("data:image/svg+xml;base64,") for a in images)
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "").removeprefix("#") for a in page.all("a")} <= set(ids)
    assert not re.search(r'(src|href)="(?!data:|#)', drawn)
    assert "http" not in drawn.split("<body>")[1].replace("http-equiv", "")
    assert not any("style" in a or any(key.startswith("on") for key in a) for _, a in page.tags)


def test_numbers_are_also_given_in_words(drawn: str) -> None:
    assert re.search(r'alt="AMS of alpha against [^"]* cross-validated \d\.\d+ ± 0\.10 at 15', drawn)
    assert re.search(r'alt="[^"]*signal against held out: KS 0\.\d+, p = 0\.\d+', drawn)
    assert len(re.findall(r'<td data-value="(0\.\d+)">0\.\d{4}</td>', drawn)) >= 6  # KS sorts as a number
    assert "TOY SIMULATION" in drawn
    assert "toy simulation; their numbers are not those of real data" in drawn
    assert "broken (failed: out of &lt;memory&gt;)" in drawn
    for process in ("ggF", "VBF", "VH", "Z", "W", "ttbar"):
        assert f'<th scope="row" class="t">{process}</th>' in drawn
    assert "they are recognised by the weights" in drawn


def test_the_same_figure_gives_the_same_picture() -> None:
    def once() -> str:
        with style():
            figure, ax = new_figure(2.0, 1.5)
            ax.plot([0, 1], label=HOSTILE)
            ax.legend()
            return svg_text(figure)

    assert once() == once()
    assert "onerror" not in once().replace("<!--", "").split("<defs>")[0]


def test_runs_of_one_row_without_held_out_events_or_without_numbers(make: Make) -> None:
    with pytest.raises(StoreError, match="no row of this run"):
        draw(make("none", change=lambda content: content.update(rows=content["rows"][-1:])))
    text = draw(make(test=False, change=lambda content: content.update(rows=content["rows"][:1])))
    assert "The run has no held-out events to overlay." in text
    assert "held out: KS" not in text
    assert "Average ranks" not in text


def test_a_run_whose_data_are_gone_says_so_until_they_are_named(make: Make, tmp_path: Path, toys: Path) -> None:
    folder = make(data=tmp_path / "gone.csv")
    text = draw(folder)
    assert all(
        w in text for w in ("run&#39;s events cannot be loaded again", "gone.csv", "their truth is not available")
    )
    assert "Where the selected events lie" not in text
    assert "Where the selected events lie" in draw(folder, data=toys)
    with pytest.raises(HiggsbenchError, match=r"other\.csv"):
        draw(folder, data=tmp_path / "other.csv")
    pl.read_csv(toys).with_columns(pl.col("DER_mass_vis") + 1.0).write_csv(tmp_path / "gone.csv")
    changed = reload_events(find_run(folder))
    assert changed.train is None
    assert "its events or their values differ" in changed.notes[0]


def test_events_are_those_of_the_scores(make: Make, toys: Path) -> None:
    run = find_run(make())
    found = reload_events(run)
    masses, labels = (dict(pl.read_csv(toys).select("EventId", name).iter_rows()) for name in ("DER_mass_vis", "Label"))
    assert found.train is not None
    (vis,) = [f for f in features_of(found.train) if f.name == "DER_mass_vis"]
    np.testing.assert_allclose(vis.values, [masses[i] for i in run.event_id.tolist()])
    assert vis.unit == "GeV"
    parts = stacked(run)
    assert list(parts) == ["top pairs", "Z → ττ", "W + jets", "signal"]
    assert np.array_equal(parts["signal"], run.y)
    assert (np.sum([*parts.values()], axis=0) == 1).all()
    assert found.test is not None
    assert run.test_event_id is not None
    assert found.test.y.tolist() == [labels[i] == "s" for i in run.test_event_id.tolist()]


def test_figures_draw_the_largest_backgrounds_and_join_the_others(make: Make) -> None:
    run = find_run(make())
    names = np.array([f"p{i}" for i in range(7)])[np.arange(run.y.size) % 7]
    run.processes = processes_of(
        pl.Series(np.where(run.y, "H", names)), run.y, np.ones(run.y.size) + np.char.equal(names, "p4")
    )
    parts = stacked(run)
    assert len(parts) == 6
    assert next(iter(parts)) == "other background"
    assert list(parts)[-2:] == ["p4", "signal"]
    assert (np.sum([*parts.values()], axis=0) == 1).all()
    run.processes = None
    assert list(stacked(run)) == ["background", "signal"]


def test_training_scores_are_laid_over_when_models_are_there(make: Make) -> None:
    folder = make()
    text = draw(folder, models=ToyModels())
    assert "Areas: training events" in text
    assert "signal against training: KS" in text
    (lines,) = re.findall(r"<caption><span>Weighted AUC of [\d,]+ training events.*?</table>", text, re.S)
    assert all(f">{name}<" in lines for name in ("alpha", "alpha [jets]", "stack"))
    without = draw(folder)
    assert "are not available, so they are not overlaid" in without
    assert not re.search("against training|Importance of features", without)


def test_rows_without_models_are_named(make: Make) -> None:
    text = draw(make(), models=ToyModels(absent=("alpha", "alpha [jets]")))
    drawn = ("Permutation importance is not drawn", "What features add (TreeSHAP) is not drawn")
    for what in ("No training scores for alpha", *drawn):
        assert f"{what}: no model of &lt;alpha&gt;." in text
    one = draw(make("other"), models=ToyModels(absent=("alpha",)))
    assert one.count("signal against training: KS") == 1  # neither of alpha nor of the stack, which needs it


def test_average_ranks_are_those_of_a_comparison(make: Make) -> None:
    folder = make()
    found = compare(load_contenders([str(folder)])[0], replicas=200).pictures
    assert set(found) == {"ams", "auc"}
    assert found["auc"].names == ("stack", "alpha", "alpha [jets]")
    words = ", ".join(f"{n} {rank:.2f}" for n, rank in zip(found["auc"].names, found["auc"].ranks, strict=True))
    text = draw(folder)
    assert f"Average ranks by weighted AUC: {words}." in text
    assert "higgsbench compare shows" in text


def test_only_the_best_rows_get_figures_of_their_own(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("higgsbench.report.context.MOST_DRAWN", 1)
    folder = make()
    text = draw(folder)
    assert text.count("<img ") == 3 * 2 + 15
    assert text.count("Drawn: 2 of 3 rows, the best and the stack; --all-rows draws all.") == 3
    assert [f"Scores of {name}:" in text for name in ("alpha", "stack", "alpha [jets]")] == [True, True, False]
    assert draw(folder, all_rows=True).count("<img ") == 3 * 3 + 15


def test_the_confusion_is_that_of_the_cross_validated_cut(make: Make) -> None:
    row = find_run(make()).row("alpha")
    found = model_significance(row, replicas=100)
    for (share, se), sums, total in zip(selected_shares(row), (found.s, found.b), row.run.totals, strict=True):
        assert total * share == pytest.approx(sums.value, abs=2.0 * sums.se)
        assert total * se == pytest.approx(sums.se, rel=0.4)


def test_figures_as_files(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "new" / "figures")
    with style():
        for name in ("AMS alpha [jets]", "ams alpha jets", "../../x", "α"):
            figure, ax = new_figure(2.0, 1.5)
            ax.plot([0, 1], label=name)
            ax.set_ylabel(r"$1\,/\,\varepsilon_b$", parse_math=True)
            pictures.add(name, figure, "a line")
    files = sorted(p.name for p in (tmp_path / "new" / "figures").iterdir())
    stems = ("ams-alpha-jets", "ams-alpha-jets-2", "x", "figure")
    assert files == sorted(f"{stem}.{suffix}" for stem in stems for suffix in ("png", "pdf", "csv"))
    assert (tmp_path / "new" / "figures" / "x.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "new" / "figures" / "x.pdf").read_bytes().startswith(b"%PDF")
    assert b"/Type3" not in (tmp_path / "new" / "figures" / "x.pdf").read_bytes()
    with pytest.raises(ConfigError, match="formats: 'eps': choose from png, pdf, svg"):
        Pictures(tmp_path / "other", ["eps"])
    (tmp_path / "plain").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        Pictures(tmp_path / "plain")


def test_rows_can_be_told_apart_without_colours() -> None:
    models = ["stack", *(f"model {i}" for i in range(9))]
    names = [f"{model}{variant}" for model in models for variant in ("", " [jets]")]
    looks = row_looks(reversed(names))
    assert set(looks) == set(names)
    assert len({(look["marker"], str(look["linestyle"])) for look in looks.values()}) == len(names)
    assert looks["model 1"]["color"] == looks["model 1 [jets]"]["color"]


def test_a_figure_is_also_a_table() -> None:
    with style():
        figure, (ax, named) = new_figure(4.0, 2.0, 1, 2)
        ax.errorbar([1.0, 2.0], [3.0, np.nan], yerr=[0.5, 0.1], capsize=2, label="points")
        ax.stairs([5.0, 6.0], [0.0, 1.0, 2.0], baseline=1.0, label="steps")
        ax.fill_between([0.0, 1.0], [1.0, 2.0], [3.0, 4.0])
        ax.set(xlabel="x [GeV]", ylabel="events")
        named.barh([0, 1], [2.0, 3.0], label="bars")
        name_axis(named, ["first", "second"])
        named.pcolormesh([[7.0, 8.0]])
        named.plot([9.0], [0.2])
        found = figure_data(figure)
    assert found["x_label"].unique().to_list().count("x [GeV]") == 1
    points = found.filter(kind="point", series="points").select("x", "y", "y_low", "y_high")
    assert points.row(0) == (1.0, 3.0, 2.5, 3.5)
    assert points.height == 2
    steps = found.filter(kind="step").select("x_low", "x_high", "y_low", "y").rows()
    assert steps == [(0.0, 1.0, 1.0, 5.0), (1.0, 2.0, 1.0, 6.0)]
    assert found.filter(kind="band").select("x", "y_low", "y_high").rows() == [(0.0, 1.0, 3.0), (1.0, 2.0, 4.0)]
    assert found.filter(kind="bar").select("y_name", "x_high").rows() == [("first", 2.0), ("second", 3.0)]
    assert found.filter(kind="cell")["value"].to_list() == [7.0, 8.0]
    assert found.filter(kind="line").select("x", "y_name").rows() == [(9.0, "first")]


@pytest.mark.parametrize("name", STYLES)
def test_styles(name: str) -> None:
    with style(name):
        _, ax = new_figure(2.0, 1.5)
        assert ax.xaxis.get_tick_params()["top"] == (name == "cms")
    with pytest.raises(ConfigError, match="--style lhcb: choose from atlas, cms, plain"), style("lhcb"):
        pass


def test_a_new_metric_gets_its_panels(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}

    class Seen(Pictures):
        def add(self, name: str, figure: Any, alt: str, caption: str = "") -> Picture:
            drawn[name] = figure
            return super().add(name, figure, alt, caption)

    def measured(content: dict[str, Any]) -> None:
        for row in content["rows"]:
            row |= {"purity": 0.5, "purity_se": 0.1}

    metric = replace(METRICS["auc"], name="purity", key="purity", heading="purity of the selection")
    monkeypatch.setitem(METRICS, "purity", metric)
    draw(make(change=measured), Seen())
    named = {"ams-alpha", "scores-alpha [jets]", "calibration-stack", "roc", "selected-DER_mass_MMC"}
    assert (len(drawn), named < {*drawn}) == (27, True)
    for name, label in (("leaderboard", "get_xlabel"), ("cost", "get_ylabel")):
        labels = [getattr(drawn[f"{name}-{metric}"].axes[0], label)() for metric in ("ams", "auc", "purity")]
        assert labels == ["AMS [standard deviations]", "weighted AUC", "purity of the selection"]


@pytest.mark.parametrize("shape", [(), (2, 1), (1, 2)])
def test_the_label_is_above_the_upper_right_axes(shape: tuple[int, ...]) -> None:
    with style():
        figure, axes = new_figure(4.0, 2.0, *shape)
        mesh = np.ravel(axes)[0].pcolormesh([[1.0, 2.0]])
        figure.colorbar(mesh, ax=np.ravel(axes)[0])
        Pictures(label="ATLAS Open Data").add("x", figure, "")
    labels = [ax.get_title(loc="right") for ax in np.ravel(axes)]
    assert labels == {(): ["ATLAS Open Data"], (2, 1): ["ATLAS Open Data", ""], (1, 2): ["", "ATLAS Open Data"]}[shape]


def test_columns_of_the_challenge_have_symbols() -> None:
    assert {*SYMBOLS} == {*FEATURES}
    with style():
        figure, axes = new_figure(4.0, 2.0, 5, 6)
        for name, ax in zip(SYMBOLS, axes.flat, strict=True):
            name_quantity(ax, name, "GeV")
        figure.canvas.draw()  # a symbol that is not mathematics raises an error
        assert axes[0, 0].get_xlabel() == r"PRI_tau_pt: $p_T(\tau)$ [GeV]"
        name_quantity(axes[0, 0], HOSTILE, None)
        assert not axes[0, 0].xaxis.label.get_parse_math()


@pytest.mark.parametrize("damaged", [True, False])
def test_damaged_or_missing_scores_leave_no_page(make: Make, tmp_path: Path, damaged: bool) -> None:
    folder = make()
    file = folder / "scores.parquet"
    file.write_bytes(b"PAR1") if damaged else file.unlink()
    with pytest.raises(StoreError, match=r"scores\.parquet: .*(damaged|missing)"):
        write_report(folder, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("name", ["stack.json", "environment.json", "config.yaml"])
def test_what_is_not_needed_may_be_damaged(make: Make, name: str) -> None:
    folder = make()
    (folder / name).write_bytes(b"\xff{")
    text = draw(folder)
    assert f"{name}: damaged" in text
    assert ("The run&#39;s events cannot be loaded again" in text) == (name == "config.yaml")


def test_the_command(make: Make, tmp_path: Path) -> None:
    from higgsbench.cli.tables import report as command

    folder = make()
    done = CliRunner().invoke(command, [str(folder), "-o", str(tmp_path / "page.html")])
    assert (done.exit_code, done.exception) == (0, None)
    assert "Wrote" in done.output
    assert (tmp_path / "page.html").stat().st_size < 5_000_000
    with pytest.raises(DataError, match="does not exist"):
        write_report(folder, tmp_path / "absent" / "page.html")
    with pytest.raises(DataError, match="is a folder"):
        write_report(folder, tmp_path)
