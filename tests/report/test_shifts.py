"""Systematic shifts in the report, and scored for `stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import higgsbench
from higgsbench.config.regions import Systematic
from higgsbench.errors import ConfigError, DataError, StoreError
from higgsbench.events import load_events
from higgsbench.events.shifts import Shifts, apply_shifts
from higgsbench.inference import ScoredRows, ShiftRow, score_shifts
from higgsbench.inference.events import moved_events, parse_systematics, reload_events
from higgsbench.metrics import ams, evaluation_weights
from higgsbench.runs import find_run
from higgsbench.schema import N_B, N_S

from .conftest import Make, Sum, ToyModels, draw

pytest.importorskip("mplhep", reason="needs the extra 'report'")
pytestmark = pytest.mark.usefixtures("undrawn")

TES = Systematic("tes", 0.1)


class Shifted(ToyModels):
    """Scores that follow a mass, around the toy rows' cuts."""

    def held_out(self, name: str | None = None, *, all_members: bool = False) -> Any:
        self._check(str(name))
        return Sum(str(name), DER_mass_vis=-0.05)

    def unseen(self, name: str, event_id: Any) -> Any:
        return self.held_out(name).scores


@pytest.fixture
def files(toys: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Held-out events after a shift up and down, of which the second lost some."""
    events = load_events(toys)
    held_out = events.take(events.in_subsets(["v"]))
    moved = (apply_shifts(held_out.frame, Shifts(tes=size)) for size in (0.1, -0.1))
    up, down = (frame.with_columns(pl.col(pl.Float64).fill_null(-999.0)) for frame in moved)
    up.write_csv(tmp_path / "up.csv")
    down[10:].write_parquet(tmp_path / "down.parquet")
    return tmp_path / "up.csv", tmp_path / "down.parquet"


def by_hand(toys: Path, size: float, subset: str = "v") -> tuple[float, float]:
    events = load_events(toys)
    events = events.take(events.in_subsets([subset]))
    score = -0.05 * apply_shifts(events.frame, Shifts(tes=size))["DER_mass_vis"].fill_null(0.0).to_numpy()
    w = evaluation_weights(events.y, events.weight, N_S, N_B) * (score >= -4.0)
    return float(w[events.y].sum()), float(w[~events.y].sum())


def scored(folder: Path, systematics: list[Systematic], *names: str, **how: Any) -> ScoredRows:
    run = find_run(folder)
    return score_shifts(run, reload_events(run), systematics, Shifted(), names or ("alpha",), **how)


def tables(found: ScoredRows) -> list[ShiftRow]:
    return found.rows["alpha"].table(-4.0)


def low_cut(content: dict[str, Any]) -> None:
    for row in content["rows"]:
        row["threshold"] = -4.0


def test_sizes_move_the_held_out_events(make: Make, toys: Path) -> None:
    found = scored(make(change=low_cut), [TES, Systematic("bkg_scale", 0.05)], "alpha", "stack")
    assert set(found.rows) == {"alpha", "stack"}
    rows = tables(found)
    nominal, up, down, more, less = rows
    assert [r.name for r in rows] == ["nominal", "tes up", "tes down", "bkg_scale up", "bkg_scale down"]
    for row, size in ((nominal, 0.0), (up, 0.1), (down, -0.1)):
        s, b = by_hand(toys, size)
        assert (row.s, row.b) == pytest.approx((s, b))
        assert row.ams == pytest.approx(ams(s, b))
        assert row.ams_change == pytest.approx(row.ams - nominal.ams)
    assert (more.b_change, less.b_change) == pytest.approx((0.05, 1 / 1.05 - 1))
    assert (more.s, nominal.ams_change_se) == (nominal.s, 0.0)
    assert up.ams_change_se > 5.0 * more.ams_change_se > 0.0
    assert "held-out events" in found.where


def test_without_held_out_events_each_is_judged_out_of_fold(make: Make, toys: Path) -> None:
    found = scored(make(test=False, change=low_cut), [TES])
    assert "did not see it" in found.where
    for row, size in zip(tables(found), (0.0, 0.1, -0.1), strict=True):
        assert (row.s, row.b) == pytest.approx(by_hand(toys, size, "t"))


def test_files_of_events_give_the_same(make: Make, files: tuple[Path, Path], toys: Path) -> None:
    """Files of moved events, and a file to move, whose training events are left out."""
    found = scored(make(change=low_cut), [TES, Systematic("file", files=files)], file=toys)
    assert "toys.csv" in found.where
    _, up, down, same, fewer = tables(found)
    assert up.s == pytest.approx(by_hand(toys, 0.1)[0])
    assert (same.s, same.b, same.ams_change_se) == pytest.approx((up.s, up.b, up.ams_change_se))
    assert down.s + down.b > fewer.s + fewer.b > 0.0
    alpha = found.rows["alpha"]
    assert alpha.nominal.y.size - alpha.sides["file"][1].y.size == 10


def test_the_page_shows_them_and_names_rows_without_models(make: Make) -> None:
    text = draw(make(change=low_cut), models=Shifted(), systematics=[TES])
    assert '<h2 id="shifts">Systematic shifts</h2>' in text
    assert "Selection at the frozen cut under systematic shifts" in text
    assert 'alt="Change of the AMS of 3 rows under systematic shifts; lowest: ' in text
    assert text.count('<td class="t">tes up</td>') == 3
    assert 'id="shifts"' not in draw(make("other"), models=Shifted())
    models = Shifted(absent=("alpha [jets]",))
    text = draw(make("third", change=low_cut), models=models, systematics=[TES])
    assert "No shifts of alpha [jets]: no model of &lt;alpha [jets]&gt;." in text
    assert text.count('<td class="t">tes up</td>') == 1  # nor can the stack be blended


def test_what_cannot_be_shifted_is_said(make: Make, tmp_path: Path, toys: Path, files: tuple[Path, Path]) -> None:
    folder = make(data=tmp_path / "gone.csv")
    with pytest.raises(StoreError, match="--shift needs the run's events"):
        scored(folder, [TES])
    with pytest.raises(StoreError, match="stored models"):
        draw(make("b"), systematics=[TES])
    events = load_events(toys)
    others = events.take(events.in_subsets(["t"]))
    with pytest.raises(DataError, match=r"up\.csv: none of its"):
        moved_events(Systematic("x", files=files), others)
    pl.read_csv(toys).drop("Label", "Weight", "KaggleWeight").write_csv(tmp_path / "blind.csv")
    with pytest.raises(DataError, match=r"blind\.csv: no column Label"):
        scored(make("c"), [TES], file=tmp_path / "blind.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("Label").reverse(), r"column Label: event EventId \d+ is [sb], but [sb] in "),
        (pl.col("KaggleWeight") * 4.0, "column KaggleWeight: signal sums to"),
        (pl.col("KaggleWeight") * 0.3, "column KaggleWeight: signal sums to"),
        (pl.col("^(PRI|DER)_.*$").shuffle(1), "VBF is not correlated with the same events"),
        (
            pl.when(Label="s").then(pl.col("^(PRI|DER)_.*$")).otherwise(pl.col("^(PRI|DER)_.*$").shuffle(1)),
            "column DER_mass_MMC, .*: W is not correlated with the same events",
        ),
    ],
)
def test_files_of_other_events_are_refused(files: tuple[Path, Path], toys: Path, change: pl.Expr, message: str) -> None:
    events = load_events(toys)
    held_out = events.take(events.in_subsets(["v"]))
    pl.read_csv(files[0]).with_columns(change).write_csv(files[0])
    with pytest.raises(DataError, match=rf"up\.csv: .*{message}.*; a shifted file must hold the run's own events"):
        moved_events(Systematic("x", files=files), held_out)


@pytest.mark.parametrize(
    ("text", "message"),
    [("tes", "write NAME=SIZE"), ("=0.1", "write NAME=SIZE"), ("t s=a,b", "write NAME=SIZE"),
     ("tes=up.csv", "neither a size"), ("tes=up.csv,", "two files"), ("tess=0.03", "did you mean 'tes'"),
     ("tes=0", "other than 0"), ("tes=%", "neither a size"), ("soft_met=3%", "neither a size"),
     ("tes=nan", "finite"), ("tes=-2", "above -1"), ("z_scale=-1.5", "above 0")],
)  # fmt: skip
def test_shifts_of_another_form_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_systematics([text])


def test_shifts_are_parsed() -> None:
    found = parse_systematics(["tes=3%", "jec=a.csv,b.csv"])
    assert found == (Systematic("tes", 0.03), Systematic("jec", files=(Path("a.csv"), Path("b.csv"))))
    with pytest.raises(ConfigError, match="named twice"):
        parse_systematics(["tes=0.03", "tes=0.02"])
    with pytest.raises(ConfigError, match="add --shift"):
        higgsbench.write_report("nowhere", "r.html", events="e.csv")


def test_error_of_a_change_is_that_of_a_bootstrap(make: Make) -> None:
    found = scored(make(change=low_cut), [TES])
    base, up = found.rows["alpha"].nominal, found.rows["alpha"].sides["tes"][0]
    expected = tables(found)[1].ams_change_se
    rng, values = np.random.default_rng(0), []
    for _ in range(300):
        count = rng.poisson(1.0, base.y.size)
        factor = np.where(base.y, *(1.0 / np.average(count[of], weights=base.weight[of]) for of in (base.y, ~base.y)))
        sums = [
            [float(np.sum((e.weight * count * factor)[(e.score >= -4.0) & of])) for of in (e.y, ~e.y)]
            for e in (base, up)
        ]
        values.append(ams(*sums[1]) - ams(*sums[0]))
    assert float(np.std(values)) == pytest.approx(expected, rel=0.2)
