"""Layer 5: one page with the figures of a stored run; it reads stored runs and trains nothing."""

from higgsbench.report.context import Context
from higgsbench.report.page import render_report

__all__ = ["Context", "render_report"]
