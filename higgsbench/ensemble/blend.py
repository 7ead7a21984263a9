"""Recalibration and linear blends of stored log-odds, and what each member contributes to a blend."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ConfigError
from higgsbench.files import printable
from higgsbench.metrics.estimates import log_loss, mean_estimate, paired_difference, roc_auc
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.pages import Shown, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from higgsbench.metrics.estimates import Estimate
    from higgsbench.metrics.weights import Bools, Floats, Ints

_GREEDY_STEPS = 40
_RIDGE = 1e-4
SCORE_LIMIT = 50.0
"""Fits clip log-odds here, so that an infinite score cannot break them."""

INFINITE_SCORE = 1e6
"""Stands for an infinite score in a blend, because 0 times infinity is undefined."""


def clipped(scores: Floats, prior: float = 0.0) -> Floats:
    """Return scores minus a prior, clipped to +-50."""
    less = scores - prior
    return np.clip(less, -SCORE_LIMIT, SCORE_LIMIT, out=less)


def bounded(scores: Floats) -> Floats:
    """Return scores with infinities replaced by +-1e6, so that products and sums of them are defined."""
    return np.nan_to_num(scores, nan=np.nan, posinf=INFINITE_SCORE, neginf=-INFINITE_SCORE)


def fit_logistic(F: Floats, y: Bools, w: Floats, *, nonnegative: bool = False, l2: float = 0.0) -> tuple[Floats, float]:
    """Minimise sum w ln(1 + exp(-+(F c + a))) / sum w + l2 |c - 1/m|^2 over coefficients c and intercept a.

    Args:
        F: (n, m) log-odds, one column per member.
        y: (n,) truth.
        w: (n,) weights, not negative.
        nonnegative: whether coefficients are bounded below by 0.
        l2: pull towards the plain mean; it keeps nearly identical members from taking opposite coefficients.
    """
    # Imported here, because the import takes longer than a command that fits nothing.
    from scipy.optimize import minimize
    from scipy.special import expit

    m = F.shape[1]
    share = w / np.sum(w)
    sign = np.where(y, -1.0, 1.0)
    # The optimiser's coefficients refer to columns of unit spread; scaling the columns themselves would copy them.
    # A constant column has no spread; dividing by it would overflow.
    deviation = np.array([column.std() for column in F.T])
    spread = np.where(deviation > 1e-9, deviation, 1.0)

    def objective(theta: Floats) -> tuple[float, Floats]:
        coefficients = theta[:m] / spread
        f = F @ coefficients + theta[m]
        pull = coefficients - 1.0 / m
        loss = float(np.sum(share * np.logaddexp(0.0, sign * f))) + l2 * float(np.sum(pull**2))
        slope = share * sign * expit(sign * f)
        return loss, np.append((F.T @ slope + 2.0 * l2 * pull) / spread, np.sum(slope))

    bounds = [(0.0, None) if nonnegative else (None, None)] * m + [(None, None)]
    start = np.append(spread / m, 0.0)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    return found.x[:m] / spread, float(found.x[m])


def fit_recalibration(score: Floats, y: Bools, w: Floats, part: Ints, parts: int | None = None) -> Floats:
    """Fit slope and intercept of ln(N_s p(f|s) / N_b p(f|b)) = a f + c by weighted logistic regression.

    Inside each part (the jet group of each event, all 0 for a global model) the classes are balanced for the fit, and
    its own ln(N_s,part / N_b,part) is added to the intercept, which puts all parts on one scale. The result has one
    row for each of the `parts` groups, or for each group up to the highest that occurs.

    Raises:
        ConfigError: if a part has only one class.
    """
    out = np.empty((int(part.max()) + 1 if parts is None else parts, 2))
    for index in range(out.shape[0]):
        rows = part == index
        yr, wr = y[rows], w[rows]
        n_s, n_b = float(np.sum(wr[yr])), float(np.sum(wr[~yr]))
        if not (n_s > 0.0 and n_b > 0.0):
            raise ConfigError("calibration: a jet group has only one class; use calibration: prior or fewer groups")
        prior = float(np.log(n_s / n_b))
        balanced = np.maximum(np.where(yr, wr / n_s, wr / n_b), 0.0)
        coefficient, intercept = fit_logistic(clipped(score[rows])[:, None] - prior, yr, balanced)
        slope = float(coefficient[0])
        out[index] = slope, intercept + prior - slope * prior
    return out


def apply_recalibration(score: Floats, part: Ints, parameters: Floats) -> Floats:
    """Return slope * score + intercept with the parameters of each event's part."""
    recalibrated: Floats = parameters[part, 0] * bounded(score) + parameters[part, 1]
    return recalibrated


def cross_fitted_recalibration(
    score: Floats, y: Bools, w: Floats, part: Ints, fold: Ints
) -> tuple[Floats, list[Floats]]:
    """Recalibrate each fold with parameters fitted on the out-of-fold scores of the other folds.

    Returns the scores (n,) and the parameters of each fold.
    """
    out, fits = np.empty_like(score), []
    parts = int(part.max()) + 1
    for k in range(int(fold.max()) + 1):
        held_out = fold == k
        rest = ~held_out
        parameters = fit_recalibration(score[rest], y[rest], w[rest], part[rest], parts)
        out[held_out] = apply_recalibration(score[held_out], part[held_out], parameters)
        fits.append(parameters)
    return out, fits


@dataclass(frozen=True)
class Blend:
    """A fitted linear blend of log-odds in physical normalisation, with one coefficient (m,) for each member.

    The prior ln(N_s / N_b) is subtracted from the members before blending and added back afterwards.
    """

    method: str
    members: tuple[str, ...]
    coefficients: Floats
    intercept: float
    prior: float

    def __call__(self, F: Floats) -> Floats:
        """Blend members' log-odds (n, m) to log-odds (n,)."""
        # Member by member: the rounding of a matrix product depends on the number of rows, but an event must get the
        # same score alone as among others.
        blended = np.full(F.shape[0], self.intercept + self.prior)
        for column, coefficient in zip(F.T, self.coefficients, strict=True):
            if coefficient != 0.0:
                blended += (bounded(column) - self.prior) * coefficient
        return blended


@dataclass(frozen=True)
class BlendMethod:
    """One method: a record in `BLEND_METHODS` makes it valid as `stack.method`.

    Attributes:
        name: `stack.method` in a configuration.
        help: what it does, in one line.
        fit: finds coefficients (m,) and intercept from log-odds (n, m), truth and balanced weights (n,).
    """

    name: str
    help: str
    fit: Callable[[Floats, Bools, Floats], tuple[Floats, float]]


def _greedy(F: Floats, y: Bools, w: Floats) -> tuple[Floats, float]:
    """Forward selection with replacement (Caruana et al., ICML 2004): the best prefix of 40 greedy additions."""
    signed = np.where(y[:, None], -F, F)
    share = w / np.sum(w)
    total = np.zeros(F.shape[0])
    counts = np.zeros(F.shape[1])
    best_loss, best_counts = np.inf, counts
    for step in range(1, _GREEDY_STEPS + 1):
        losses = share @ np.logaddexp(0.0, (total[:, None] + signed) / step)
        chosen = int(np.argmin(losses))
        total += signed[:, chosen]
        counts = counts.copy()
        counts[chosen] += 1
        if losses[chosen] < best_loss - 1e-12:
            best_loss, best_counts = float(losses[chosen]), counts
    return best_counts / best_counts.sum(), 0.0


_RECORDS = (
    BlendMethod("mean", "Plain mean.", lambda F, y, w: (np.full(F.shape[1], 1.0 / F.shape[1]), 0.0)),
    BlendMethod(
        "nonnegative",
        "Logistic fit with coefficients of at least 0.",
        functools.partial(fit_logistic, nonnegative=True, l2=_RIDGE),
    ),
    BlendMethod("greedy", "Forward selection with replacement, which averages the chosen members.", _greedy),
    BlendMethod("logistic", "Logistic fit, coefficients of either sign.", functools.partial(fit_logistic, l2=_RIDGE)),
)
BLEND_METHODS: dict[str, BlendMethod] = {record.name: record for record in _RECORDS}
"""All methods by name."""


def fit_blend(
    method: str, members: tuple[str, ...], F: Floats, y: Bools, w: Floats, totals: tuple[float, float]
) -> Blend:
    """Fit a blend on out-of-fold log-odds.

    The fit sees classes of equal total weight: with the physical ratio of 1 to 600 a handful of events would dominate
    the loss.

    Args:
        method: one of `BLEND_METHODS`.
        members: labels of the columns of F.
        F: (n, m) log-odds in physical normalisation.
        y: (n,) truth.
        w: (n,) evaluation weights.
        totals: reference totals (N_s, N_b).

    Raises:
        ConfigError: if the method is not known.
    """
    if method not in BLEND_METHODS:
        raise ConfigError(f"stack.method: {method!r} is not one of {', '.join(BLEND_METHODS)}")
    prior = float(np.log(totals[0] / totals[1]))
    balanced = np.maximum(evaluation_weights(y, w, 0.5, 0.5), 0.0)
    coefficients, intercept = BLEND_METHODS[method].fit(clipped(F, prior), y, balanced)
    return Blend(method, members, coefficients, intercept, prior)


def cross_fitted_blend(
    method: str, members: tuple[str, ...], F: Floats, y: Bools, w: Floats, fold: Ints, totals: tuple[float, float]
) -> tuple[Floats, list[Blend]]:
    """Return the stack's own out-of-fold scores (n,): each fold is blended by a fit to the other folds.

    Arguments as for `fit_blend`, with the fold number (n,) of each event. Also returns the blender of each fold.
    """
    out = np.empty(F.shape[0])
    blends = []
    for k in range(int(fold.max()) + 1):
        held_out = fold == k
        rest = ~held_out
        blend = fit_blend(method, members, F[rest], y[rest], w[rest], totals)
        out[held_out] = blend(F[held_out])
        blends.append(blend)
    return out, blends


@dataclass(frozen=True)
class MemberGain:
    """One member of a blend.

    Attributes:
        weight: mean coefficient over folds and repeats, and its standard deviation.
        auc: weighted ROC AUC of the member alone.
        nearest: the member whose scores correlate most with its own.
        auc_gain: AUC of the blend minus that of the blend refitted without the member, and its paired error.
        log_loss_gain: the same for the log-loss, without minus with: a positive gain means that the member helps.
    """

    name: str
    weight: float
    weight_sd: float
    auc: float
    nearest: str
    nearest_correlation: float
    auc_gain: float
    auc_gain_se: float
    log_loss_gain: float
    log_loss_gain_se: float


@dataclass(frozen=True, repr=False)
class Diversity(Shown):
    """A blend and what each of its members contributes.

    Attributes:
        correlation: (m, m) correlations of the members' log-odds, see `score_correlation`.
        auc: weighted ROC AUC of the blend.
    """

    method: str
    members: tuple[MemberGain, ...]
    correlation: Floats
    auc: float

    def __repr__(self) -> str:
        """Name the method; `as_tables` shows the members and their gains."""
        return f"<Diversity of the stack ({self.method}) of {len(self.members)} rows, weighted AUC {self.auc:.4f}>"

    def as_tables(self) -> list[Table]:
        """Return the table of the members, the most useful first."""
        rows = [
            (
                printable(m.name),
                f"{m.weight:.3f} ± {m.weight_sd:.3f}",
                f"{m.auc:.4f}",
                f"{m.auc_gain:+.5f} ± {m.auc_gain_se:.5f}",
                f"{1e3 * m.log_loss_gain:+.4f} ± {1e3 * m.log_loss_gain_se:.4f}",
                printable(m.nearest),
                f"{m.nearest_correlation:.3f}",
            )
            for m in sorted(self.members, key=lambda m: -m.log_loss_gain)
        ]
        headings = ["member", "weight", "wAUC alone", "gain in wAUC", "gain in log-loss x10³", "most like", "r"]
        return [Table(f"Stack ({self.method}), weighted AUC {self.auc:.4f}", headings, rows, text=(0, 5))]

    def records(self) -> list[dict[str, Any]]:
        """Return one record per member."""
        return [vars(member) for member in self.members]


def score_correlation(F: Floats, y: Bools, w: Floats) -> Floats:
    """Return the weighted Pearson correlations (m, m) of log-odds F (n, m) within the classes.

    Every useful score separates signal from background, and that alone would correlate them. The class means are
    therefore subtracted first, and both classes count the same.
    """
    weight = evaluation_weights(y, w, 0.5, 0.5)
    centred = np.empty_like(F, dtype=np.float64)
    for members in (y, ~y):
        centred[members] = F[members] - np.average(F[members], axis=0, weights=weight[members])
    covariance = (centred * weight[:, None]).T @ centred
    spread = np.sqrt(np.maximum(np.diag(covariance), np.finfo(np.float64).tiny))
    correlation: Floats = covariance / np.outer(spread, spread)
    return correlation


def blend_diversity(
    method: str, names: Sequence[str], scores: Floats, y: Bools, w: Floats, fold: Ints, totals: tuple[float, float]
) -> Diversity:
    """Measure what each member contributes to a blend.

    Arguments as for `cross_fitted_blend`, with scores (repeats, n, m) of at least two members and folds (repeats, n).
    """

    def judged(kept: list[int]) -> tuple[Estimate, Estimate, Floats]:
        """Return AUC, log-loss and the coefficients of all blenders of the blend of some members."""
        members = tuple(names[j] for j in kept)
        some = scores[:, :, kept] if len(kept) < len(names) else scores
        found = [cross_fitted_blend(method, members, F, y, w, fold[r], totals) for r, F in enumerate(some)]
        auc, loss = (mean_estimate([metric(y, f, w) for f, _ in found]) for metric in (roc_auc, log_loss))
        return auc, loss, np.stack([blend.coefficients for _, blends in found for blend in blends])

    everyone = list(range(len(names)))
    auc, loss, coefficients = judged(everyone)
    correlation = np.mean([score_correlation(F, y, w) for F in scores], axis=0)
    members = []
    for i, name in enumerate(names):
        kept = [j for j in everyone if j != i]
        auc_without, loss_without, _ = judged(kept)
        nearest = max(kept, key=lambda j: correlation[i, j])
        weights = float(coefficients[:, i].mean()), float(coefficients[:, i].std())
        alone = mean_estimate([roc_auc(y, F[:, i], w) for F in scores]).value
        gains = (*paired_difference(auc, auc_without), *paired_difference(loss_without, loss))
        members.append(MemberGain(name, *weights, alone, names[nearest], float(correlation[i, nearest]), *gains))
    return Diversity(method, tuple(members), correlation, auc.value)
