"""Speed and memory, compared with what a user would run otherwise; `python -m benchmarks.performance`."""
