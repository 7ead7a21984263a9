"""Does an event file of the challenge's layout obey every rule that the real events obey?

`validate_file` and `validate_events` run the rules of `RULES` and report, per rule, how many rows were checked, how
many broke it and which ones came first. A rule is a frozen record; a rule added to `RULES` is a rule that is run,
listed and shown.
"""

from higgsbench.events.validate.rules import Rule
from higgsbench.events.validate.run import RULES, RuleResult, ValidationReport, validate_events, validate_file

__all__ = ["RULES", "Rule", "RuleResult", "ValidationReport", "validate_events", "validate_file"]
