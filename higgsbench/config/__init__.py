"""Layer 3: the run configuration, from YAML to validated objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.registry import lazy_names

if TYPE_CHECKING:
    from higgsbench.config.load import LoadedConfig, load_config
    from higgsbench.config.model import CutConfig, DataConfig, FeatureConfig, ModelConfig, RunConfig, StackConfig

__all__ = ["CutConfig", "DataConfig", "FeatureConfig", "LoadedConfig", "ModelConfig", "RunConfig", "StackConfig",
           "load_config"]  # fmt: skip

_HOME = {
    "higgsbench.config.load": ("LoadedConfig", "load_config"),
    "higgsbench.config.model": ("CutConfig", "DataConfig", "FeatureConfig", "ModelConfig", "RunConfig", "StackConfig"),
}
# Imported on first use: the command line completes names of configurations without loading Polars and pydantic.
__getattr__ = lazy_names(__name__, _HOME)
