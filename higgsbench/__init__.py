"""Fair, weighted, significance-based benchmarking and ensembling of classifiers for particle physics."""

__version__ = "0.1.0"
