"""Speed and memory, each against what a user would run otherwise; `python -m benchmarks.performance`."""
