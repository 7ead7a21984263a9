"""Layer 2: the run configuration, from YAML to validated objects."""

from higgsbench.config.load import LoadedConfig, load_config
from higgsbench.config.model import CutConfig, DataConfig, FeatureConfig, ModelConfig, RunConfig, StackConfig

__all__ = [
    "CutConfig",
    "DataConfig",
    "FeatureConfig",
    "LoadedConfig",
    "ModelConfig",
    "RunConfig",
    "StackConfig",
    "load_config",
]
