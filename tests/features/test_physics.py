"""Physics quantities and network inputs against a slow plain implementation and against scikit-hep vector."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
import vector

from higgsbench.features import evaluate, feature_set, resolve_features
from higgsbench.features.quantity import (
    Momentum,
    abs_delta_eta,
    abs_delta_phi,
    delta_r,
    transverse_mass_squared,
    wrap,
)
from higgsbench.schema import ATLAS_HIGGS
from tests.features.conftest import changed, random_events

Row = dict[str, Any]


def plain_wrap(x: float) -> float:
    while x >= math.pi:
        x -= 2 * math.pi
    while x < -math.pi:
        x += 2 * math.pi
    return x


class Plain:
    """One event, with Python floats."""

    def __init__(self, row: Row) -> None:
        self.row = row
        flip = 1 if row["PRI_tau_eta"] > 0 else -1
        side = 1 if plain_wrap(row["PRI_lep_phi"] - row["PRI_tau_phi"]) > 0 else -1
        names = {"tau": "PRI_tau", "lep": "PRI_lep", "jet1": "PRI_jet_leading", "jet2": "PRI_jet_subleading"}
        self.pt = {k: row[f"{p}_pt"] for k, p in names.items() if row[f"{p}_pt"] is not None}
        self.eta = {k: flip * row[f"{names[k]}_eta"] for k in self.pt}
        self.phi = {k: plain_wrap(side * (row[f"{names[k]}_phi"] - row["PRI_tau_phi"])) for k in self.pt}
        self.pt["met"] = row["PRI_met"]
        self.phi["met"] = plain_wrap(side * (row["PRI_met_phi"] - row["PRI_tau_phi"]))
        self.px = {k: self.pt[k] * math.cos(self.phi[k]) for k in self.pt}
        self.py = {k: self.pt[k] * math.sin(self.phi[k]) for k in self.pt}

    def dphi(self, a: str, b: str) -> float:
        return abs(plain_wrap(self.phi[a] - self.phi[b]))

    def angle(self, ax: float, ay: float, bx: float, by: float) -> float:
        return abs(plain_wrap(math.atan2(ay, ax) - math.atan2(by, bx)))

    def canonical(self) -> dict[str, float]:
        found = {f"{k}_eta_can": v for k, v in self.eta.items()}
        return found | {f"{k}_phi_can": v for k, v in self.phi.items() if k != "tau"}

    def physics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for a, b in combinations([k for k in ("tau", "lep", "met", "jet1", "jet2") if k in self.pt], 2):
            found[f"dphi_{a}_{b}"] = self.dphi(a, b)
            if "met" not in (a, b):
                found[f"deta_{a}_{b}"] = abs(self.eta[a] - self.eta[b])
                found[f"dr_{a}_{b}"] = math.hypot(found[f"deta_{a}_{b}"], found[f"dphi_{a}_{b}"])
        return found | self.collinear() | self.projections() | self.global_event()

    def collinear(self) -> dict[str, float]:
        (tx, ty), (lx, ly) = ((self.px[k], self.py[k]) for k in ("tau", "lep"))
        mx, my = self.px["met"], self.py["met"]
        # MET = a tau + b lep by Cramer's rule
        determinant = tx * ly - ty * lx
        a, b = (mx * ly - my * lx) / determinant, (tx * my - ty * mx) / determinant
        found = {"x_tau": 1 / (1 + a), "x_lep": 1 / (1 + b)}
        if (1 + a) * (1 + b) > 0:
            found["mass_collinear"] = self.row["DER_mass_vis"] * math.sqrt((1 + a) * (1 + b))
        return found

    def projections(self) -> dict[str, float]:
        units = [(self.px[k] / self.pt[k], self.py[k] / self.pt[k]) for k in ("tau", "lep")]
        zx, zy = units[0][0] + units[1][0], units[0][1] + units[1][1]
        size = math.hypot(zx, zy)
        visible = sum(self.px[k] * zx + self.py[k] * zy for k in ("tau", "lep")) / size
        missing = (self.px["met"] * zx + self.py["met"] * zy) / size
        return {"pzeta_vis": visible, "pzeta_miss": missing, "pzeta": missing - 0.85 * visible}

    def global_event(self) -> dict[str, float]:
        row, pairs = self.row, combinations(("tau", "lep", "met"), 2)
        squared = sum(2 * self.pt[a] * self.pt[b] * (1 - math.cos(self.dphi(a, b))) for a, b in pairs)
        found = {"mt_total": math.sqrt(squared), "met_significance": row["PRI_met"] / math.sqrt(row["PRI_met_sumet"])}
        if row["DER_mass_MMC"] is not None:
            found["mmc_over_vis"] = row["DER_mass_MMC"] / row["DER_mass_vis"]
        pz = sum(self.pt[k] * math.sinh(self.eta[k]) for k in ("tau", "lep"))
        vx, vy = self.px["tau"] + self.px["lep"], self.py["tau"] + self.py["lep"]
        found["eta_vis"] = math.asinh(pz / math.hypot(vx, vy))
        found["pt_h_share"] = row["DER_pt_h"] / (row["DER_sum_pt"] + row["PRI_met"])
        hx, hy = vx + self.px["met"], vy + self.py["met"]
        if "jet1" in self.pt:
            found["dphi_h_jet1"] = self.angle(hx, hy, self.px["jet1"], self.py["jet1"])
        if "jet2" in self.pt:
            jj = self.px["jet1"] + self.px["jet2"], self.py["jet1"] + self.py["jet2"]
            found["dphi_h_jj"] = self.angle(hx, hy, *jj)
            centre, gap = (self.eta["jet1"] + self.eta["jet2"]) / 2, self.eta["jet1"] - self.eta["jet2"]
            found["tau_eta_centrality"] = math.exp(-4 / gap**2 * (self.eta["tau"] - centre) ** 2)
        return found

    def momenta(self) -> dict[str, float]:
        found = {f"jet_num_is_{n}": float(self.row["PRI_jet_num"] == n) for n in range(4)}
        found["mmc_missing"] = float(self.row["DER_mass_MMC"] is None)
        for k in ("tau", "lep", "met", "jet1", "jet2"):
            size = math.log1p(self.pt[k] / 20) if k in self.pt else 0.0
            phi = self.phi.get(k, 0.0)
            found[f"{k}_lx"], found[f"{k}_ly"] = size * math.cos(phi), size * math.sin(phi)
            found[f"{k}_eta_in"] = self.eta.get(k, 0.0)
        for name, value in self.row.items():
            short = name.split("_", 1)[1]
            known = 0.0 if value is None else value
            if name != "DER_mass_MMC" or value is not None:
                found[f"log_{short}"] = math.copysign(math.log1p(abs(known)), known)
            found[short] = known
        return found


@pytest.mark.parametrize("name", ["canonical", "physics", "momenta"])
def test_every_feature_agrees_with_a_slow_plain_one(name: str) -> None:
    frame = random_events(11, 300)
    features = resolve_features(ATLAS_HIGGS, name=name)
    table = evaluate(frame, features.expressions)
    new = [c for c in table.columns if c not in frame.columns]
    for index, row in enumerate(frame.iter_rows(named=True)):
        plain = Plain(row)
        expected = plain.momenta() if name == "momenta" else plain.canonical() | plain.physics()
        for column in new:
            found, wanted = table[column][index], expected.get(column)
            assert (found is None) == (wanted is None), f"event {index}: {column}"
            if wanted is not None:
                # Twelve digits are lost near a pole of the collinear fractions, three at most here.
                assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9), f"event {index}: {column}"


@pytest.mark.parametrize("name", ["canonical", "physics", "momenta"])
def test_every_feature_is_documented(name: str) -> None:
    for quantity in feature_set(name).quantities(ATLAS_HIGGS):
        assert quantity.formula
        assert quantity.source
        assert quantity.unit in ("", "GeV", "rad", "sqrt(GeV)")


def test_against_vector() -> None:
    rng, coordinates = np.random.default_rng(0), ("pt", "eta", "phi")
    limits = {"pt": (20, 300), "eta": (-4.5, 4.5), "phi": (-math.pi, math.pi)}
    columns = {f"{c}{i}": rng.uniform(*limits[c], 2000) for i in (1, 2) for c in coordinates}
    parts = [[pl.col(f"{c}{i}") for c in coordinates] for i in (1, 2)]
    a, b = (Momentum("o", pt, phi, pt * phi.cos(), pt * phi.sin(), eta) for pt, eta, phi in parts)
    objects: list[Any] = [
        vector.array({"mass": np.zeros(2000), **{c: columns[f"{c}{i}"] for c in coordinates}}) for i in (1, 2)
    ]
    u, v = objects
    transverse = np.sqrt(np.maximum((u.pt + v.pt) ** 2 - ((u.px + v.px) ** 2 + (u.py + v.py) ** 2), 0))
    for expression, expected in (
        (abs_delta_phi(a, b), np.abs(u.deltaphi(v))),
        (abs_delta_eta(a, b), np.abs(u.deltaeta(v))),
        (delta_r(a, b), u.deltaR(v)),
        (transverse_mass_squared(a, b).sqrt(), transverse),
        (a.pz, u.pz),
    ):
        found = pl.DataFrame(columns).select(expression.alias("x"))["x"]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=str(expression))


def test_wrap_is_half_open() -> None:
    angles = [0.0, math.pi, -math.pi, 3.5, -3.5, 6.284, -6.284]
    found = pl.DataFrame({"x": angles}).select(wrap(pl.col("x")))["x"].to_list()
    assert found == pytest.approx([plain_wrap(x) for x in angles], abs=1e-12)


@pytest.mark.parametrize("lep", [1.0, 1.0 - math.pi, 1.0 + math.pi, 1.0005])
def test_no_collinear_mass_for_a_lepton_in_line_with_the_tau(two_jets: pl.DataFrame, lep: float) -> None:
    found = changed("physics", two_jets, PRI_tau_phi=1.0, PRI_lep_phi=lep)
    assert found["x_tau"] is None
    assert found["x_lep"] is None
    assert found["mass_collinear"] is None
    assert all(v is None or math.isfinite(v) for v in found.values())


def test_projections_back_to_back_are_continuous(two_jets: pl.DataFrame) -> None:
    exact = changed("physics", two_jets, PRI_tau_phi=1.0, PRI_lep_phi=1.0 + math.pi, PRI_met_phi=2.0)
    nearly = changed("physics", two_jets, PRI_tau_phi=1.0, PRI_lep_phi=1.0 + math.pi - 1e-4, PRI_met_phi=2.0)
    for name in ("pzeta_vis", "pzeta_miss", "pzeta"):
        assert exact[name] == pytest.approx(nearly[name], abs=0.1)


def test_jets_at_equal_eta_have_no_gap(two_jets: pl.DataFrame) -> None:
    found = changed("physics", two_jets, PRI_jet_leading_eta=1.0, PRI_jet_subleading_eta=1.0, PRI_tau_eta=0.5)
    assert found["tau_eta_centrality"] == 0
    inside = changed("physics", two_jets, PRI_jet_leading_eta=1.0, PRI_jet_subleading_eta=1.0, PRI_tau_eta=1.0)
    assert inside["tau_eta_centrality"] is None  # 0/0
