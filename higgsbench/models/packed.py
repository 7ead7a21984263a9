"""A packed ensemble of small networks as a scikit-learn classifier: torch trains it, numpy scores with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from higgsbench.errors import MissingExtraError, ModelError
from higgsbench.models.packed_symmetry import AUGMENT, symmetry_of
from higgsbench.models.scoring import FromLogOdds, two_classes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from higgsbench.models.packed_symmetry import Symmetry

__all__ = ["CONNECTIONS", "DEVICES", "SHARING", "PackedMLPClassifier"]

DEVICES = ("cpu", "cuda", "auto")
CONNECTIONS = ("plain", "dense")
SHARING = ("none", "tabm")
CLIP = 6.0
"""Standardised inputs are kept within so many standard deviations: an extreme event is scored, not extrapolated."""
_CHOICES = {"device": DEVICES, "connections": CONNECTIONS, "sharing": SHARING, "augment": AUGMENT}
_BLOCK = 2048  # events scored at a time: the activations of all members stay in the processor's cache


class PackedMLPClassifier(FromLogOdds, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Ensemble of multi-layer perceptrons trained at once as batched matrix products; binary, weighted.

    The members differ by their start and by the order in which they see the events. Each has SiLU units (Elfwing,
    Uchibe and Doya, Neural Networks 107 (2018) 3), dropout (Srivastava et al., JMLR 15 (2014) 1929), AdamW (Loshchilov
    and Hutter, ICLR 2019) and a learning rate that rises and falls once (Smith, arXiv:1803.09820). The ensemble's score
    is the mean of the members' log-odds.

    With `connections="dense"` each layer sees the inputs and the units of all layers before it (Huang et al., CVPR
    2017). With `sharing="tabm"` the members share the matrices of the hidden layers and differ by factors of each
    layer's inputs and outputs, biases and the last layer (Gorishniy, Kotelnikov and Babenko, TabM, ICLR 2025).
    With `augment` an event is turned and mirrored at random each time it is seen, and a score is the mean over some
    orientations; it needs the names of the columns, see `higgsbench.models.packed_symmetry`.

    Training needs torch (`pip install 'higgsbench[torch]'`), scoring does not. The same seed and number of threads give
    the same bits on one machine's processor; a graphics card promises no such thing.

    Args:
        members: number of networks.
        hidden_layer_sizes: width of each hidden layer.
        dropout: share of hidden units left out per step, in steps of 1/256.
        epochs: times each event is seen.
        batch_size: events per step and member; fewer where there are fewer than 20 such batches of events.
        learning_rate: highest learning rate of the cycle.
        weight_decay: decoupled weight decay of the matrices.
        connections: `plain` or `dense`.
        sharing: `none` or `tabm`.
        augment: `none`, `flip` or `rotate`, which flips too.
        views: orientations that a score of an augmented ensemble is the mean of; flips have four at most.
        inputs: names of the columns, for `augment`; an imputation may add columns behind them.
        device: `cpu`, `cuda` or `auto` (`cuda` where there is one); `cuda` falls back to `cpu` with a logged warning.
        num_threads: threads of the processor.
        random_state: seed; neither torch's nor numpy's global random numbers are used.

    Attributes:
        classes_: the two labels.
        center_: (p,) means of the inputs; augmentation may add columns behind them.
        scale_: (p,) standard deviations of the inputs, 1 where constant.
        layers_: per layer, weights (members, inputs, outputs) and biases (members, 1, outputs), float32; what members
            share is multiplied out.
    """

    def __init__(
        self,
        *,
        members: int = 8,
        hidden_layer_sizes: Sequence[int] = (96, 96, 96),
        dropout: float = 0.25,
        epochs: int = 15,
        batch_size: int = 256,
        learning_rate: float = 0.006,
        weight_decay: float = 0.01,
        connections: str = "plain",
        sharing: str = "none",
        augment: str = "none",
        views: int = 8,
        inputs: Sequence[str] = (),
        device: str = "cpu",
        num_threads: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.members = members
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.connections = connections
        self.sharing = sharing
        self.augment = augment
        self.views = views
        self.inputs = inputs
        self.device = device
        self.num_threads = num_threads
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def check(self) -> PackedMLPClassifier:
        """Check the parameters.

        Returns:
            The estimator itself.

        Raises:
            ValueError: naming the parameter that cannot be.
        """
        for name in ("members", "epochs", "batch_size", "views", "num_threads"):
            if not _whole(getattr(self, name)):
                raise ValueError(f"{name} must be a whole number from 1, got {getattr(self, name)!r}")
        sizes: Any = self.hidden_layer_sizes
        if isinstance(sizes, str) or not hasattr(sizes, "__len__") or not all(_whole(size) for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be a list of whole numbers from 1, got {sizes!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout!r}")
        if not 0.0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate!r}")
        if not 0.0 <= self.weight_decay < np.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay!r}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        symmetry_of(self.augment, self.inputs, len(self.inputs))
        return self

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> PackedMLPClassifier:
        """Fit on X (n, p), y (n,) of two classes and sample_weight (n,), whose scale does not matter.

        Raises:
            MissingExtraError: if torch is not installed.
            ValueError: for a parameter out of range or malformed input.
        """
        self.check()
        X_, truth, weight = self._checked_fit(X, y, sample_weight)
        try:
            from higgsbench.models.packed_training import train
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise MissingExtraError(type(self).__name__, "torch") from error

        self._learn_scale(X_)
        self.layers_ = train(self, self._standardised(X_), truth, weight, _seed(self.random_state))
        return self

    @property
    def symmetry(self) -> Symmetry | None:
        """What turns into what, None without augmentation."""
        return symmetry_of(self.augment, self.inputs, self.n_features_in_)

    def _learn_scale(self, X: NDArray[np.float32]) -> None:
        symmetry = self.symmetry
        X_ = X if symmetry is None else symmetry.expanded(X)
        self.center_ = X_.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = X_.std(axis=0, dtype=np.float64).astype(np.float32)
        self.scale_ = np.where(spread > 0.0, spread, np.float32(1.0))
        if symmetry is not None:
            self.center_, self.scale_ = symmetry.moments(X_, self.center_, self.scale_)

    def _checked_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        from sklearn.utils.validation import _check_sample_weight

        X_, y_ = validate_data(self, X, y, dtype=np.float32)
        self.classes_, coded = two_classes(y_)
        w = _check_sample_weight(sample_weight, X_, dtype=np.float64)
        if (w < 0.0).any() or not w.sum() > 0.0:
            raise ValueError("sample_weight must not be negative and must have a positive sum")
        return X_, coded.astype(np.float32), (w / w.mean()).astype(np.float32)

    def _standardised(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        symmetry = self.symmetry
        X = X if symmetry is None else symmetry.expanded(X)
        standardised: NDArray[np.float32] = np.clip((X - self.center_) / self.scale_, -CLIP, CLIP)
        return standardised

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the mean of the members' log-odds under the training weights, shape (n,)."""
        check_is_fitted(self)
        X_ = validate_data(self, X, dtype=np.float32, reset=False)
        score = np.empty(X_.shape[0])
        for begin in range(0, X_.shape[0], _BLOCK):
            block = slice(begin, begin + _BLOCK)
            orientations = self._orientations(self._standardised(X_[block]))
            means = [self._member_log_odds(seen).mean(axis=0, dtype=np.float64) for seen in orientations]
            score[block] = means[0] if len(means) == 1 else np.mean(means, axis=0)
        return score

    def _orientations(self, X: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Standardised events (n, p) in the orientations that a score is the mean over."""
        symmetry = self.symmetry
        return [X] if symmetry is None else [symmetry.seen(X, view) for view in symmetry.views(self.views)]

    def _member_log_odds(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds of each member, shape (members, n), for standardised X (n, p)."""
        dense = self.connections == "dense"
        hidden = np.broadcast_to(X, (self.layers_[0][0].shape[0], *X.shape)) if dense else X[None]
        for weights, bias in self.layers_[:-1]:
            z = np.matmul(hidden, weights) + bias
            units = z * (0.5 + 0.5 * np.tanh(0.5 * z))  # SiLU; the logistic function as a tanh cannot overflow
            hidden = np.concatenate([hidden, units], axis=2) if dense else units
        weights, bias = self.layers_[-1]
        log_odds: NDArray[np.float32] = (np.matmul(hidden, weights) + bias)[..., 0]
        return log_odds

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return arrays and plain parameters from which `from_state` makes this fitted estimator again."""
        check_is_fitted(self)
        arrays: dict[str, NDArray[Any]] = {"center": self.center_, "scale": self.scale_}
        for number, (weights, bias) in enumerate(self.layers_):
            arrays |= {f"weights{number}": weights, f"bias{number}": bias}
        params = {**self.get_params(), "hidden_layer_sizes": [int(size) for size in self.hidden_layer_sizes]}
        params["inputs"] = [str(name) for name in self.inputs]
        params["random_state"] = self.random_state if isinstance(self.random_state, int) else None
        return arrays, {"params": params, "classes": self.classes_.tolist()}

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> PackedMLPClassifier:
        """Make the fitted estimator that `state` described; it scores without torch.

        Raises:
            ModelError: if the state does not hold together.
        """
        try:
            model = cls(**parameters["params"]).check()
            model.inputs = tuple(model.inputs)
            model.classes_ = np.asarray(parameters["classes"])
            model.center_, model.scale_ = arrays["center"], arrays["scale"]
            depth = len(model.hidden_layer_sizes) + 1
            model.layers_ = [(arrays[f"weights{i}"], arrays[f"bias{i}"]) for i in range(depth)]
            added = symmetry_of(model.augment, model.inputs, len(model.inputs))
            model.n_features_in_ = model.center_.size - (0 if added is None else added.added)
            model.symmetry  # noqa: B018  # raises where there are fewer columns than names
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"stored {cls.__name__}: {error}") from error
        model._check_shapes()
        return model

    def layer_shapes(self) -> list[tuple[int, int]]:
        """Number of inputs and of outputs of each layer."""
        widths = [self.center_.size, *self.hidden_layer_sizes, 1]
        dense = self.connections == "dense"
        return [(sum(widths[:i]) if dense else widths[i - 1], widths[i]) for i in range(1, len(widths))]

    def _check_shapes(self) -> None:
        fits = self.classes_.shape == (2,) and self.center_.shape == self.scale_.shape == (self.center_.size,)
        for (weights, bias), (inputs, outputs) in zip(self.layers_, self.layer_shapes(), strict=True):
            fits &= weights.shape == (self.members, inputs, outputs) and bias.shape == (self.members, 1, outputs)
        if not fits:
            raise ModelError(f"stored {type(self).__name__}: the shapes of the arrays do not fit together")


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def _seed(random_state: int | np.random.RandomState | None) -> int:
    """Seed of the training, drawn afresh where none is given."""
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    return int(np.random.default_rng(random_state).integers(2**63 - 1))
