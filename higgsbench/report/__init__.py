"""Floor 5: one page with the pictures of a stored run; reads stored runs, trains nothing."""

from higgsbench.report.page import write_report

__all__ = ["write_report"]
