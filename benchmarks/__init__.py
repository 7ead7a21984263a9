"""Benchmarks: each a script that prints figures and keeps them in results/reference/."""
