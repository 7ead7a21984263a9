"""Dask workers and schedulers killed at random moments of a run."""

from __future__ import annotations


def main(count: int) -> None:
    """Placeholder replaced below."""
