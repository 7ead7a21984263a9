"""Turning and mirroring events on the columns that a network gets: augmentation in training, an average in scoring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["AUGMENT", "Symmetry", "View", "symmetry_of"]

AUGMENT = ("none", "flip", "rotate")
ALONG, ACROSS, ODD = "_lx", "_ly", "_eta_in"
"""Endings of the columns of momentum vectors in the feature set `momenta`: two components in the transverse plane and
the pseudorapidity. A vector without the second one lies along the first axis (the tau in the canonical frame)."""

View = tuple[float, float, float]
"""An angle in rad about the beam, the sign of the reflection of the transverse plane, and that of the beam axis."""


@dataclass(frozen=True)
class Symmetry:
    """Which columns turn into each other; all others stay as they are.

    Attributes:
        along: columns of first components; empty where events are mirrored only.
        across: columns of second components, in the order of `along`; the last ones may be added.
        odd: columns that change their sign with the direction of the beam axis.
        added: number of second components that are no column, for they are 0 in the canonical frame.
    """

    along: tuple[int, ...]
    across: tuple[int, ...]
    odd: tuple[int, ...]
    added: int = 0

    def expanded(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Put the added columns, zeros, behind those of X (n, p)."""
        return np.hstack([X, np.zeros((X.shape[0], self.added), dtype=X.dtype)]) if self.added else X

    def moments(
        self, X: NDArray[np.float32], center: NDArray[np.float32], scale: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Means and standard deviations of expanded columns over all orientations, given those over the events.

        Both components of a vector have the same, so that turning commutes with the standardisation.
        """
        center, scale = center.copy(), scale.copy()
        square = np.mean(np.square(X, dtype=np.float64), axis=0)
        along, across = list(self.along), list(self.across)
        if along:
            square[along] = square[across] = 0.5 * (square[along] + square[across])
        for column in (*along, *across, *self.odd):
            center[column] = 0.0
            scale[column] = math.sqrt(square[column]) or 1.0
        return center, scale

    def views(self, number: int) -> list[View]:
        """Orientations to average over: angles at equal distances, each second one mirrored, each second pair too."""
        if not self.along:
            number = min(number, 4)
        turn = 2.0 * math.pi / number if self.along else 0.0
        return [(turn * k, 1.0 - 2.0 * (k % 2), 1.0 - 2.0 * (k // 2 % 2)) for k in range(number)]

    def seen(self, X: NDArray[np.float32], view: View) -> NDArray[np.float32]:
        """Return standardised columns (n, p) in another orientation."""
        angle, plane, axis = view
        turned, along, across = X.copy(), list(self.along), list(self.across)
        if along:
            c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
            turned[:, along] = c * X[:, along] - s * X[:, across]
            turned[:, across] = s * X[:, along] + c * X[:, across]
        turned[:, across] *= np.float32(plane)
        turned[:, list(self.odd)] *= np.float32(axis)
        return turned


def symmetry_of(augment: str, names: Sequence[str], inputs: int) -> Symmetry | None:
    """Find the columns of momentum vectors by their names.

    Args:
        augment: `none`, `flip` or `rotate` (and flip).
        names: names of the first columns.
        inputs: number of columns; an imputation adds some behind those of the names.

    Returns:
        What turns into what; None for `none`.

    Raises:
        ValueError: if no columns of these names are there.
    """
    if augment == "none":
        return None
    at = {name: column for column, name in enumerate(names)}
    odd = tuple(column for name, column in at.items() if name.endswith(ODD))
    pairs = {name: name.removesuffix(ALONG) + ACROSS for name in at if name.endswith(ALONG)}
    if not odd or not any(name in at for name in pairs.values()) or inputs < len(at):
        raise ValueError(
            f"augment {augment!r} needs momentum vectors among the columns (NAME{ALONG} with NAME{ACROSS}, NAME{ODD}), "
            "as the feature set momenta has them, and one model for all jet numbers"
        )
    if augment == "flip":
        return Symmetry((), tuple(at[name] for name in pairs.values() if name in at), odd)
    lacking = [name for name in pairs.values() if name not in at]
    at |= {name: inputs + i for i, name in enumerate(lacking)}
    return Symmetry(tuple(at[n] for n in pairs), tuple(at[n] for n in pairs.values()), odd, len(lacking))
