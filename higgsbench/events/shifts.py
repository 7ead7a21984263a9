"""Systematic shifts: how the events would look if the detector or the theory were slightly different.

In the style of the FAIR Universe HiggsML uncertainty challenge (W. Bhimji et al., arXiv:2410.02867): energy scales of
taus and jets, soft missing energy, and normalisations. Primary quantities move together and the derived ones follow. A
file does not tell the directions of jets beyond the second, whose energy moves PRI_jet_all_pt and sumet but not the
missing momentum, nor the events outside the selection that an upward shift would bring in.

The official file does not name processes, but events that were generated together share one weight: signal has four
values, Z -> tau tau thirteen, ttbar one, and the weights of W + jets are continuous. Files may rescale whole classes
(KaggleWeight, other luminosities, a subset), which keeps the ratios; these are recognised here. Processes are never a
feature: they give away the label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from higgsbench.errors import ConfigError, DataError
from higgsbench.events.derived import FORMULAS, columns_of, derive, invariant_mass, transverse
from higgsbench.events.ditau import ditau_mass
from higgsbench.events.samples import mixed
from higgsbench.schema import ATLAS_HIGGS, FAIR_UNIVERSE_2023, FEATURES, MISSING, PRIMARY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    from higgsbench.events.derived import FloatArray
    from higgsbench.schema import TableSchema

Columns: TypeAlias = "dict[str, FloatArray]"
Table: TypeAlias = "Mapping[str, tuple[float, ...]]"

_VH_WEIGHTS = (0.00081448039868, 0.000461025356734)  # WH, ZH
SIGNAL_WEIGHTS: Table = MappingProxyType({"ggF": (0.00572068250088,), "VBF": (0.000461281573949,), "VH": _VH_WEIGHTS})
"""Values of `Weight` of signal in the official file (818,238 events)."""

_Z_WEIGHTS = """
0.512739889611 0.443597626883 0.418760425129 0.240714551172 0.130775103251 0.109322374518 0.0944595938766
0.0936590129021 0.0917702760288 0.0254337596084 0.0225325724501 0.0217574936722 0.0195327618805
"""
BACKGROUND_WEIGHTS: Table = MappingProxyType({"Z": tuple(map(float, _Z_WEIGHTS.split())), "ttbar": (0.226870077356,)})
"""Values of `Weight` of background with discrete weights; W + jets is the continuous rest."""

_RELATIVE = 1e-6  # files keep 12 digits; the closest pair of values, VBF and ZH, is 6e-4 apart
_ANCHORS = 24  # how many of the most frequent values are tried as the image of a known one


def _nearest(values: FloatArray, wanted: FloatArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Position in sorted `values` nearest to each of `wanted`, and whether it is close enough."""
    right = np.clip(np.searchsorted(values, wanted), 0, len(values) - 1)
    left = np.maximum(right - 1, 0)
    best = np.where(np.abs(values[left] - wanted) <= np.abs(values[right] - wanted), left, right)
    return best, np.abs(values[best] - wanted) <= _RELATIVE * wanted


def _best_scale(values: FloatArray, counts: npt.NDArray[np.int64], known: FloatArray) -> tuple[float, int]:
    """The common factor that maps most known values onto found ones, and how many those are."""
    best = (0, 0, 0.0)
    for anchor in np.argsort(-counts, kind="stable")[:_ANCHORS]:
        for value in known:
            scale = float(values[anchor] / value)
            position, close = _nearest(values, known * scale)
            score = (int(close.sum()), int(counts[position[close]].sum()), scale)
            if score[:2] > best[:2]:
                best = score
    return best[2], best[0]


def _assign(weights: FloatArray, table: Table, rest: str | None) -> npt.NDArray[np.str_]:
    """Name the process of each weight of one class, shape (n,)."""
    values, inverse, counts = np.unique(weights, return_inverse=True, return_counts=True)
    names = np.full(len(values), rest or "", dtype="<U8")
    open_values = np.ones(len(values), dtype=np.bool_)
    # A continuous weight repeats only by chance; without continuous weights every value is a known one.
    repeated = counts > (max(1, len(weights) // 1000) if rest is not None else 0)
    remaining = dict(table)
    least = 2  # a single value fits every known one
    while remaining and open_values.any():
        known = np.array([v for vs in remaining.values() for v in vs])
        owner = np.array([name for name, vs in remaining.items() for _ in vs])
        index = np.flatnonzero(open_values & (repeated if least == 1 else True))
        if not len(index):
            break
        scale, matched = _best_scale(values[index], counts[index], known)
        # After the first match, one process may remain whose yield was scaled on its own.
        if matched < least or (least == 1 and len(remaining) > 1 and matched == 1):
            break
        position, close = _nearest(values[index], known * scale)
        names[index[position[close]]] = owner[close]
        open_values[index[position[close]]] = False
        remaining = {k: v for k, v in remaining.items() if k not in set(owner[close])}
        least = 1
    if least == 2 or (rest is None and open_values.any()):
        raise DataError(
            "the processes cannot be recognised from the weights (expected 4 values for signal, 13 for Z, 1 for ttbar, "
            "continuous W), so single processes cannot be scaled in this file"
        )
    return names[inverse]


def recognise_processes(weights: pl.Series, labels: pl.Series) -> pl.Series:
    """Name the process (ggF, VBF, VH, Z, ttbar, W) of each event of an official or simulated file, shape (n,).

    Works on any subset that holds at least two values of each present class, on `Weight` or `KaggleWeight` of one
    set, and after the yields of a class or of one process in it were scaled; a `DataError` refuses other weights.
    """
    weight, label = weights.cast(pl.Float64).to_numpy(), labels.to_numpy().astype(str)
    names = np.full(len(weight), "", dtype="<U8")
    for value, table, rest in (("s", SIGNAL_WEIGHTS, None), ("b", BACKGROUND_WEIGHTS, "W")):
        chosen = label == value
        if chosen.any():
            names[chosen] = _assign(weight[chosen], table, rest)
    return pl.Series("process", names)


_JETS = ("PRI_jet_leading_pt", "PRI_jet_subleading_pt")

THRESHOLDS: Mapping[str, float] = {"PRI_tau_pt": 20.0, "PRI_lep_pt": 26.0, **dict.fromkeys(_JETS, 30.0)}
"""GeV: selection of the challenge; `reselect` drops events that a shift moved below."""

_FAIR_NAMES = {
    **{f"PRI_tau_{part}": f"PRI_had_{part}" for part in ("pt", "eta", "phi")},
    "PRI_jet_num": "PRI_n_jets",
    "DER_deltar_tau_lep": "DER_deltar_had_lep",
    "DER_pt_ratio_lep_tau": "DER_pt_ratio_lep_had",
}
"""What FAIR Universe calls features of the challenge; the formulas of the derived ones are the same."""

_TRANSVERSE_MASS = "DER_mass_transverse_lep_had"
# Further features of the 2023 bundle. The mass is proportional to the root of the tau's momentum; others never change.
_FURTHER = ("PRI_electron_flag", "PRI_muon_flag", "DER_deltar_lep_had", _TRANSVERSE_MASS)

_SCALES = {f"{name.lower()}_scale": name for name in ("Z", "W", "ttbar", "ggF", "VBF", "VH")}


@dataclass(frozen=True)
class Shifts:
    """Sizes of the shifts; the defaults shift nothing.

    A `ConfigError` refuses an energy scale that is not above -1, a factor not above 0, and anything not finite.
    """

    tes: float = 0.0  # tau energy scale, relative change: 0.03 makes every tau 3% harder
    jes: float = 0.0  # jet energy scale, relative change
    # GeV: width per axis of a Gaussian vector added to the missing transverse momentum; a negative value adds the
    # opposite of the same vectors
    soft_met: float = 0.0
    bkg_scale: float = 1.0  # factor on the weights of all backgrounds
    z_scale: float = 1.0  # ... of Z -> tau tau
    w_scale: float = 1.0  # ... of W + jets
    ttbar_scale: float = 1.0
    ggf_scale: float = 1.0  # ... of Higgs production by gluon fusion
    vbf_scale: float = 1.0  # ... by vector boson fusion
    vh_scale: float = 1.0  # ... with a W or Z

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not math.isfinite(value):
                raise ConfigError(f"shift {item.name} must be a finite number, not {value}")
            if item.name in ("tes", "jes") and value <= -1.0:
                raise ConfigError(f"shift {item.name} is a relative change and must be above -1, not {value}")
            if item.name.endswith("_scale") and value <= 0.0:
                raise ConfigError(f"shift {item.name} is a factor and must be above 0, not {value}")

    @property
    def is_zero(self) -> bool:
        """Whether nothing would change."""
        return self == Shifts()

    @property
    def moves_energy(self) -> bool:
        """Whether a feature would change, and not only weights."""
        return bool(self.tes or self.jes or self.soft_met)

    def inverse(self) -> Shifts:
        """The inverse shifts, which restore the events up to rounding (unless events were dropped in between)."""
        factors = {name: 1.0 / getattr(self, name) for name in ("bkg_scale", *_SCALES)}
        tes, jes = (1.0 / (1.0 + change) - 1.0 for change in (self.tes, self.jes))
        return Shifts(tes, jes, -self.soft_met, **factors)


def _uniform(identifier: npt.NDArray[np.uint64], seed: int, index: int) -> FloatArray:
    """Uniform numbers in (0, 1) that depend on event, seed and index only, shape (n,)."""
    salt = (seed * 2 + index) * 0x9E3779B97F4A7C15 % 2**64
    x = mixed(identifier * np.uint64(0xD1B54A32D192ED03) + np.uint64(salt))  # wraps around, as it should
    return ((x >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def _moved_primaries(before: Columns, shifts: Shifts, soft: FloatArray, *, tau_is_jet: bool) -> Columns:
    """Scale taus and jets, and let the missing momentum take up the difference and the soft vectors, shape (n, 2).

    With `tau_is_jet`, the tau is one of the jets and moves as a tau; without another jet, PRI_jet_all_pt is 0.
    """
    after = dict(before)
    met = transverse(before["PRI_met"], before["PRI_met_phi"]) + soft
    jets_move = shifts.jes or (tau_is_jet and shifts.tes)
    for prefix, moves in (("PRI_tau", shifts.tes), ("PRI_jet_leading", jets_move), ("PRI_jet_subleading", jets_move)):
        if moves:
            pt, phi = before[f"{prefix}_pt"], before[f"{prefix}_phi"]
            is_tau = (pt == before["PRI_tau_pt"]) & (phi == before["PRI_tau_phi"]) & (tau_is_jet or prefix == "PRI_tau")
            change = np.where(is_tau, shifts.tes, shifts.jes)
            after[f"{prefix}_pt"] = pt * (1.0 + change)
            if prefix != "PRI_tau":
                change[is_tau] = 0.0  # the missing momentum has taken it up already
            met -= np.nan_to_num(transverse(change * pt, phi))
    if jets_move:
        jets = before["PRI_jet_all_pt"]
        of_tau = np.where(tau_is_jet & (jets > 0.0), before["PRI_tau_pt"], 0.0)
        after["PRI_jet_all_pt"] = jets * (1.0 + shifts.jes) + of_tau * (shifts.tes - shifts.jes)
    if tau_is_jet and jets_move:
        _order_jets(after)
    after["PRI_met"] = np.maximum(np.hypot(*met.T), 0.001)  # the file keeps 3 decimals and no zeros
    after["PRI_met_phi"] = np.arctan2(met[:, 1], met[:, 0])
    if "PRI_met_sumet" in before:
        gained = shifts.tes * before["PRI_tau_pt"] + shifts.jes * before["PRI_jet_all_pt"]
        after["PRI_met_sumet"] = before["PRI_met_sumet"] + gained
    return after


def _order_jets(columns: Columns) -> None:
    """Exchange the two leading jets where the second is now harder; the momentum of a third jet is not known."""
    swap = columns["PRI_jet_leading_pt"] < columns["PRI_jet_subleading_pt"]
    for part in ("pt", "eta", "phi"):
        names = f"PRI_jet_leading_{part}", f"PRI_jet_subleading_{part}"
        first, second = (columns[name] for name in names)
        columns.update(zip(names, (np.where(swap, second, first), np.where(swap, first, second)), strict=True))


def _moved_derived(before: Columns, after: Columns, stored: Columns, visible: Callable[..., FloatArray]) -> Columns:
    """Recompute what depends on a moved quantity.

    The three masses keep what the file knew beyond the primary quantities (masses of jets and of the visible tau) by
    scaling with the ratio of the recomputed values; `visible` is the file's formula of DER_mass_vis. A DER_mass_MMC
    that the scan no longer finds becomes missing. If the file has none but the scan now finds one, that mass is used;
    if the scan never finds one, the file's value scales with the visible mass.
    """
    moved = {name for name in before if after[name] is not before[name]}
    affected = [name for name, formula in FORMULAS.items() if moved.intersection(formula.inputs)]
    result = derive(after, [name for name in affected if name in stored])
    masses = {"DER_mass_vis": visible, "DER_mass_jet_jet": FORMULAS["DER_mass_jet_jet"].function}
    old, new = (
        {name: function(*(columns[i] for i in FORMULAS[name].inputs)) for name, function in masses.items()}
        for columns in (before, after)
    )
    ratio = {n: np.divide(new[n], old[n], out=np.ones_like(old[n]), where=old[n] > 0) for n in old}
    result |= {name: stored[name] * ratio[name] for name in old if name in result}
    if "DER_mass_MMC" not in stored:
        return result
    scan_before, scan_after = ditau_mass(before), ditau_mass(after)
    had, has = ~np.isnan(scan_before), ~np.isnan(scan_after)
    scale = np.where(had & has, scan_after / scan_before, np.where(had == has, ratio["DER_mass_vis"], 1.0))
    mass = np.where(had & ~has, np.nan, stored["DER_mass_MMC"] * scale)
    result["DER_mass_MMC"] = np.where(~had & has & np.isnan(stored["DER_mass_MMC"]), scan_after, mass)
    return result


def _official_names(frame: pl.DataFrame, schema: TableSchema) -> dict[str, str]:
    """Return the columns of a frame by their names in the challenge; refuse those that energy shifts cannot handle."""
    names = {name: name if name in frame.columns else _FAIR_NAMES.get(name, name) for name in FEATURES}
    names = {name: own for name, own in names.items() if own in frame.columns}
    optional = () if "DER_mass_MMC" in names else ("PRI_met_sumet",)
    lacking = [name for name in PRIMARY if name not in (*names, *optional)]
    if lacking:
        raise DataError(f"energy shifts need the momentum columns; layout {schema.name} lacks {', '.join(lacking)}")
    other = [name for name in schema.features if name not in (*names.values(), *_FURTHER)]
    if other:
        shown = f"{', '.join(other[:5])}{', ...' if len(other) > 5 else ''}"
        raise DataError(f"energy shifts cannot recompute {shown}; use a layout (`--schema`) without these features")
    return names


def _as_rounded(values: FloatArray, stored: FloatArray) -> FloatArray:
    """Round to 3 decimals if the stored values are; the 2023 bundle keeps all digits of derived quantities."""
    return values if (np.abs(np.round(stored, 3) - stored) > 1e-9).any() else np.round(values, 3) + 0.0


def _move_energy(frame: pl.DataFrame, shifts: Shifts, seed: int, schema: TableSchema) -> pl.DataFrame:
    names = _official_names(frame, schema)
    stored = columns_of(frame.select(pl.col(own).alias(name) for name, own in names.items()), names)
    before = {name: stored[name] for name in PRIMARY if name in names}
    # Gaussian vectors, one per event, the same however a file is cut into pieces.
    number = schema.event_id
    numbers = frame[number].cast(pl.Int64).to_numpy() if number in frame.columns else np.arange(frame.height)
    radius, turn = (_uniform(numbers.astype(np.uint64), seed, index) for index in (0, 1))
    soft = transverse(shifts.soft_met * np.sqrt(-2.0 * np.log(radius)), 2.0 * np.pi * turn)
    tau_is_jet = schema.name == FAIR_UNIVERSE_2023.name
    after = _moved_primaries(before, shifts, soft, tau_is_jet=tau_is_jet)
    fair = names["PRI_tau_pt"] != "PRI_tau_pt"  # in FAIR Universe the visible tau has no mass
    after |= _moved_derived(before, after, stored, invariant_mass if fair else FORMULAS["DER_mass_vis"].function)
    # Events that nothing touches keep their digits: without this, rounding of phi would change some of them.
    touched = np.full(frame.height, bool(shifts.tes or shifts.soft_met))
    touched |= (before["PRI_jet_num"] > tau_is_jet) & (shifts.jes != 0.0)
    # Missing values stay null or -999, whichever the table has.
    absent = None if any(frame[own].null_count() for own in names.values()) else MISSING
    columns = []
    for name, own in names.items():
        if name in after and after[name] is not stored[name]:
            values = np.where(touched, _as_rounded(after[name], stored[name]), stored[name])
            columns.append(pl.Series(own, values).fill_nan(absent))
    if shifts.tes and _TRANSVERSE_MASS in frame.columns:
        columns.append(frame[_TRANSVERSE_MASS] * math.sqrt(1.0 + shifts.tes))
    return frame.with_columns(columns)


def _scale_weights(
    frame: pl.DataFrame, shifts: Shifts, processes: pl.Series | None, schema: TableSchema
) -> pl.DataFrame:
    known = (schema.weight, schema.subset_weight)
    weights = [name for name in known if name is not None and name in frame.columns]
    if not weights or schema.label not in frame.columns:
        if schema.weight is None:
            raise DataError(f"normalisation shifts need weights, which the layout {schema.name} does not have")
        raise DataError(f"normalisation shifts need the columns {schema.label} and {' or '.join(filter(None, known))}")
    factor = np.where(frame[schema.label].to_numpy().astype(str) != schema.signal, shifts.bkg_scale, 1.0)
    wanted = {name: process for name, process in _SCALES.items() if getattr(shifts, name) != 1.0}
    if wanted:
        if processes is None:
            processes = _processes_of(frame, weights[0], wanted.values(), schema)
        names = processes.to_numpy().astype(str)
        for name, process in wanted.items():
            factor = np.where(names == process, factor * getattr(shifts, name), factor)
    return frame.with_columns((pl.col(name) * pl.Series("factor", factor)).alias(name) for name in weights)


def _processes_of(frame: pl.DataFrame, weight: str, wanted: Iterable[str], schema: TableSchema) -> pl.Series:
    """Return the process of each event: from the column of the layout, or for the challenge from the weights."""
    if schema == ATLAS_HIGGS:
        found = recognise_processes(frame[weight], frame[schema.label])
    elif schema.process is None or schema.process not in frame.columns:
        raise DataError("shifts of one process need a column of processes (`process` of the layout)")
    else:
        found = frame[schema.process].fill_null("")
    there = [name for name in found.unique().sort() if name]
    lost = [process for process in wanted if process not in there]
    if lost:
        where = "the file" if schema == ATLAS_HIGGS else f"column {schema.process}"
        raise DataError(f"{where} has no process {lost[0]}; it has {', '.join(there[:10])}")
    return found


def apply_shifts(
    frame: pl.DataFrame,
    shifts: Shifts,
    seed: int = 0,
    *,
    processes: pl.Series | None = None,
    reselect: bool = False,
    schema: TableSchema = ATLAS_HIGGS,
) -> pl.DataFrame:
    """Apply systematic shifts to events.

    Args:
        frame: events, null for missing (or -999); columns that are not features pass through. A file may be given in
            pieces if it has event numbers and, for normalisations of single processes, with `processes`.
        shifts: what to shift.
        seed: seed of the soft missing energy.
        processes: name of each event's process, for the normalisation of single processes; those of the layout's
            column, or for the challenge recognised by the weights, when None.
        reselect: drop events below the challenge's thresholds (`THRESHOLDS`) after the shift. By default the number of
            rows stays and events may lie below.
        schema: layout of the events. Energy shifts need the momentum columns of the challenge or of FAIR Universe.

    Returns:
        The shifted events, features rounded to 3 decimals if those of the file are; `frame` itself for a zero shift.

    Raises:
        DataError: if the file lacks what a shift needs, or its processes cannot be recognised.
    """
    if shifts.moves_energy:
        frame = _move_energy(frame, shifts, seed, schema)
    if any(getattr(shifts, name) != 1.0 for name in ("bkg_scale", *_SCALES)):
        frame = _scale_weights(frame, shifts, processes, schema)
    if reselect and schema != ATLAS_HIGGS:
        raise DataError(f"--reselect uses the thresholds of the challenge, not of the layout {schema.name}")
    if reselect:
        below = [
            ((pl.col(name) < least) & (pl.col(name) != MISSING)).fill_null(value=False)
            for name, least in THRESHOLDS.items()
            if name in frame.columns
        ]
        frame = frame.filter(~pl.any_horizontal(below))
    return frame
