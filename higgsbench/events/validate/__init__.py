"""Does an event file of the challenge's layout obey every rule that the real events obey?

`validate_file` and `validate_events` run the rules of `RULES` and report, per rule, how many rows were checked, how
many broke it and which ones came first. A rule is a frozen record; to add a rule, add one record to `RULES`.
"""

from higgsbench.events.validate.rules import RULES
from higgsbench.events.validate.run import RuleResult, ValidationReport, validate_events, validate_file
from higgsbench.events.validate.table import Rule

__all__ = ["RULES", "Rule", "RuleResult", "ValidationReport", "validate_events", "validate_file"]
