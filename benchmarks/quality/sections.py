"""The sections of results/reference/quality.md."""

from __future__ import annotations

from benchmarks._common import REFERENCE
from benchmarks.sections import SectionedReport

__all__ = ["write_section"]

_REPORT = SectionedReport(
    REFERENCE / "quality.md",
    "# Quality of the built-in recipes\n\nMade by `nox -s bench-quality`. Errors are paired standard errors.\n",
    {
        "ladder": "The ladder, on 15,000 real events",
        "stacking": "Against scikit-learn's StackingClassifier",
        "simulated": "The ladder and the learning curve, on simulated events",
    },
)

write_section = _REPORT.write
