"""Write the ntuples of a made-up analysis, three processes in eight ROOT files, to try higgsbench with.

    python examples/make_ntuples.py ntuples

A Higgs boson decays to two tau leptons, one of which decays to an electron or a muon; top pairs and W bosons with jets
look alike. Each file has a tree `nominal` and one for each direction of the tau energy scale, `tes_up` and `tes_down`.
Jets are vectors, generator weights have both signs, and every sample numbers its events from zero.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import uproot
from numpy.typing import NDArray

SAMPLES = {"ggH": (2, 3000, 0.06), "ttbar": (3, 2500, 0.9), "wjets": (3, 3500, 2.5)}
"""Files, events of each file and mean weight of the processes."""

TES = {"nominal": 1.0, "tes_up": 1.03, "tes_down": 0.97}
"""Trees and their scale of the tau lepton's energy."""


def write_ntuples(folder: Path, *, scale: float = 1.0, seed: int = 1) -> list[Path]:
    """Write all files; `scale` multiplies the number of events."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, (process, (files, events, weight)) in enumerate(SAMPLES.items()):
        rng = np.random.default_rng([seed, number])
        first = 0
        for part in range(files):
            n = int(events * scale)
            branches = _events(process, n, weight, rng)
            branches["event_number"] = np.arange(first, first + n, dtype=np.uint64)
            first += n
            written.append(folder / f"{process}_{part}.root")
            with uproot.recreate(written[-1]) as file:
                for tree, shift in TES.items():
                    content = {name: awkward.Array(values) for name, values in _shifted(branches, shift).items()}
                    file.mktree(tree, {name: array.type.content for name, array in content.items()}).extend(content)
    return written


def _events(process: str, n: int, weight: float, rng: np.random.Generator) -> dict[str, Any]:
    """Return the branches of some events, energies in GeV."""
    higgs, top = process == "ggH", process == "ttbar"
    n_jets = rng.poisson({"ggH": 0.9, "ttbar": 2.4, "wjets": 0.7}[process], n).clip(0, 5)
    jets = np.sort(30.0 + rng.exponential(60.0 if top else 35.0, (n, 5)), axis=1)[:, ::-1]
    tau_pt = 20.0 + rng.exponential(28.0 if higgs else 20.0, n)
    lep_pt = 25.0 + rng.exponential(20.0, n)
    phi = rng.uniform(-np.pi, np.pi, n)
    tau_lep_phi = np.pi * rng.beta(5.0 if higgs else 2.5, 2.0, n) * rng.choice([-1.0, 1.0], n)
    met = rng.gamma(2.0, 14.0 if higgs else 22.0, n)
    mass = np.where(higgs, rng.normal(88.0, 17.0, n), rng.gamma(3.5, 24.0, n))
    sign = np.where(rng.random(n) < (0.15 if top else 0.05), -1.0, 1.0)
    inside = np.arange(5) < n_jets[:, None]
    return {
        "run_number": np.full(n, 284500, dtype=np.uint32),
        "mc_weight": weight * sign * rng.uniform(0.8, 1.2, n),
        "pileup_weight": rng.normal(1.0, 0.1, n).clip(0.5, 1.5).astype(np.float32),
        "n_tau": np.where(rng.random(n) < 0.9, 1, 2).astype(np.int32),
        "n_jets": n_jets.astype(np.int32),
        "channel": rng.choice(["e", "mu"], n).tolist(),
        "is_tight": rng.random(n) < (0.9 if higgs else 0.7),
        "tau_pt": tau_pt.astype(np.float32),
        "tau_phi": np.angle(np.exp(1j * (phi + tau_lep_phi))).astype(np.float32),
        "lep_pt": lep_pt.astype(np.float32),
        "lep_phi": phi.astype(np.float32),
        "met": met.astype(np.float32),
        "met_phi": rng.uniform(-np.pi, np.pi, n).astype(np.float32),
        "mass_vis": mass.astype(np.float32),
        "mass_mmc": np.where(rng.random(n) < 0.9, mass * rng.normal(1.35, 0.12, n), -99.9).astype(np.float32),
        "jet_pt": awkward.unflatten(jets[inside].astype(np.float32), n_jets),
    }


def _shifted(branches: dict[str, Any], scale: float) -> dict[str, Any]:
    """Scale the tau lepton; the missing momentum and the masses follow."""
    shift = (scale - 1.0) * branches["tau_pt"]
    x, y = (branches["met"] * f(branches["met_phi"]) - shift * f(branches["tau_phi"]) for f in (np.cos, np.sin))
    missing: NDArray[np.bool_] = branches["mass_mmc"] < 0.0
    return branches | {
        "tau_pt": branches["tau_pt"] + shift,
        "met": np.hypot(x, y),
        "met_phi": np.arctan2(y, x),
        "mass_vis": branches["mass_vis"] * np.float32(np.sqrt(scale)),
        "mass_mmc": np.where(missing, branches["mass_mmc"], branches["mass_mmc"] * np.float32(np.sqrt(scale))),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/make_ntuples.py FOLDER")
    write_ntuples(Path(sys.argv[1]))
