"""Events in memory and written: what is written is read back the same, and CSV looks like the official file."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import DataError, MissingExtraError
from higgsbench.events import Events, content_digest, load_events
from higgsbench.events.table import describe
from higgsbench.events.write import FORMATS, output_format, write_events
from higgsbench.schema import ATLAS_HIGGS, FEATURES, N_B, N_S, SIMULATED_FROM, TableSchema


@pytest.fixture(scope="module")
def events(toys: pl.DataFrame) -> Events:
    return Events(toys, ATLAS_HIGGS, "toys")


@pytest.mark.parametrize("ending", list(FORMATS))
def test_round_trip_keeps_the_content(events: Events, ending: str, tmp_path: Path) -> None:
    if ending == ".root":
        pytest.importorskip("uproot")
    file = write_events(events.frame, tmp_path / f"a{ending}")
    again = load_events(file, cache=False)
    assert again.digest == events.digest
    assert again.frame.columns == events.frame.columns
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_missing_is_written_as_in_the_official_file(events: Events, tmp_path: Path) -> None:
    text = write_events(events.frame, tmp_path / "a.csv").read_text().splitlines()
    zero_jets = text[1 + int((events.frame["PRI_jet_num"] == 0).arg_max() or 0)].split(",")
    column = text[0].split(",").index
    assert zero_jets[column("PRI_jet_leading_pt")] == "-999.0"
    assert zero_jets[column("PRI_jet_num")] == "0"
    raw = pl.read_parquet(write_events(events.frame, tmp_path / "a.parquet"))
    assert raw["PRI_jet_leading_pt"].min() == -999.0
    assert raw.null_count().sum_horizontal().item() == 0


def test_official_rows_come_out_byte_for_byte(real_sample: Path, sample: pl.DataFrame, tmp_path: Path) -> None:
    official = gzip.decompress(real_sample.read_bytes())
    through_parquet = load_events(write_events(sample, tmp_path / "a.parquet"), cache=False)
    assert write_events(through_parquet.frame, tmp_path / "a.csv").read_bytes() == official
    assert gzip.decompress(write_events(sample, tmp_path / "a.csv.gz").read_bytes()) == official


def test_equal_events_make_equal_gzip_files(events: Events, tmp_path: Path) -> None:
    shuffled = events.frame.select(reversed(events.frame.columns))
    first, second = (write_events(f, tmp_path / f"{f.columns[0]}.csv.gz") for f in (events.frame, shuffled))
    assert first.read_bytes() == second.read_bytes()
    header = gzip.decompress(second.read_bytes()).split(b"\n")[0].decode()
    assert header.split(",") == ["EventId", *FEATURES, "Weight", "Label", "KaggleSet", "KaggleWeight"]


@pytest.mark.parametrize("name", ["a.txt", "a", ".csv", "a.csv.zip"])
def test_unknown_endings_are_refused(events: Events, name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must end in one of \.csv"):
        write_events(events.frame, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert output_format(Path("A.CSV.GZ")) == ".csv.gz"  # the longer ending wins


def test_a_folder_that_does_not_exist_is_one_line(events: Events, tmp_path: Path) -> None:
    for ending in (".csv", ".parquet", ".csv.gz"):
        with pytest.raises(DataError, match="cannot be written"):
            write_events(events.frame, tmp_path / "no" / f"a{ending}")


def test_without_uproot_the_extra_is_named(events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uproot", None)
    with pytest.raises(MissingExtraError, match=r"higgsbench\[root\]"):
        write_events(events.frame, tmp_path / "a.root")
    (tmp_path / "b.root").write_bytes(b"root\x00\x00\xf2\xfe and more")  # the format and its version
    with pytest.raises(MissingExtraError, match=r"higgsbench\[root\]"):
        load_events(tmp_path / "b.root")


class TestRoot:
    uproot: Any

    @pytest.fixture(autouse=True)
    def needs_uproot(self) -> None:
        self.uproot = pytest.importorskip("uproot")

    def test_labels_may_be_single_characters(self, events: Events, tmp_path: Path) -> None:
        frame = events.frame.drop("KaggleSet", "KaggleWeight").fill_null(-999.0)
        branches = {name: frame[name].to_numpy() for name in frame.columns if name != "Label"}
        branches["Label"] = np.array([ord(label) for label in frame["Label"]], dtype=np.int8)
        with self.uproot.recreate(tmp_path / "a.root") as file:
            file.mktree("tree", {name: values.dtype for name, values in branches.items()}).extend(branches)
        again = load_events(tmp_path / "a.root", cache=False)
        assert again.digest == content_digest(events.frame.drop("KaggleSet", "KaggleWeight"))

    def test_which_tree(self, tmp_path: Path) -> None:
        refusals = {
            ("one",): "the columns .x. match no built-in layout",
            ("one", "two"): r"the tree of events is ambiguous.*one.*two",
        }
        for names, message in refusals.items():
            with self.uproot.recreate(tmp_path / "a.root") as file:
                for name in names:
                    file.mktree(name, {"x": np.dtype(float)}).extend({"x": np.zeros(3)})
            with pytest.raises(DataError, match=message):
                load_events(tmp_path / "a.root")

    @pytest.mark.parametrize("keep", [10, 3000])
    def test_damaged_files_are_one_line(self, events: Events, keep: int, tmp_path: Path) -> None:
        whole = write_events(events.frame, tmp_path / "a.root").read_bytes()
        file = tmp_path / "b.root"
        file.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=r"b\.root: damaged or not a ROOT file") as caught:
            load_events(file)
        assert "\n" not in str(caught.value)
        assert not str(caught.value).endswith(",")

    def test_a_path_with_a_colon(self, events: Events, tmp_path: Path) -> None:
        assert len(load_events(write_events(events.frame, tmp_path / "a:b.root"), cache=False)) == 4000


class TestInfo:
    def test_counts_and_sums(self, events: Events) -> None:
        info = describe(events)
        assert (info["rows"], info["layout"], info["labelled"]) == (4000, "atlas-higgs-2014", True)
        assert info["weight"] == "KaggleWeight"
        assert [subset["name"] for subset in info["subsets"]] == ["t", "b", "v"]
        assert sum(subset["events"] for subset in info["subsets"]) == 4000
        for subset in info["subsets"]:
            assert subset["signal_weight"] == pytest.approx(691.988607712)
            assert subset["background_weight"] == pytest.approx(410999.847322)
            assert subset["signal"] + subset["background"] == subset["events"]
        assert sum(info["groups"].values()) == 4000
        assert info["missing"]["PRI_jet_leading_pt"] == {"0": info["groups"]["0"], "1": 0, "2": 0, "3": 0}
        assert "PRI_tau_pt" not in info["missing"]

    def test_unlabelled_events(self, events: Events) -> None:
        info = describe(Events(events.frame.drop("Weight", "Label", "KaggleSet", "KaggleWeight"), ATLAS_HIGGS, "test"))
        assert (info["labelled"], info["weight"]) == (False, None)
        sums = dict.fromkeys(("signal", "background", "signal_weight", "background_weight"))
        assert info["subsets"] == [{"name": "all", "events": 4000, **sums}]

    def test_another_layout(self) -> None:
        schema = TableSchema("mine", ("x", "y"), "label", signal="1", background="0")
        frame = pl.DataFrame({"x": [1.0, None, 3.0], "y": [1.0, 2.0, 3.0], "label": ["1", "0", "0"]})
        info = describe(Events(frame, schema, "mine"))
        assert (info["missing"], info["groups"]) == ({"x": {"None": 1}}, {})
        assert (info["subsets"][0]["signal_weight"], info["subsets"][0]["background_weight"]) == (1.0, 2.0)


# Events in memory

SCHEMA = TableSchema("mine", ("x",), "label", weight="w", group="jets", subset="set", subset_weight="sw")
FRAME = pl.DataFrame(
    {"x": [1.0, None, 3.0], "label": ["s", "b", "b"], "w": [1.0, 2.0, 3.0], "jets": [0, 1, 2], "set": ["t", "t", "v"]}
)


def test_digest_knows_only_content() -> None:
    digest = content_digest(FRAME)
    assert digest == content_digest(FRAME.select(FRAME.columns[::-1]))
    assert digest == content_digest(pl.concat([FRAME[:1], FRAME[1:]], rechunk=False))
    assert digest == content_digest(FRAME.with_columns(pl.col("x") + 0.0))


@pytest.mark.parametrize(
    "other",
    [
        FRAME[::-1],
        FRAME[:2],
        FRAME.rename({"x": "y"}),
        FRAME.with_columns(pl.col("x").fill_null(0.0)),
        FRAME.with_columns(pl.col("x").cast(pl.Float32)),
        FRAME.with_columns(x=pl.Series([1.0, 3.0, None])),
        FRAME.with_columns(label=pl.Series(["s", "bb", ""])),
        FRAME.with_columns(label=pl.Series(["s", "b", None])),
        FRAME.with_columns(pl.col("w").cast(pl.Int64)),
    ],
    ids=["order", "fewer", "name", "null is not 0", "type", "which is null", "shifted text", "null text", "whole"],
)
def test_digest_knows_all_content(other: pl.DataFrame) -> None:
    assert content_digest(other) != content_digest(FRAME)


def test_weight_of_the_subset_counts_within_one_subset() -> None:
    events = Events(FRAME, SCHEMA, "here")
    np.testing.assert_array_equal(events.weight, [1.0, 2.0, 3.0])
    events = Events(FRAME.with_columns(sw=pl.Series([7.0, 8.0, 9.0])), SCHEMA, "here")
    np.testing.assert_array_equal(events.weight, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(events.take(np.array([0, 1])).weight, [7.0, 8.0])
    only = Events(FRAME.drop("w").with_columns(sw=pl.Series([7.0, 8.0, 9.0])), SCHEMA, "here")
    np.testing.assert_array_equal(only.weight, [7.0, 8.0, 9.0])


def test_parts_are_data_of_their_own() -> None:
    events = Events(FRAME, SCHEMA, "here")
    np.testing.assert_array_equal(events.in_subsets(["v"]), [False, False, True])
    with pytest.raises(DataError, match="here: no column set, so no subsets"):
        Events(FRAME.drop("set"), SCHEMA, "here").in_subsets(["t"])
    part = events.take(np.array([True, False, True]))
    assert (len(part), part.source) == (2, "here")
    assert part.digest == events.take(np.array([0, 2])).digest != events.digest


def test_simulated_events_are_known_by_their_numbers() -> None:
    frame = pl.DataFrame({"EventId": [SIMULATED_FROM - 1, SIMULATED_FROM]})
    assert Events(frame, ATLAS_HIGGS, "here").simulated
    assert not Events(frame[:1], ATLAS_HIGGS, "here").simulated


def test_totals_are_the_challenge_s_or_the_data_s_own() -> None:
    assert Events(FRAME, SCHEMA, "here").totals() == (1.0, 5.0)
    assert Events(FRAME, ATLAS_HIGGS, "here").totals() == (N_S, N_B)
