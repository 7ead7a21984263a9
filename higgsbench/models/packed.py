"""A packed ensemble of small networks as a scikit-learn classifier: torch trains it, numpy scores with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from higgsbench.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["DEVICES", "PackedMLPClassifier"]

DEVICES = ("cpu", "cuda", "auto")
CLIP = 6.0
"""Standardised inputs are kept within so many standard deviations: an extreme event is scored, not extrapolated."""
_BLOCK = 2048  # events scored at a time: the activations of all members stay in the processor's cache


class PackedMLPClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Ensemble of multi-layer perceptrons trained at once as batched matrix products; binary, weighted.

    The members differ by their start and by the order in which they see the events. Each has SiLU units (Elfwing,
    Uchibe and Doya, Neural Networks 107 (2018) 3), dropout (Srivastava et al., JMLR 15 (2014) 1929), AdamW (Loshchilov
    and Hutter, ICLR 2019) and a learning rate that rises and falls once (Smith, arXiv:1803.09820). The ensemble's score
    is the mean of the members' log-odds.

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
        device: `cpu`, `cuda` or `auto` (`cuda` where there is one); `cuda` falls back to `cpu` with a logged warning.
        num_threads: threads of the processor.
        random_state: seed; neither torch's nor numpy's global random numbers are used.

    Attributes:
        classes_: the two labels.
        center_: (p,) means of the inputs.
        scale_: (p,) standard deviations of the inputs, 1 where constant.
        layers_: per layer, weights (members, inputs, outputs) and biases (members, 1, outputs), float32.
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
        for name in ("members", "epochs", "batch_size", "num_threads"):
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
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")
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

        self.center_ = X_.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = X_.std(axis=0, dtype=np.float64).astype(np.float32)
        self.scale_ = np.where(spread > 0.0, spread, np.float32(1.0))
        self.layers_ = train(self, self._standardised(X_), truth, weight, _seed(self.random_state))
        return self

    def _checked_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        from sklearn.utils.multiclass import check_classification_targets, type_of_target
        from sklearn.utils.validation import _check_sample_weight

        X_, y_ = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y_)
        self.classes_, coded = np.unique(y_, return_inverse=True)
        if self.classes_.size > 2:
            kind = type_of_target(y_, input_name="y")
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        if self.classes_.size < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_}")
        w = _check_sample_weight(sample_weight, X_, dtype=np.float64)
        if (w < 0.0).any() or not w.sum() > 0.0:
            raise ValueError("sample_weight must not be negative and must have a positive sum")
        return X_, coded.astype(np.float32), (w / w.mean()).astype(np.float32)

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
        log_odds: NDArray[np.float32] = (np.matmul(hidden, weights) + bias)[..., 0]
        return log_odds

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (n, 2) that belong to the log-odds."""
        f = self.decision_function(X)
        return np.column_stack([np.exp(-np.logaddexp(0.0, f)), np.exp(-np.logaddexp(0.0, -f))])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable class of each event, shape (n,)."""
        f = self.decision_function(X)  # first, for it says when there is no fit yet
        predicted: NDArray[Any] = self.classes_[(f > 0.0).astype(np.intp)]
        return predicted

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return arrays and plain parameters from which `from_state` makes this fitted estimator again."""
        check_is_fitted(self)
        arrays: dict[str, NDArray[Any]] = {"center": self.center_, "scale": self.scale_}
        for number, (weights, bias) in enumerate(self.layers_):
            arrays |= {f"weights{number}": weights, f"bias{number}": bias}
        params = {**self.get_params(), "hidden_layer_sizes": [int(size) for size in self.hidden_layer_sizes]}
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
            model.classes_ = np.asarray(parameters["classes"])
            model.center_, model.scale_ = arrays["center"], arrays["scale"]
            depth = len(model.hidden_layer_sizes) + 1
            model.layers_ = [(arrays[f"weights{i}"], arrays[f"bias{i}"]) for i in range(depth)]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"stored {cls.__name__}: {error}") from error
        model._check_shapes()
        model.n_features_in_ = model.center_.size
        return model

    def _check_shapes(self) -> None:
        widths = [self.center_.size, *self.hidden_layer_sizes, 1]
        fits = self.classes_.shape == (2,) and self.center_.shape == self.scale_.shape == (widths[0],)
        for (weights, bias), inputs, outputs in zip(self.layers_, widths, widths[1:], strict=False):
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
