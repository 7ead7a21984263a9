"""HistFactory workspaces of binned scores, and their expected significance and limit by pyhf.

Format: K. Cranmer et al., HistFactory, CERN-OPEN-2012-016; L. Heinrich, M. Feickert, G. Stark, pyhf, JOSS 6 (2021)
2823.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from higgsbench.errors import MetricError, MissingExtraError
from higgsbench.metrics.significance import BinnedSums, bin_sums, combined_significance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from higgsbench.inference import ScoredShifts, ShiftedScores

POI = "mu"
"""Signal strength, the parameter of interest."""

_TOLERANCE = 1e-3
"""Tolerance of minuit; the value of -ln L is then good to 1e-6."""

_HIGHEST = 1e4
"""Highest signal strength up to which a limit is searched."""

_FLOOR = 1e-9
"""Smallest expected content of a bin; a negative signal strength may give less."""


@dataclass(frozen=True)
class Template:
    """Expected contents of the bins of one channel; one bin is a counting experiment.

    Attributes:
        nominal: expected signal and background and their simulation variances.
        shifts: by name, contents under an upward and a downward systematic shift.
    """

    nominal: BinnedSums
    shifts: dict[str, tuple[BinnedSums, BinnedSums]] = field(default_factory=dict)


def shifted_template(scored: ScoredShifts, edges: NDArray[np.float64], *, selected_only: bool) -> Template:
    """Bin the nominal events and the events after each shift.

    Args:
        scored: their scores.
        edges: lower edges of the bins, the first -inf.
        selected_only: whether the first bin, of unselected events, is left out.
    """

    def sums(events: ShiftedScores) -> BinnedSums:
        index = np.searchsorted(edges, events.score, side="right").astype(np.int64) - 1
        found = bin_sums(events.y, index, events.weight, edges.size)
        return BinnedSums(*(values[int(selected_only) :] for values in vars(found).values()))

    return Template(sums(scored.nominal), {name: (sums(up), sums(down)) for name, (up, down) in scored.sides.items()})


def smoothed(
    nominal: NDArray[np.float64], variance: NDArray[np.float64], sides: Sequence[NDArray[np.float64]], error: float
) -> list[NDArray[np.float64]]:
    """Smooth contents (k,) after shifts.

    From the first bin on, neighbouring bins are merged until the relative simulation error of the nominal content is at
    most `error`; the remaining bins join the last group. All bins of a group get the relative change of the group.
    """
    if error == 0.0:
        return list(sides)
    group, start = np.zeros(nominal.size, dtype=np.int64), 0
    for last in range(nominal.size):
        total = nominal[start : last + 1].sum()
        if total > 0.0 and np.sqrt(variance[start : last + 1].sum()) <= error * total:
            group[start : last + 1], start = group[start - 1] + 1 if start else 0, last + 1
    if 0 < start < nominal.size:
        group[start:] = group[start - 1]
    of_group = np.bincount(group, nominal)
    out = []
    for side in sides:
        moved = np.bincount(group, side)
        ratio = np.divide(moved, of_group, out=np.ones_like(of_group), where=of_group > 0.0)
        out.append(ratio[group] * nominal)
    return out


def pruned(
    nominal: NDArray[np.float64], sides: Sequence[NDArray[np.float64]], least: float
) -> tuple[tuple[float, float] | None, tuple[NDArray[np.float64], NDArray[np.float64]] | None]:
    """Return the factors of a normsys, or the contents of a histosys, or nothing, by the size of the changes.

    If no side of a shift changes the sum by the share `least`, the change of the sum is left out; if no side changes
    the shape of a bin by more than that, the shift is a normsys.
    """
    total = float(nominal.sum())
    up, down = (float(side.sum()) / total if total > 0.0 else 1.0 for side in sides)
    flat = max(abs(up - 1.0), abs(down - 1.0)) < least
    factors = (up, down) if min(up, down) > 0.0 else (1.0, 1.0)
    shapes = [side / factor for side, factor in zip(sides, factors, strict=True)]
    same = all(np.all(np.abs(shape - nominal) <= least * np.abs(nominal)) for shape in shapes) and least > 0.0
    if same:
        return (None if flat else factors), None
    return None, (shapes[0], shapes[1]) if flat else (sides[0], sides[1])


@dataclass(frozen=True)
class Sample:
    """Expected contents (k,) of the bins of one channel from one process.

    Attributes:
        nominal: expected events.
        variance: simulation variances.
        signal: whether the signal strength scales it.
        shapes: by name of the systematic, contents after an upward and a downward shift (histosys).
        norms: by name of the systematic, factors after an upward and a downward shift (normsys, log-normal).
        free: names of further factors without a constraint (normfactor).
    """

    nominal: NDArray[np.float64]
    variance: NDArray[np.float64]
    signal: bool = False
    shapes: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    norms: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    free: tuple[str, ...] = ()

    def content(self, name: str, channel: str, *, mc_stat: bool) -> dict[str, Any]:
        """Return the sample as HistFactory writes it."""
        factors = (POI,) * self.signal + self.free
        modifiers: list[dict[str, Any]] = [{"name": n, "type": "normfactor", "data": None} for n in factors]
        for shift, (up, down) in self.norms.items():
            modifiers.append({"name": shift, "type": "normsys", "data": {"hi": up, "lo": down}})
        for shift, sides in self.shapes.items():
            data = dict(zip(("hi_data", "lo_data"), (side.tolist() for side in sides), strict=True))
            modifiers.append({"name": shift, "type": "histosys", "data": data})
        if mc_stat:
            errors = np.sqrt(self.variance).tolist()
            modifiers.append({"name": f"mcstat_{channel}", "type": "staterror", "data": errors})
        return {"name": name, "data": self.nominal.tolist(), "modifiers": modifiers}


Channels: TypeAlias = "Mapping[str, Mapping[str, Sample]]"
"""Samples by the names of their channel and process."""


def workspace_of(channels: Channels, *, mc_stat: bool = True) -> dict[str, Any]:
    """Build a HistFactory workspace as JSON content; the observation is the Asimov data of signal plus background.

    Args:
        channels: contents of all bins.
        mc_stat: whether the finite number of simulated events counts as uncertainty (staterror per bin).

    Raises:
        MetricError: if a bin without background would make the likelihood undefined.
    """

    def total(samples: Mapping[str, Sample], kind: bool) -> NDArray[np.float64]:
        bins = next(iter(samples.values())).nominal.size
        return sum((one.nominal for one in samples.values() if one.signal == kind), np.zeros(bins))

    s, b = ({name: total(samples, kind) for name, samples in channels.items()} for kind in (True, False))
    for name, samples in channels.items():
        background = [sample for sample in samples.values() if not sample.signal]
        shifted = [
            sum(sample.shapes.get(shift, (sample.nominal,) * 2)[side] for sample in background)
            for shift in {shift for sample in background for shift in sample.shapes}
            for side in (0, 1)
        ]
        if not all(np.all(content > 0.0) for content in (b[name], *shifted)) or np.any(s[name] < 0.0):
            raise MetricError(f"every bin needs expected background, nominal and shifted ({name}); use fewer bins")
    z = combined_significance(*(np.concatenate(list(sums.values())) for sums in (s, b)))
    largest = max(10.0, 50.0 / z) if z > 0.0 else 1e3  # only large uncertainties put a limit beyond it
    parameter = {"name": POI, "inits": [1.0], "bounds": [[0.0, float(largest)]]}
    return {
        "channels": [
            {"name": name, "samples": [one.content(p, name, mc_stat=mc_stat) for p, one in samples.items()]}
            for name, samples in channels.items()
        ],
        "observations": [{"name": name, "data": (s[name] + b[name]).tolist()} for name in channels],
        "measurements": [{"name": "higgsbench", "config": {"poi": POI, "parameters": [parameter]}}],
        "version": "1.0.0",
    }


def build_workspace(template: Template, *, sigma_b: float = 0.0, mc_stat: bool = True) -> dict[str, Any]:
    """Build the workspace of one channel with signal and background; see `workspace_of`.

    Args:
        template: contents of the bins.
        sigma_b: relative normalisation uncertainty of the background, shared by all bins (normsys, log-normal).
        mc_stat: whether the finite number of simulated events counts as uncertainty.

    Raises:
        MetricError: as for `workspace_of`, or if sigma_b is negative.
    """
    nominal = template.nominal
    if not 0.0 <= sigma_b < np.inf:
        raise MetricError(f"sigma_b must be finite and not negative, got {sigma_b}")
    s, b = (
        {f"shift_{name}": (getattr(up, kind), getattr(down, kind)) for name, (up, down) in template.shifts.items()}
        for kind in ("s", "b")
    )
    norms = {"background_norm": (1.0 + sigma_b, 1.0 / (1.0 + sigma_b))} if sigma_b > 0.0 else {}
    samples = {
        "signal": Sample(nominal.s, nominal.s_variance, signal=True, shapes=s),
        "background": Sample(nominal.b, nominal.b_variance, shapes=b, norms=norms),
    }
    return workspace_of({"score": samples}, mc_stat=mc_stat)


class Likelihood:
    """The likelihood of a workspace of `workspace_of`, as pyhf defines it, without its constant terms.

    pyhf computes the expected contents. The factors of the simulation's statistics, one per bin, have a solution in
    closed form (R. Barlow, C. Beeston, Comput. Phys. Commun. 77 (1993) 219, with one factor per bin as in J. S. Conway,
    arXiv:1103.0354), so that minuit sees only the signal strength and the systematics.

    Attributes:
        model: pyhf's model.
        names: parameters of the fit, the signal strength first.

    Raises:
        MissingExtraError: without pyhf and iminuit (extra `stats`).
    """

    def __init__(self, workspace: Mapping[str, Any], *, mc_stat: bool = True) -> None:
        """Read the workspace; without `mc_stat`, its statistical factors stay 1."""
        try:
            import_module("iminuit")
            import pyhf
        except ImportError as error:
            raise MissingExtraError("fits of a HistFactory workspace", "stats") from error
        with warnings.catch_warnings():
            # pyhf 0.7 uses a class that jsonschema has deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            pyhf.set_backend("numpy")
            self.model = pyhf.Workspace(workspace).model()
        config = self.model.config
        per_bin = dict(config.modifiers)
        others = sorted((n for n in config.par_order if per_bin[n] != "staterror"), key=lambda n: n != POI)
        self.names = tuple(others)
        self._place = np.array([config.par_map[name]["slice"].start for name in others])
        self._init = np.array(config.suggested_init(), dtype=np.float64)
        self._constrained = np.array([per_bin[name] != "normfactor" for name in others])
        self._relative = np.zeros(config.nmaindata)
        for channel, bins in config.channel_slices.items():
            if mc_stat and (name := f"mcstat_{channel}") in config.par_order:
                free = ~np.array(config.param_set(name).suggested_fixed)
                self._relative[bins] = np.where(free, config.param_set(name).sigmas, 0.0)

    @property
    def systematics(self) -> tuple[str, ...]:
        """Names of the nuisance parameters of the fit, without factors that are free."""
        return tuple(name for name, known in zip(self.names, self._constrained, strict=True) if known)

    def expected(self, **values: float) -> NDArray[np.float64]:
        """Return the expected contents (bins,) of all channels; parameters that are not given are nominal."""
        point = self._init[self._place].copy()
        point[[self.names.index(name) for name in values]] = list(values.values())
        return self._expected(point)

    def _expected(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        full = self._init.copy()
        full[self._place] = point
        nu: NDArray[np.float64] = np.maximum(self.model.expected_data(full, include_auxdata=False), _FLOOR)
        return nu

    def _factors(self, nu: NDArray[np.float64], data: NDArray[np.float64]) -> NDArray[np.float64]:
        linear = 1.0 - nu * self._relative**2
        gamma: NDArray[np.float64] = 0.5 * (linear + np.sqrt(linear**2 + 4.0 * data * self._relative**2))
        return gamma

    def value(self, point: NDArray[np.float64], data: NDArray[np.float64]) -> float:
        """Return -ln L at a point, with the factors of the statistics at their best; 0 for a perfect fit."""
        nu = self._expected(point)
        gamma = self._factors(nu, data)
        nu = np.maximum(gamma * nu, _FLOOR)
        pull = np.divide(gamma - 1.0, self._relative, out=np.zeros_like(nu), where=self._relative > 0.0)
        ratio = np.divide(data, nu, out=np.ones_like(nu), where=data > 0.0)
        poisson = np.sum(nu - data + data * np.log(ratio))
        return float(poisson + 0.5 * np.sum(pull**2) + 0.5 * np.sum(point[self._constrained] ** 2))

    def fit(self, data: NDArray[np.float64], **fixed: float) -> Any:
        """Return minuit after a fit of data (bins,), with the values of some parameters fixed.

        Raises:
            MetricError: if the fit does not converge.
        """
        from iminuit import Minuit

        start = self._init[self._place]
        minuit = Minuit(lambda point: self.value(point, data), start, name=self.names)
        minuit.errordef, minuit.tol = Minuit.LIKELIHOOD, _TOLERANCE
        minuit.errors = np.where(self._constrained, 0.5, 0.2)
        for name, value in fixed.items():
            minuit.values[name], minuit.fixed[name] = value, True
        if not minuit.nfit:
            return minuit
        minuit.migrad()
        if not minuit.valid:
            minuit.strategy = 2
            minuit.migrad()
        if not minuit.valid:
            raise MetricError("the fit of the workspace failed: minuit found no minimum")
        return minuit

    def interval(self, data: NDArray[np.float64], **fixed: float) -> tuple[float, float, float]:
        """Return the best signal strength and the ends of its 68.3% interval, where -ln L rises by 1/2 (profiled).

        Raises:
            MetricError: if a fit does not converge.
        """
        found = self.fit(data, **fixed)
        found.minos(POI)
        ends = found.merrors[POI]
        if ends.lower_new_min or ends.upper_new_min:  # templates with few events may have a second minimum
            end = found.values[POI] + (ends.upper if ends.upper_new_min else ends.lower)
            found = self.fit(data, **{**fixed, POI: end})
            found.fixed[POI] = False
            found.migrad().minos(POI)
            ends = found.merrors[POI]
        if not ends.is_valid:
            raise MetricError("the fit of the workspace failed: minuit found no end of the interval")
        best = float(found.values[POI])
        return best, best + float(ends.lower), best + float(ends.upper)

    def q(self, data: NDArray[np.float64], strength: float) -> float:
        """Return twice the rise of -ln L of Asimov data, whose minimum is 0, to its best value at a signal strength."""
        found = self.fit(data, **{POI: strength})
        return 2.0 * self.value(np.array(found.values), data)


@dataclass(frozen=True)
class Expected:
    """Expected results of a workspace.

    Attributes:
        z: discovery significance sqrt(q0) on the Asimov data of signal plus background, or None.
        upper_limit: expected (median) 95% CLs upper limit on the signal strength without signal, or None.
        band: the limit at -2, -1, 0, +1 and +2 standard deviations; empty without a limit.
        problems: what could not be computed, and why.
    """

    z: float | None
    upper_limit: float | None
    band: tuple[float, ...]
    problems: tuple[str, ...] = ()


def expected_results(workspace: Mapping[str, Any]) -> Expected:
    """Evaluate a workspace of `workspace_of`; where a fit fails, the rest and the reason are returned.

    The formulae are asymptotic: Cowan, Cranmer, Gross, Vitells, Eur. Phys. J. C 71 (2011) 1554.

    Raises:
        MissingExtraError: without pyhf and iminuit (extra `stats`).
    """
    found: dict[str, Any] = {}
    problems = []
    likelihood = Likelihood(workspace)
    for name, compute in (("significance", _significance), ("limit", _limits)):
        try:
            found[name] = compute(likelihood)
        except MetricError as error:
            problems.append(f"no expected {name}: {error}")
    band = found.get("limit", ())
    return Expected(found.get("significance"), band[2] if band else None, band, tuple(problems))


def _significance(likelihood: Likelihood) -> float:
    return float(np.sqrt(max(likelihood.q(likelihood.expected(), 0.0), 0.0)))


def _limits(likelihood: Likelihood) -> tuple[float, ...]:
    """Return the strengths mu at which CLs = Phi(N - sqrt(q_A(mu))) / Phi(N) is 0.05, for N = -2 to 2."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    data = likelihood.expected(**{POI: 0.0})
    bands = np.arange(-2.0, 3.0)
    wanted = bands - norm.ppf(0.05 * norm.cdf(bands))
    low, out = 0.0, []
    for root in wanted:
        high = max(low, 1.0)
        while np.sqrt(likelihood.q(data, high)) < root:
            low, high = high, 2.0 * high
            if high > _HIGHEST:
                raise MetricError(f"no signal strength up to {_HIGHEST:g} is excluded")
        low = float(
            brentq(lambda mu, root=root: np.sqrt(max(likelihood.q(data, mu), 0.0)) - root, low, high, rtol=1e-6)
        )
        out.append(low)
    return tuple(out)
