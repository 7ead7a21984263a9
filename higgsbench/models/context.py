"""Tabular foundation models as scikit-learn classifiers: pretrained networks that read training events as context.

The libraries are imported, and their checkpoints read, only where events are scored. Nothing is downloaded.
"""

from __future__ import annotations

import functools
import re
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from higgsbench.errors import ModelError
from higgsbench.events.cache import cache_dir
from higgsbench.files import file_digest
from higgsbench.models.estimators import FromLogOdds, read_log_odds, two_classes
from higgsbench.models.packed import DEVICES, is_count, torch_device

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_ONE_AT_A_TIME = threading.Lock()
"""Threads score one after another: each call uses all threads that it may use, and memory would add up."""


class Library(NamedTuple):
    """How to use one library.

    Attributes:
        classifier: its class, as "module:Class".
        repository: where `hf download` finds its checkpoints.
        ending: of the files that it reads without running code: torch's restricted format, or safetensors.
        options: its arguments besides those that every library takes.
    """

    classifier: str
    repository: str
    ending: str
    options: Mapping[str, Any]


LIBRARIES = {
    # By default TabICL holds all passes in memory at once.
    "tabicl": Library(
        "tabicl:TabICLClassifier", "jingang/TabICL", ".ckpt", {"batch_size": 1, "allow_auto_download": False}
    ),
    # Its limits concern the context, whose size the user sets.
    "tabpfn": Library(
        "tabpfn:TabPFNClassifier", "Prior-Labs/tabpfn_3_5", ".safetensors", {"ignore_pretraining_limits": True}
    ),
}


def checkpoint_file(library: str, name: str) -> Path:
    """Return the file of a checkpoint; it must be in the folder `checkpoints` of the cache, also for stored models.

    Raises:
        ModelError: if there is none, with the command that downloads it.
    """
    known = LIBRARIES[library]
    if not re.fullmatch(rf"\w[\w.-]*{re.escape(known.ending)}", name):
        raise ModelError(f"{library}: checkpoint: expected the name of a {known.ending} file, no folder; got {name!r}")
    file = cache_dir() / "checkpoints" / name
    if not file.is_file():
        command = f"hf download {known.repository} {name} --local-dir {file.parent}"
        raise ModelError(f"{library}: no checkpoint {file}; accept its licence, then download it with `{command}`")
    return file


@dataclass(eq=False, repr=False, kw_only=True)
class InContextClassifier(FromLogOdds, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A pretrained network that scores events given labelled ones (TabICL, arXiv:2502.05564; TabPFN, Nature 637, 319).

    The libraries take no sample weights. Training events are therefore drawn into the context in proportion to their
    weights, and the log-odds are corrected from the class sizes in the context to the class weights.

    Args:
        library: `tabicl` or `tabpfn`.
        checkpoint: name of the file with the network, in the folder `checkpoints` of the cache.
        context: number of training events that the network sees.
        batch: number of events scored at a time; memory grows with context plus batch.
        n_estimators: number of passes, with shuffled features and classes, that are averaged.
        device: `cpu`, `cuda` or `auto`; `cuda` falls back to `cpu` with a logged warning.
        n_jobs: threads of the processor.
        random_state: seed of the draw and of the passes.

    Attributes:
        classes_: the two labels.
        context_: (k, p) the drawn events, float32.
        labels_: (k,) their classes, 0 or 1.
        shift_: what is added to the network's log-odds.
        digest_: SHA-256 of the checkpoint.
    """

    library: str
    checkpoint: str
    context: int = 10_000
    batch: int = 4_096
    n_estimators: int = 4
    device: str = "cpu"
    n_jobs: int = 1
    random_state: int = 0

    def check(self) -> InContextClassifier:
        """Return the estimator itself, or raise a `ValueError` that names an impossible parameter."""
        for name, least in {"context": 2, "batch": 1, "n_estimators": 1}.items():
            if not is_count(getattr(self, name), least):
                raise ValueError(f"{name} must be a whole number of at least {least}, got {getattr(self, name)!r}")
        if self.device not in DEVICES:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")
        return self

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> InContextClassifier:
        """Draw the context from X (n, p), y (n,) of two classes and sample_weight (n,), not negative.

        Raises:
            ModelError: if the checkpoint is missing.
            ValueError: for malformed input.
        """
        X_, y_ = validate_data(self, X, y, dtype=np.float32, ensure_all_finite="allow-nan")
        self.classes_, coded = two_classes(y_)
        w = np.ones(coded.size) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self.digest_ = file_digest(checkpoint_file(self.library, self.checkpoint))
        rng = np.random.default_rng(self.random_state)
        rows = [drawn(w, coded == label, self.context, rng) for label in (0, 1)]
        self.context_ = X_[np.concatenate(rows)]
        self.labels_ = np.repeat([0, 1], [chosen.size for chosen in rows])
        background, signal = np.log([w[coded == label].sum() / rows[label].size for label in (0, 1)])
        self.shift_ = float(signal - background)
        return self

    @functools.cached_property
    def network(self) -> Any:
        """The library's classifier, fitted on the context.

        Raises:
            ModelError: if the checkpoint is missing, or is not the one of the fit.
        """
        file = checkpoint_file(self.library, self.checkpoint)
        if file_digest(file) != self.digest_:
            raise ModelError(f"{file}: not the checkpoint that the model was trained with; restore it, or run again")
        known = LIBRARIES[self.library]
        own = {"model_path": str(file), "n_estimators": self.n_estimators, "random_state": self.random_state}
        return resolve_name(known.classifier)(device=torch_device(self.device), **own, **known.options).fit(
            self.context_, self.labels_
        )

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the log-odds under the training weights, shape (n,); errors as for `network`."""
        from threadpoolctl import threadpool_limits

        check_is_fitted(self)
        X_ = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
        score = np.empty(X_.shape[0])
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            resolve_name(LIBRARIES[self.library].classifier)  # the limit reaches only libraries that are loaded
            with threadpool_limits(limits=self.n_jobs):
                for first in range(0, score.size, self.batch):
                    block = slice(first, first + self.batch)
                    score[block] = read_log_odds(self.network, X_[block]) + self.shift_
        return score

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the fitted state as arrays of numbers and a JSON object, see `from_state`."""
        fitted = {"classes": self.classes_.tolist(), "shift": self.shift_, "digest": self.digest_}
        return {"context": self.context_, "labels": self.labels_}, {"params": self.get_params(), **fitted}

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> InContextClassifier:
        """Make the fitted estimator that `state` described, or a `ValueError` if it is impossible; needs no library."""
        model = cls(**parameters["params"]).check()
        model.classes_, model.digest_ = np.asarray(parameters["classes"]), str(parameters["digest"])
        model.context_, model.labels_ = arrays["context"], arrays["labels"]
        model.shift_, model.n_features_in_ = float(parameters["shift"]), model.context_.shape[1]
        if model.library not in LIBRARIES or not np.isfinite(model.shift_) or model.classes_.size != 2:
            raise ValueError("its library, shift or classes are not valid")
        if model.context_.dtype != np.float32 or model.labels_.shape != model.context_.shape[:1]:
            raise ValueError("its arrays do not fit together")
        return model


def drawn(weight: NDArray[np.float64], members: NDArray[np.bool_], context: int, rng: np.random.Generator) -> Any:
    """Return ascending positions of the events that represent a class in the context.

    The class gets its share of the weights, at least one event and at most as many as it has. Systematic sampling
    takes each event as often as its share of the class, rounded up or down (W. G. Madow, Annals of Mathematical
    Statistics 20 (1949) 333).

    Args:
        weight: (n,) weights of all events, not negative, with a positive sum in each class.
        members: (n,) whether an event is of the class.
        context: number of events of both classes together.
        rng: random numbers.
    """
    rows = rng.permutation(np.flatnonzero(members))
    running = np.cumsum(weight[rows])
    number = min(max(round(context * running[-1] / weight.sum()), 1), rows.size)
    steps = (rng.random() + np.arange(number)) / number
    return np.sort(rows[np.searchsorted(running, steps * running[-1])])
