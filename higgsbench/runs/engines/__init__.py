"""Where work units run: in this process, in processes beside it, or on a Dask cluster; the same units everywhere."""

from higgsbench.runs.engines.base import Engine, EngineError, EngineSettings, Lost

__all__ = ["Engine", "EngineError", "EngineSettings", "Lost"]
