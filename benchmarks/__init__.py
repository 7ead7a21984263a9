"""Benchmarks: each is a script that prints figures and stores them in results/reference/."""
