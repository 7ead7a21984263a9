"""Layer 5.2: compares models of stored runs on the same events; imports no model and no training code."""

from higgsbench.compare.contest import Comparison, PairResult, compare
from higgsbench.compare.measure import Contender, load_contenders

__all__ = ["Comparison", "Contender", "PairResult", "compare", "load_contenders"]
