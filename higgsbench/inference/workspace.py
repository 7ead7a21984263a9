"""HistFactory workspaces: expected bin contents with their uncertainties as the JSON that pyhf and cabinetry read.

Format: K. Cranmer et al., HistFactory, CERN-OPEN-2012-016; L. Heinrich, M. Feickert, G. Stark, pyhf, JOSS 6 (2021)
2823.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics.significance import combined_significance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.metrics.binning import BinnedSums

__all__ = ["POI", "Template", "build_workspace"]

POI = "mu"
"""Signal strength, the parameter of interest."""


@dataclass(frozen=True)
class Template:
    """Expected contents of the bins of one channel; one bin is a counting experiment.

    Attributes:
        nominal: expected signal and background and their simulation variances.
        shifts: by name, contents under an upward and a downward systematic shift.
    """

    nominal: BinnedSums
    shifts: dict[str, tuple[BinnedSums, BinnedSums]] = field(default_factory=dict)


def build_workspace(template: Template, *, sigma_b: float = 0.0, mc_stat: bool = True) -> dict[str, Any]:
    """Build a HistFactory workspace; the observation is the Asimov data of signal plus background.

    Args:
        template: contents of the bins.
        sigma_b: relative normalisation uncertainty of the background, shared by all bins (normsys, log-normal).
        mc_stat: whether the finite number of simulated events counts as uncertainty (staterror per bin).

    Returns:
        The workspace as JSON content.

    Raises:
        MetricError: if a bin without background would make the likelihood undefined, or sigma_b is negative.
    """
    nominal = template.nominal
    if not 0.0 <= sigma_b < np.inf:
        raise MetricError(f"sigma_b must be finite and not negative, got {sigma_b}")
    for contents in (nominal, *(side for pair in template.shifts.values() for side in pair)):
        if not (contents.b > 0.0).all() or not (contents.s >= 0.0).all():
            raise MetricError("every bin needs expected background, nominal and shifted; ask for fewer bins")
    signal: list[dict[str, Any]] = [{"name": POI, "type": "normfactor", "data": None}]
    background: list[dict[str, Any]] = []
    if sigma_b > 0.0:
        factors = {"hi": 1.0 + sigma_b, "lo": 1.0 / (1.0 + sigma_b)}
        background.append({"name": "background_norm", "type": "normsys", "data": factors})
    for name, (up, down) in template.shifts.items():
        for modifiers, kind in ((signal, "s"), (background, "b")):
            sides = {"hi_data": _list(getattr(up, kind)), "lo_data": _list(getattr(down, kind))}
            modifiers.append({"name": f"shift_{name}", "type": "histosys", "data": sides})
    if mc_stat:
        for modifiers, variance in ((signal, nominal.s_variance), (background, nominal.b_variance)):
            modifiers.append({"name": "mcstat", "type": "staterror", "data": _list(np.sqrt(variance))})
    samples = [
        {"name": "signal", "data": _list(nominal.s), "modifiers": signal},
        {"name": "background", "data": _list(nominal.b), "modifiers": background},
    ]
    parameter = {"name": POI, "inits": [1.0], "bounds": [[0.0, _largest_strength(nominal)]]}
    return {
        "channels": [{"name": "score", "samples": samples}],
        "observations": [{"name": "score", "data": _list(nominal.s + nominal.b)}],
        "measurements": [{"name": "higgsbench", "config": {"poi": POI, "parameters": [parameter]}}],
        "version": "1.0.0",
    }


def _list(values: NDArray[np.float64]) -> list[float]:
    return [float(v) for v in values]


def _largest_strength(nominal: BinnedSums) -> float:
    """Upper bound of the signal strength, far above any limit: systematics rarely weaken a search tenfold."""
    z = combined_significance(nominal.s, nominal.b)
    return float(max(10.0, 50.0 / z)) if z > 0.0 else 1e3
