"""Boosted trees in the formats of their own libraries: XGBoost UBJSON, LightGBM text, CatBoost cbm."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from higgsbench.models.storage.codec import ModelReader, ModelWriter, Node

__all__ = ["CatBoostCodec", "LightGBMCodec", "LoadedLightGBM", "XGBoostCodec"]


def _is(estimator: Any, package: str, name: str) -> bool:
    """Whether an estimator is of a class of a library, without importing the library."""
    own = type(estimator)
    return own.__name__ == name and own.__module__.split(".")[0] == package


class XGBoostCodec:
    """`XGBClassifier` as UBJSON, the library's own binary JSON."""

    kind = "xgboost"

    def handles(self, estimator: Any) -> bool:
        """Whether this is an `XGBClassifier`."""
        return _is(estimator, "xgboost", "XGBClassifier")

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the booster, and which value means missing."""
        missing = float(estimator.get_params()["missing"])
        content = bytes(estimator.get_booster().save_raw("ubj"))
        return {"part": writer.part(content, "ubj"), "missing": None if math.isnan(missing) else missing}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the booster."""
        from xgboost import XGBClassifier

        missing = math.nan if node["missing"] is None else float(node["missing"])
        estimator = XGBClassifier(n_jobs=reader.threads, missing=missing)
        estimator.load_model(bytearray(reader.part(node["part"])))
        return estimator


class _ThreadedBooster:
    """A LightGBM `Booster` that predicts with a number of threads of its own; one read from text takes all cores."""

    def __init__(self, booster: Any, threads: int) -> None:
        self._booster = booster
        self._threads = threads

    def predict(self, X: ArrayLike, **more: Any) -> Any:
        return self._booster.predict(X, num_threads=self._threads, **more)

    def model_to_string(self) -> str:
        return str(self._booster.model_to_string())


class LoadedLightGBM:
    """What predicts in place of an `LGBMClassifier`: the booster, and the probabilities that it would make of it.

    Args:
        booster: the library's `Booster`.
        threads: threads to predict with.
    """

    def __init__(self, booster: Any, threads: int) -> None:
        self.booster_ = _ThreadedBooster(booster, threads)
        self.classes_ = np.array([0, 1])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (n, 2) of both classes."""
        p = np.asarray(self.booster_.predict(X))
        return np.column_stack([1.0 - p, p])


class LightGBMCodec:
    """`LGBMClassifier` as the library's text, which carries every digit."""

    kind = "lightgbm"

    def handles(self, estimator: Any) -> bool:
        """Whether this is an `LGBMClassifier`, or what predicts of one."""
        return _is(estimator, "lightgbm", "LGBMClassifier") or type(estimator) is LoadedLightGBM

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the booster."""
        return {"part": writer.part(estimator.booster_.model_to_string().encode(), "txt")}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the booster."""
        from lightgbm import Booster

        from higgsbench.models.storage.lightgbm_text import checked_text

        text = reader.part(node["part"]).decode("utf-8")
        return LoadedLightGBM(Booster(model_str=checked_text(text)), reader.threads)


class CatBoostCodec:
    """`CatBoostClassifier` as cbm, the library's own binary format."""

    kind = "catboost"

    def handles(self, estimator: Any) -> bool:
        """Whether this is a `CatBoostClassifier`."""
        return _is(estimator, "catboost", "CatBoostClassifier")

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        """Store the model; the library writes files only."""
        with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
            file = Path(folder) / "model.cbm"
            estimator.save_model(str(file), format="cbm")
            return {"part": writer.part(file.read_bytes(), "cbm")}

    def load(self, node: Node, reader: ModelReader) -> Any:
        """Read the model."""
        from catboost import CatBoostClassifier

        content = reader.part(node["part"])
        if content[:4] != b"CBM1":
            raise StoreError("its CatBoost part is no cbm file")
        estimator = CatBoostClassifier()
        estimator.load_model(blob=content)
        return estimator
