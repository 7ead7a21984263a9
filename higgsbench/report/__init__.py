"""Floor 5: one page with the pictures of a stored run; reads stored runs, trains nothing."""

from higgsbench.report.context import Context
from higgsbench.report.page import render_report

__all__ = ["Context", "render_report"]
