"""An estimator of the di-tau mass, DER_mass_MMC, from primary quantities alone ("MMC-lite").

The file's own missing mass calculator (A. Elagin et al., Nucl. Instrum. Meth. A 654 (2011) 481) scans the momenta of
the neutrinos with a full detector model and cannot be reproduced from the file. This one scans the fraction of each
tau's momentum that its visible part carries, on a 16 x 16 grid, with neutrinos collinear with their tau. The missing
transverse momentum then is a linear function of two numbers per event and the scan costs a few microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from higgsbench.events.derived import derive

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

FloatArray: TypeAlias = "npt.NDArray[np.float64]"

__all__ = ["mmc_lite", "mmc_lite_from_primaries"]

GRID = 16
"""Points per tau."""

X_HADRONIC_MIN = 0.25
"""Smallest visible momentum fraction of a hadronic tau in the scan; the density is flat from here to 1."""

MET_NOISE = 6.0
"""GeV: resolution of each component of the missing momentum in an empty event."""

MET_STOCHASTIC = 1.0
"""sqrt(GeV): growth of that resolution with sqrt(sumet)."""

PRIOR_POWER = 1.5
"""Points are weighted by (x_had x_lep)^power: the spectrum of parents falls with their momentum."""

CHI2_MAX = 13.0
"""No mass is quoted where the best point of the scan is worse than this."""

_CHUNK = 2048  # events per pass: 2048 x 256 float32 = 2 MiB per temporary, which stays in the cache


def _hadronic_fractions() -> FloatArray:
    return X_HADRONIC_MIN + (1.0 - X_HADRONIC_MIN) * (np.arange(GRID) + 0.5) / GRID


def _leptonic_fractions() -> FloatArray:
    """Mid-quantiles of the density of x = p_lep / p_tau, (1 - x)(5 + 5x - 4x^2)/3 (collinear, unpolarised)."""
    x = np.linspace(0.0, 1.0, 20_001)
    cumulative = (5.0 * x - 3.0 * x**3 + x**4) / 3.0  # the integral of the density; 1 at x = 1
    return np.interp((np.arange(GRID) + 0.5) / GRID, cumulative, x)


def _grid() -> tuple[npt.NDArray[np.float32], ...]:
    """Per grid point, flattened (hadronic slow, leptonic fast), shape (256,): 1/x_h - 1, 1/x_l - 1, ln(x_h x_l)."""
    had, lep = (a.ravel() for a in np.meshgrid(_hadronic_fractions(), _leptonic_fractions(), indexing="ij"))
    return tuple(a.astype(np.float32) for a in (1.0 / had - 1.0, 1.0 / lep - 1.0, np.log(had * lep)))


_EXTRA_HAD, _EXTRA_LEP, _LOG_X = _grid()
_PRIOR = PRIOR_POWER * _LOG_X


def _scan(
    tau: npt.NDArray[np.float64],
    lep: npt.NDArray[np.float64],
    met: npt.NDArray[np.float64],
    sigma: FloatArray,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean of ln(x_h x_l) and least chi2 of each event.

    Args:
        tau: visible hadronic tau (px, py), GeV, shape (n, 2).
        lep: lepton, likewise.
        met: missing transverse momentum, likewise.
        sigma: its resolution per component, GeV, shape (n,).

    Returns:
        The posterior mean of ln(x_h x_l) and the least chi2, both of shape (n,).
    """
    # Dividing by sigma first keeps the numbers small, so that float32 loses nothing in the difference.
    t, ell, m = ((v / sigma[:, None]).astype(np.float32) for v in (tau, lep, met))
    chi2 = np.zeros((len(sigma), GRID * GRID), np.float32)
    for axis in (0, 1):
        # (n, 16, 1) - (n, 1, 16): the scan is separable, so the products are taken on 2 x 16 points, not on 256.
        had = m[:, axis, None] - t[:, axis, None] * _EXTRA_HAD[::GRID]
        miss = had[:, :, None] - (ell[:, axis, None] * _EXTRA_LEP[:GRID])[:, None, :]
        miss *= miss
        chi2 += miss.reshape(chi2.shape)
    best = chi2.min(axis=1)
    chi2 -= best[:, None]
    chi2 *= np.float32(-0.5)
    chi2 += _PRIOR
    weight = np.exp(chi2, out=chi2)
    # Not a matrix product: BLAS sums in an order that depends on the number of rows and threads, and the same event
    # must have the same mass in any chunk and in any process.
    return np.einsum("ij,j->i", weight, _LOG_X) / weight.sum(axis=1), best


def mmc_lite(tau: FloatArray, lep: FloatArray, met: FloatArray, sumet: FloatArray, mass_vis: FloatArray) -> FloatArray:
    """Estimate the di-tau mass.

    Args:
        tau: visible hadronic tau (px, py), GeV, shape (n, 2).
        lep: lepton (px, py), GeV, shape (n, 2).
        met: missing transverse momentum (px, py), GeV, shape (n, 2).
        sumet: scalar sum of transverse energy, GeV, shape (n,).
        mass_vis: visible mass, GeV, shape (n,).

    Returns:
        m_vis exp(-<ln(x_h x_l)>/2), GeV, shape (n,); NaN where no point of the scan explains the missing momentum.
    """
    mass = np.empty(len(sumet))
    sigma = np.sqrt(MET_NOISE**2 + MET_STOCHASTIC**2 * sumet)
    for start in range(0, len(mass), _CHUNK):
        part = slice(start, start + _CHUNK)
        log_x, chi2 = _scan(tau[part], lep[part], met[part], sigma[part])
        mass[part] = np.where(chi2 > CHI2_MAX, np.nan, mass_vis[part] * np.exp(-0.5 * log_x.astype(np.float64)))
    return mass


def mmc_lite_from_primaries(primary: Mapping[str, FloatArray]) -> FloatArray:
    """Estimate the di-tau mass of events given by their primary columns.

    Args:
        primary: primary columns of shape (n,), GeV and rad.

    Returns:
        As `mmc_lite`.
    """
    vectors = (
        np.stack([primary[pt] * np.cos(primary[phi]), primary[pt] * np.sin(primary[phi])], axis=1)
        for pt, phi in (
            ("PRI_tau_pt", "PRI_tau_phi"),
            ("PRI_lep_pt", "PRI_lep_phi"),
            ("PRI_met", "PRI_met_phi"),
        )
    )
    tau, lep, met = vectors
    mass_vis = derive(primary, ("DER_mass_vis",))["DER_mass_vis"]
    return mmc_lite(tau, lep, met, primary["PRI_met_sumet"], mass_vis)
