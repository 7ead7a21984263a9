"""The field names, units and sentinels of an event table, and the layouts of public data sets.

All higher layers use a `TableSchema` to find out what a column means; they never hard-code the challenge's column names
to read, weight or split events.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


MISSING = -999.0
"""How the challenge's files write a value that could not be measured."""

N_S = 691.988607712
"""Expected signal events in the challenge's data-taking period (sum of signal weights)."""

N_B = 410999.847322
"""Expected background events in the challenge's data-taking period (sum of background weights)."""

B_REG = 10.0
"""Regularisation of the background in the challenge's AMS."""

DERIVED: tuple[str, ...] = (
    "DER_mass_MMC", "DER_mass_transverse_met_lep", "DER_mass_vis", "DER_pt_h", "DER_deltaeta_jet_jet",
    "DER_mass_jet_jet", "DER_prodeta_jet_jet", "DER_deltar_tau_lep", "DER_pt_tot", "DER_sum_pt",
    "DER_pt_ratio_lep_tau", "DER_met_phi_centrality", "DER_lep_eta_centrality",
)  # fmt: skip

PRIMARY: tuple[str, ...] = (
    "PRI_tau_pt", "PRI_tau_eta", "PRI_tau_phi", "PRI_lep_pt", "PRI_lep_eta", "PRI_lep_phi",
    "PRI_met", "PRI_met_phi", "PRI_met_sumet", "PRI_jet_num",
    "PRI_jet_leading_pt", "PRI_jet_leading_eta", "PRI_jet_leading_phi",
    "PRI_jet_subleading_pt", "PRI_jet_subleading_eta", "PRI_jet_subleading_phi", "PRI_jet_all_pt",
)  # fmt: skip

FEATURES: tuple[str, ...] = DERIVED + PRIMARY
"""The 30 features in the order of the official files."""

_PURE = ("PRI_tau_eta", "PRI_lep_eta", "PRI_jet_num", "PRI_jet_leading_eta", "PRI_jet_subleading_eta",
         "DER_deltaeta_jet_jet", "DER_prodeta_jet_jet", "DER_deltar_tau_lep", "DER_pt_ratio_lep_tau",
         "DER_met_phi_centrality", "DER_lep_eta_centrality")  # fmt: skip
UNITS: Mapping[str, str] = MappingProxyType(
    {name: "rad" if name.endswith("_phi") else "" if name in _PURE else "GeV" for name in FEATURES}
)
"""Unit of each feature: GeV, rad, or empty for a pure number."""

_OBJECTS = {"PRI_tau": r"\tau", "PRI_lep": r"\ell", "PRI_jet_leading": "j_1", "PRI_jet_subleading": "j_2"}
SYMBOLS: Mapping[str, str] = MappingProxyType(
    {f"{name}_{key}": rf"{symbol}({what})" for name, what in _OBJECTS.items()
     for key, symbol in (("pt", "p_T"), ("eta", r"\eta"), ("phi", r"\phi"))}
    | {
        "DER_mass_MMC": r"m_{\tau\tau}^{MMC}", "DER_mass_transverse_met_lep": r"m_T(\ell, E_T^{miss})",
        "DER_mass_vis": r"m(\tau, \ell)", "DER_pt_h": "p_T^{H}", "DER_deltaeta_jet_jet": r"|\Delta\eta(j_1, j_2)|",
        "DER_mass_jet_jet": "m(j_1, j_2)", "DER_prodeta_jet_jet": r"\eta(j_1)\,\eta(j_2)",
        "DER_deltar_tau_lep": r"\Delta R(\tau, \ell)", "DER_pt_tot": "p_T^{tot}", "DER_sum_pt": r"\Sigma p_T",
        "DER_pt_ratio_lep_tau": r"p_T(\ell)\,/\,p_T(\tau)", "DER_met_phi_centrality": r"C_{\phi}(E_T^{miss})",
        "DER_lep_eta_centrality": r"C_{\eta}(\ell)", "PRI_met": "E_T^{miss}", "PRI_met_phi": r"\phi(E_T^{miss})",
        "PRI_met_sumet": r"\Sigma E_T", "PRI_jet_num": "N_{jet}", "PRI_jet_all_pt": r"\Sigma p_T(j)",
    }
)  # fmt: skip
"""Symbol of each feature on the axes of figures, in TeX's notation."""

_TWO_JETS = ("DER_deltaeta_jet_jet", "DER_mass_jet_jet", "DER_prodeta_jet_jet", "DER_lep_eta_centrality",
             "PRI_jet_subleading_pt", "PRI_jet_subleading_eta", "PRI_jet_subleading_phi")  # fmt: skip
_ONE_JET = ("PRI_jet_leading_pt", "PRI_jet_leading_eta", "PRI_jet_leading_phi")

STRUCTURALLY_MISSING: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {0: _TWO_JETS + _ONE_JET, 1: _TWO_JETS, 2: (), 3: ()}
)
"""Columns that are missing in every event with the given number of jets, because the jets do not exist."""


MOST_CATEGORIES = 200
"""The largest number of values of a categorical feature: networks see each value as a separate column."""


def is_number(label: str) -> bool:
    """Whether a label reads as a number."""
    try:
        float(label)
    except ValueError:
        return False
    return True


def parse_share(text: str) -> float:
    """Read a number or a percentage; a ValueError if it is neither.

    Example:
        >>> parse_share("0.03"), parse_share("3%")
        (0.03, 0.03)
    """
    return float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)


@dataclass(frozen=True)
class TableSchema:
    """What the columns of a binary-classification event table mean.

    Attributes:
        name: short name of the layout, shown to users.
        features: measured columns that a model may see, in file order.
        label: column of the truth.
        signal: value of `label` that means signal, as the file writes it.
        background: value of `label` that means background; None accepts every other value.
        weight: column of event weights, or None where every event counts 1.
        event_id: column of unique event numbers, or None where the row number is used.
        group: feature by which submodels are split (the jet number), or None.
        groups: values of `group` that form one submodel each, for the default split.
        integers: features that hold whole numbers.
        missing: value that stands for "could not be measured" in the file, or None.
        subset: column that assigns events to training and test sets, or None.
        subset_weight: column of weights normalised within each subset, or None.
        subset_values: allowed values of `subset`.
        n_s: reference total of signal, or None for the sum in the labelled data.
        n_b: reference total of background, or None for the sum in the labelled data.
        negative_weights: whether negative weights (next-to-leading-order generators) are allowed.
        header: whether a text file must begin with a line of column names; otherwise it may.
        columns: the columns in file order, for text files without a header.
        ignore_unknown: whether the file may have other columns; they are not read.
        empty_is_missing: whether an empty cell means "could not be measured".
        process: column of the name of each event's physics process (text), or None.
        categories: categorical features (columns of text) and their values in order; empty while the values are
            unknown.
        derived: columns that the reader computes, and their expressions over the columns of the file.
        select: expression over the columns of the file; events that fail it are left out.
        ids: columns of the file that together identify an event within its sample; `event_id` is made from them.
        fold: column of whole numbers that defines the folds, or None.
        weight_note: why the sums of the weights may not be the expected events; empty if they are.

    Example:
        >>> layout = higgsbench.TableSchema(name="dilepton", features=("m_ll", "met"), label="kind", weight="w")
        >>> layout.features
        ('m_ll', 'met')
    """

    name: str
    features: tuple[str, ...]
    label: str
    signal: str = "s"
    background: str | None = "b"
    weight: str | None = None
    event_id: str | None = None
    group: str | None = None
    groups: tuple[tuple[int, ...], ...] = ()
    integers: frozenset[str] = field(default_factory=frozenset)
    missing: float | None = None
    subset: str | None = None
    subset_weight: str | None = None
    subset_values: tuple[str, ...] = ()
    n_s: float | None = None
    n_b: float | None = None
    negative_weights: bool = False
    header: bool = True
    columns: tuple[str, ...] = ()
    ignore_unknown: bool = False
    empty_is_missing: bool = False
    process: str | None = None
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    derived: Mapping[str, str] = field(default_factory=dict, hash=False)
    select: str | None = None
    ids: tuple[str, ...] = ()
    fold: str | None = None
    weight_note: str = ""

    @property
    def numeric_label(self) -> bool:
        """Whether the labels are numbers in the file, so that 1, 1.0 and 1e0 mean the same."""
        return is_number(self.signal) and (self.background is None or is_number(self.background))

    @property
    def numeric(self) -> tuple[str, ...]:
        """Features that are numbers, not categories."""
        return tuple(name for name in self.features if name not in self.categories)

    @property
    def not_features(self) -> tuple[str, ...]:
        """Label, weight and bookkeeping columns, which can never be features."""
        names = (self.weight, self.subset_weight, self.subset, self.label, self.event_id, self.process, self.fold)
        return tuple(name for name in names if name is not None)


ATLAS_HIGGS = TableSchema(
    name="atlas-higgs-2014",
    features=FEATURES,
    label="Label",
    signal="s",
    background="b",
    weight="Weight",
    event_id="EventId",
    group="PRI_jet_num",
    groups=((0,), (1,), (2, 3)),
    integers=frozenset({"PRI_jet_num"}),
    missing=MISSING,
    subset="KaggleSet",
    subset_weight="KaggleWeight",
    subset_values=("t", "b", "v", "u"),
    n_s=N_S,
    n_b=N_B,
)
"""Kaggle's training.csv and test.csv and the CERN Open Data file (record 328, DOI 10.7483/OPENDATA.ATLAS.ZBP2.M5T8)."""

SIMULATED_FROM = 1_000_000_000
"""Toy events have event numbers from this value upwards, far above those of the official file, so that they
can be recognised in any file and are never ranked together with real data."""


def _uci(name: str, *features: str) -> TableSchema:
    """Return a layout of the UCI repository: a label 0 or 1 in the first column, no weights, no header."""
    return TableSchema(name, features, "label", signal="1", background="0", header=False, columns=("label", *features))


_JETS = ("PRI_jet_leading_pt", "PRI_jet_leading_eta", "PRI_jet_leading_phi", "PRI_jet_subleading_pt",
         "PRI_jet_subleading_eta", "PRI_jet_subleading_phi")  # fmt: skip
_MANY_JETS = range(64)  # FAIR Universe does not cap the number of jets; the last group includes all large ones

FAIR_UNIVERSE = TableSchema(
    name="fair-universe",
    features=(
        "PRI_lep_pt", "PRI_lep_eta", "PRI_lep_phi", "PRI_had_pt", "PRI_had_eta", "PRI_had_phi", *_JETS, "PRI_n_jets",
        "PRI_jet_all_pt", "PRI_met", "PRI_met_phi", "DER_mass_transverse_met_lep", "DER_mass_vis", "DER_pt_h",
        "DER_deltaeta_jet_jet", "DER_mass_jet_jet", "DER_prodeta_jet_jet", "DER_deltar_had_lep", "DER_pt_tot",
        "DER_sum_pt", "DER_pt_ratio_lep_had", "DER_met_phi_centrality", "DER_lep_eta_centrality",
    ),
    label="labels",
    signal="1",
    background="0",
    weight="weights",
    group="PRI_n_jets",
    groups=((0,), (1,), tuple(_MANY_JETS[2:])),
    integers=frozenset({"PRI_n_jets"}),
    missing=-25.0,
    ignore_unknown=True,
    process="detailed_labels",
)  # fmt: skip
"""The FAIR Universe HiggsML Uncertainty Challenge of 2024 (DOI 10.5281/zenodo.15131565)."""

FAIR_UNIVERSE_2023 = TableSchema(
    name="fair-universe-2023",
    features=(
        "PRI_lep_pt", "PRI_lep_eta", "PRI_lep_phi", "PRI_electron_flag", "PRI_muon_flag", "PRI_had_pt", "PRI_had_eta",
        "PRI_had_phi", *_JETS[:3], "PRI_n_jets", *_JETS[3:], "PRI_jet_all_pt", "PRI_met", "PRI_met_phi",
        "DER_mass_transverse_lep_had", "DER_mass_vis", "DER_pt_h", "DER_deltaeta_jet_jet", "DER_mass_jet_jet",
        "DER_prodeta_jet_jet", "DER_deltar_lep_had", "DER_pt_tot", "DER_sum_pt", "DER_pt_ratio_lep_had",
        "DER_mass_transverse_met_lep", "DER_deltar_had_lep", "DER_met_phi_centrality", "DER_lep_eta_centrality",
    ),
    label="Label",
    weight="Weight",
    event_id="EventId",
    group="PRI_n_jets",  # the hadronic tau counts as a jet
    groups=((0, 1), (2,), tuple(_MANY_JETS[3:])),
    integers=frozenset({"PRI_electron_flag", "PRI_muon_flag", "PRI_n_jets"}),
    missing=-7.0,
    ignore_unknown=True,
    weight_note="each file of the bundle has the full weight of each class, so n joined files have n times as much",
)  # fmt: skip
"""The FAIR Universe HiggsML bundle of November 2023; each class carries one file's worth of weight in each file."""

UCI_HIGGS = _uci(
    "uci-higgs",
    *("lepton_pT", "lepton_eta", "lepton_phi", "missing_energy_magnitude", "missing_energy_phi"),
    *(f"jet_{i}_{part}" for i in range(1, 5) for part in ("pt", "eta", "phi", "btag")),
    *("m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"),
)
"""HIGGS of the UCI repository (Baldi, Sadowski, Whiteson, Nature Communications 5 (2014) 4308)."""

UCI_SUSY = _uci(
    "uci-susy",
    *(f"lepton_{i}_{part}" for i in (1, 2) for part in ("pT", "eta", "phi")),
    *("missing_energy_magnitude", "missing_energy_phi", "MET_rel", "axial_MET", "M_R", "M_TR_2", "R", "MT2", "S_R"),
    *("M_Delta_R", "dPhi_r_b", "cos_theta_r1"),
)
"""SUSY of the UCI repository, from the same article."""

UCI_HEPMASS = TableSchema(
    name="uci-hepmass",
    features=(*(f"f{i}" for i in range(27)), "mass"),
    label="# label",
    signal="1",
    background="0",
)
"""HEPMASS of the UCI repository (Baldi et al., European Physical Journal C 76 (2016) 235), files all and not1000."""

UCI_HEPMASS_1000 = replace(UCI_HEPMASS, name="uci-hepmass-1000", features=UCI_HEPMASS.features[:-1])
"""The files 1000 of HEPMASS, in which every signal event has the same mass."""

SCHEMAS: Mapping[str, TableSchema] = MappingProxyType(
    {
        schema.name: schema
        for schema in (
            ATLAS_HIGGS, FAIR_UNIVERSE, FAIR_UNIVERSE_2023, UCI_HIGGS, UCI_SUSY, UCI_HEPMASS, UCI_HEPMASS_1000
        )
    }
)  # fmt: skip
"""Layouts by name; a configuration can name one of them, and files are recognised by their columns."""
