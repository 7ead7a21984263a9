"""A classifier that does what models should not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator


class Misbehaving(BaseEstimator):  # type: ignore[misc]
    """Does `mode` in fit, or in the scores; `times` limits how often, counted by files in `folder`."""

    def __init__(self, mode: str, times: int = 1_000, folder: str = "") -> None:
        self.mode, self.times, self.folder = mode, times, folder

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Misbehaving:
        if self.folder:
            done = len(list(Path(self.folder).iterdir()))
            if done >= self.times:
                return self
            (Path(self.folder) / f"{time.monotonic_ns()}").write_text(str(os.getpid()))
        if self.mode == "raise":
            raise RuntimeError("the model broke")
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "exit":
            os._exit(3)
        if self.mode == "abort":
            os.abort()
        if self.mode == "hang":
            time.sleep(600)
        if self.mode == "memory":
            hoard = [np.ones(1 << 22) for _ in range(400)]  # 13 GB, were it not stopped
            assert hoard
        if self.mode == "hoard":
            kept = vars(np).setdefault("kept_by_a_test", [])  # of a module that stays
            kept.append(np.ones(1 << 24))  # 134 MB
            time.sleep(0.2)  # that it is seen
        return self

    def decision_function(self, X: Any) -> Any:
        n = len(X)
        return {"nan": np.full(n, np.nan), "infinite": np.full(n, np.inf), "shape": np.zeros(n + 1)}.get(
            self.mode, np.zeros(n)
        )
