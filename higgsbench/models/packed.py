"""A packed ensemble of small networks as a scikit-learn classifier: torch trains it, numpy scores with it.

torch is imported only where networks are trained.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from higgsbench.errors import MissingExtraError
from higgsbench.models.estimators import FromLogOdds, two_classes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Layers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]

DEVICES = ("cpu", "cuda", "auto")

CLIP = 6.0
"""Standardised inputs are kept within this many standard deviations: an extreme event is scored, not extrapolated."""

WARM_UP = 0.3
"""Share of the steps in which the learning rate rises."""

LOWEST = 0.04
"""The learning rate at the beginning, relative to the highest."""

LEAST_STEPS = 20
"""Steps per epoch; a small jet group gets smaller batches to have as many."""

_BLOCK = 2048  # events scored at a time: the activations of all members stay in the processor's cache


@dataclass(eq=False, repr=False, kw_only=True)
class PackedMLPClassifier(FromLogOdds, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Ensemble of multi-layer perceptrons trained at once as batched matrix products; binary, weighted.

    The members differ in their initial weights and in the order of the events. Each has SiLU units (Elfwing,
    Uchibe and Doya, Neural Networks 107 (2018) 3), dropout (Srivastava et al., JMLR 15 (2014) 1929), AdamW (Loshchilov
    and Hutter, ICLR 2019) and a learning rate that rises and falls once (Smith, arXiv:1803.09820). The ensemble's score
    is the mean of the members' log-odds.

    Training needs torch (`pip install 'higgsbench[torch]'`), scoring does not. The same seed and number of threads give
    the same bits on one machine's processor; on a graphics card they may differ.

    Args:
        members: number of networks.
        hidden_layer_sizes: width of each hidden layer.
        dropout: share of hidden units left out per step, in steps of 1/256.
        epochs: number of times that each event is seen.
        batch_size: events per step and member; fewer where there are fewer than 20 such batches of events.
        learning_rate: highest learning rate of the cycle.
        weight_decay: decoupled weight decay of the matrices.
        device: `cpu`, `cuda` or `auto` (`cuda` where there is one); `cuda` falls back to `cpu` with a logged warning.
        num_threads: threads of the processor.
        decorrelation: strength of the penalty on the squared distance correlation of log-odds and spectator in the
            background of each batch (Kasieczka and Shih, Phys. Rev. Lett. 125 (2020) 122001, arXiv:2001.05310).
        warm_start: whether `fit` continues with the networks and the scaling of the fit before, if there was one.
        random_state: seed; neither torch's nor numpy's global random numbers are used.

    Attributes:
        classes_: the two labels.
        center_: (p,) means of the inputs.
        scale_: (p,) standard deviations of the inputs, 1 where constant.
        layers_: per layer, weights (members, inputs, outputs) and biases (members, 1, outputs), float32.
    """

    members: int = 8
    hidden_layer_sizes: Sequence[int] = (96, 96, 96)
    dropout: float = 0.25
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 0.006
    weight_decay: float = 0.01
    device: str = "cpu"
    num_threads: int = 1
    decorrelation: float = 0.0
    warm_start: bool = False
    random_state: int | np.random.RandomState | None = None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def check(self) -> PackedMLPClassifier:
        """Return the estimator itself, or raise a `ValueError` that names an impossible parameter."""
        for name in ("members", "epochs", "batch_size", "num_threads"):
            if not is_count(getattr(self, name)):
                raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}")
        sizes: Any = self.hidden_layer_sizes
        if isinstance(sizes, str) or not hasattr(sizes, "__len__") or not all(is_count(size) for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be a list of positive whole numbers, got {sizes!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout!r}")
        if not 0.0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate!r}")
        if not 0.0 <= self.weight_decay < np.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay!r}")
        if not 0.0 <= self.decorrelation < np.inf:
            raise ValueError(f"decorrelation must not be negative, got {self.decorrelation!r}")
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")
        return self

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        spectator: NDArray[np.float32] | None = None,
    ) -> PackedMLPClassifier:
        """Fit on X (n, p), y (n,) of two classes and sample_weight (n,), whose scale does not matter.

        `spectator` (n,), NaN where missing, is what the score should not depend on; `decorrelation` needs it.

        Raises:
            MissingExtraError: if torch is not installed.
            ValueError: for a parameter out of range or malformed input.
        """
        from sklearn.utils.validation import _check_sample_weight

        self.check()
        X_, y_ = validate_data(self, X, y, dtype=np.float32)
        self.classes_, coded = two_classes(y_)
        w = _check_sample_weight(sample_weight, X_, dtype=np.float64)
        if (w < 0.0).any() or not w.sum() > 0.0:
            raise ValueError("sample_weight must not be negative and must have a positive sum")
        before: Layers | None = getattr(self, "layers_", None) if self.warm_start else None
        if before is None:
            self.center_ = X_.mean(axis=0, dtype=np.float64).astype(np.float32)
            spread = X_.std(axis=0, dtype=np.float64).astype(np.float32)
            self.scale_ = np.where(spread > 0.0, spread, np.float32(1.0))
        if isinstance(self.random_state, np.random.RandomState):
            seed = int(self.random_state.randint(2**31 - 1))
        else:
            seed = int(np.random.default_rng(self.random_state).integers(2**63 - 1))
        weight = (w / w.mean()).astype(np.float32)
        arrays = [self._standardised(X_), coded.astype(np.float32), weight]
        if self.decorrelation > 0.0:
            if spectator is None:
                raise ValueError("decorrelation needs a spectator")
            arrays += [np.nan_to_num(spectator), weight * (coded == 0) * np.isfinite(spectator)]
        self.layers_ = _train(self, seed, before, *arrays)
        return self

    def _standardised(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        standardised: NDArray[np.float32] = np.clip((X - self.center_) / self.scale_, -CLIP, CLIP)
        return standardised

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the mean of the members' log-odds under the training weights, shape (n,)."""
        check_is_fitted(self)
        X_ = validate_data(self, X, dtype=np.float32, reset=False)
        score = np.empty(X_.shape[0])
        for begin in range(0, X_.shape[0], _BLOCK):
            block = slice(begin, begin + _BLOCK)
            score[block] = self._member_log_odds(self._standardised(X_[block])).mean(axis=0, dtype=np.float64)
        return score

    def _member_log_odds(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds of each member, shape (members, n), for standardised X (n, p)."""
        hidden = X[None]
        for weights, bias in self.layers_[:-1]:
            z = np.matmul(hidden, weights) + bias
            hidden = z * (0.5 + 0.5 * np.tanh(0.5 * z))  # SiLU; the logistic function as a tanh cannot overflow
        weights, bias = self.layers_[-1]
        found: NDArray[np.float32] = (np.matmul(hidden, weights) + bias)[..., 0]
        return found

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the fitted state as arrays of numbers and a JSON object, see `from_state`."""
        check_is_fitted(self)
        arrays: dict[str, NDArray[Any]] = {"center": self.center_, "scale": self.scale_}
        for number, (weights, bias) in enumerate(self.layers_):
            arrays |= {f"weights{number}": weights, f"bias{number}": bias}
        params = {**self.get_params(), "hidden_layer_sizes": [int(size) for size in self.hidden_layer_sizes]}
        params["random_state"] = self.random_state if isinstance(self.random_state, int) else None
        return arrays, {"params": params, "classes": self.classes_.tolist()}

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> PackedMLPClassifier:
        """Make the fitted estimator that `state` described, or a `ValueError` if it is impossible; needs no torch."""
        model = cls(**parameters["params"]).check()
        model.classes_ = np.asarray(parameters["classes"])
        model.center_, model.scale_ = arrays["center"], arrays["scale"]
        depth = len(model.hidden_layer_sizes) + 1
        model.layers_ = [(arrays[f"weights{i}"], arrays[f"bias{i}"]) for i in range(depth)]
        model.n_features_in_ = model.center_.size
        sizes = itertools.pairwise([model.center_.size, *model.hidden_layer_sizes, 1])
        shapes = [((model.members, i, o), (model.members, 1, o)) for i, o in sizes]
        if [(weights.shape, bias.shape) for weights, bias in model.layers_] != shapes:
            raise ValueError("the shapes of its arrays do not fit together")
        return model


def is_count(value: Any, least: int = 1) -> bool:
    """Whether a parameter is a whole number that is large enough."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def _train(model: PackedMLPClassifier, seed: int, before: Layers | None, *arrays: NDArray[np.float32]) -> Layers:
    """Train all members on standardised X (n, p), truth (n,) of 0 and 1 and weights (n,) of mean 1, logistic loss.

    With a penalty, the spectator (n,) and its weights (n,) follow. The fit starts from the given layers, or from random
    ones.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError(type(model).__name__, "torch") from error

    device = torch_device(model.device)
    # These settings affect the whole process, so they are restored afterwards.
    threads, flushed = torch.get_num_threads(), float(torch.tensor(1e-40) * 0.5) == 0.0
    torch.set_num_threads(model.num_threads)
    torch.set_flush_denormal(True)  # moments of idle units decay into denormals, at a hundred times the cost
    try:
        generator = torch.Generator(device).manual_seed(seed)
        events = [torch.from_numpy(np.ascontiguousarray(values)).to(device) for values in arrays]
        layers = _start(model, generator) if before is None else _copied(before, device)
        _run(model, layers, events, generator)
        return [(weights.detach().cpu().numpy(), bias.detach().cpu().numpy()) for weights, bias in layers]
    finally:
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(threads)


def torch_device(wanted: str) -> str:
    """Return `cpu` or `cuda` for one of `DEVICES`; the log says once if `cuda` finds no usable graphics card."""
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        _say_once("device 'cuda': torch finds no usable graphics card; networks use the processor instead")
    return "cpu"


@functools.cache
def _say_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)


def _start(model: PackedMLPClassifier, generator: Any) -> list[tuple[Any, Any]]:
    """Random weights (He et al., ICCV 2015; smaller for the output, so that all start near zero) and zero biases."""
    import torch

    where = {"device": generator.device}
    layers = []
    widths = [model.center_.size, *model.hidden_layer_sizes, 1]
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        scale = math.sqrt(2.0 / inputs) if number < len(model.hidden_layer_sizes) else 0.5 * math.sqrt(2.0 / inputs)
        weights = scale * torch.randn((model.members, inputs, outputs), generator=generator, **where)
        bias = torch.zeros((model.members, 1, outputs), **where)
        layers.append((weights.requires_grad_(), bias.requires_grad_()))
    return layers


def _copied(before: Layers, device: str) -> list[tuple[Any, Any]]:
    import torch

    return [tuple(torch.tensor(values, device=device).requires_grad_() for values in layer) for layer in before]


def _run(model: PackedMLPClassifier, layers: list[tuple[Any, Any]], events: list[Any], generator: Any) -> None:
    import torch

    X, truth, weight, *penalised = events
    n = truth.shape[0]
    batch = min(model.batch_size, max(1, n // LEAST_STEPS))
    per_epoch = n // batch
    groups = [
        {"params": [weights for weights, _ in layers], "weight_decay": model.weight_decay},
        {"params": [bias for _, bias in layers], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=model.learning_rate, fused=True)
    for step in range(model.epochs * per_epoch):
        if step % per_epoch == 0:
            one_each = [torch.randperm(n, generator=generator, device=generator.device) for _ in range(model.members)]
            order = torch.stack(one_each)
        for group in optimizer.param_groups:
            group["lr"] = model.learning_rate * _cycle(step / (model.epochs * per_epoch))
        rows = order[:, (step % per_epoch) * batch : (step % per_epoch + 1) * batch]
        log_odds = _forward(layers, X[rows], model.dropout, generator)
        log_loss = torch.nn.functional.binary_cross_entropy_with_logits
        loss = log_loss(log_odds, truth[rows], weight[rows], reduction="sum")
        loss = loss / batch
        if penalised:
            loss = loss + model.decorrelation * _correlation(log_odds, *(values[rows] for values in penalised)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _correlation(score: Any, spectator: Any, weight: Any) -> Any:
    """Squared distance correlation (members,) of scores and spectator, weighted, (members, batch) each."""
    p = (weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-12))[..., None]
    centred = []
    for values in (score, spectator):
        distance = (values[:, :, None] - values[:, None, :]).abs()
        mean = distance @ p
        centred.append(distance - mean - mean.mT + p.mT @ mean)
    a, b = centred
    xy, xx, yy = ((p.mT @ (one * other) @ p)[:, 0, 0] for one, other in ((a, b), (a, a), (b, b)))
    return xy / (xx * yy).clamp_min(1e-12).sqrt()


def _cycle(progress: float) -> float:
    """Learning rate relative to its highest, a cosine up and a cosine down to zero."""
    if progress < WARM_UP:
        return LOWEST + (1.0 - LOWEST) * 0.5 * (1.0 - math.cos(math.pi * progress / WARM_UP))
    return 0.5 * (1.0 + math.cos(math.pi * (progress - WARM_UP) / (1.0 - WARM_UP)))


def _forward(layers: list[tuple[Any, Any]], x: Any, dropout: float, generator: Any) -> Any:
    """Log-odds (members, batch) of the members' own batches x (members, batch, p)."""
    import torch

    dropped = round(256 * dropout)
    for weights, bias in layers[:-1]:
        x = torch.nn.functional.silu(torch.baddbmm(bias, x, weights))
        if dropped:
            x = x * _kept(x.shape, min(dropped, 255), generator)
    weights, bias = layers[-1]
    return torch.baddbmm(bias, x, weights)[..., 0]


def _kept(shape: Any, dropped: int, generator: Any) -> Any:
    """Dropout mask of mean 1; one random byte per unit, since whole random numbers would be a fifth of the cost."""
    import torch

    count = math.prod(shape)
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    kept = words.view(torch.uint8)[:count].view(shape) >= dropped
    return kept.float().mul_(256 / (256 - dropped))
