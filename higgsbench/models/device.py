"""Which device a model is trained on: a graphics card where it is asked for and can be used, else the processor."""

from __future__ import annotations

import ctypes
import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from higgsbench.models.spec import ModelSpec

__all__ = ["cuda_devices", "on_device", "probe", "unusable"]

_PROBE_SECONDS = 120.0


def on_device(spec: ModelSpec, params: Mapping[str, Any], wanted: str | None) -> tuple[dict[str, Any], str]:
    """Settle a model's device before anything is trained, so that a unit's identity says where it was trained.

    Args:
        spec: the model.
        params: its parameters, perhaps with a device.
        wanted: device of the whole run, `cuda` or `cpu`; a model's own parameter comes first. None leaves it to that.

    Returns:
        The parameters, without a device where it is the processor that the model falls back to, and why it does; empty
        where it does not.
    """
    own = dict(params)
    given = [name for name in spec.devices if own.get(name) is not None]
    if not given:
        if wanted != "cuda":
            return own, ""
        if not spec.devices:
            return own, f"{spec.name}: knows no graphics card; trained on the processor"
        given = [spec.devices[0]]
        own[given[0]] = "cuda"
    values = {name: str(own[name]).lower() for name in given}
    if not any(value.split(":")[0] in ("cuda", "gpu", "auto") for value in values.values()):
        return own, ""
    automatic = "auto" in values.values()
    asked = {name: "cuda" if own[name] == "auto" else own[name] for name in given}
    reason = unusable(spec.name, json.dumps(asked, sort_keys=True))
    if not reason:
        return {**own, **asked}, ""
    for name in given:
        del own[name]
    return own, "" if automatic else f"{spec.name}: {reason}; trained on the processor"


@functools.cache
def unusable(model: str, settings: str) -> str:
    """Return why a built-in model cannot be trained with these settings of its device (JSON); empty where it can.

    A few events are fitted in a process of their own: what a driver leaves behind, prints or breaks stays there.
    """
    # OpenCL (LightGBM's `gpu`) needs no NVIDIA driver.
    if "cuda" in settings.lower() or model != "lightgbm":
        count = cuda_devices()
        if count == 0:
            return "no usable CUDA device"
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"from {__name__} import probe; probe()", model, settings],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"a trial fit failed: {type(error).__name__}"
    lines = done.stdout.strip().splitlines()
    answer = lines[-1] if lines else f"reason: the trial fit ended with code {done.returncode}"
    return answer.removeprefix("reason: ") if answer.startswith("reason: ") else ""


def cuda_devices() -> int:
    """Number of CUDA devices that the driver offers; 0 without a driver."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0


def probe() -> None:
    """Fit a few events with the model and settings on the command line; print `usable`, or `reason: ` and why not."""
    import warnings

    import numpy as np

    from higgsbench.models.registry import get_model
    from higgsbench.models.spec import BuildContext

    spec, settings = get_model(sys.argv[1]), json.loads(sys.argv[2])
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).astype(np.float32)
    y = (X[:, 0] + rng.normal(size=200) > 0.0).astype(np.int64)
    params = {**dict(spec.preset("quick").params), **dict.fromkeys(spec.rounds, 2), **settings}
    reason = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            spec.build(params, BuildContext(seed=0)).fit(X, y)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if not reason:  # XGBoost warns, and trains on the processor
        said = [str(warning.message) for warning in caught]
        reason = "no usable CUDA device" if any("GPU" in text for text in said) else ""
    sys.stdout.write(f"\nreason: {reason[:200]}\n" if reason else "\nusable\n")
