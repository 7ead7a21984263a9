"""Where a run's numbers come from: configuration, environment, data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from higgsbench.leaderboard.columns import printable
from higgsbench.pages.html import definitions, preformatted, subheading, table

if TYPE_CHECKING:
    from higgsbench.report.sight import Sight

__all__ = ["provenance"]


def provenance(sight: Sight) -> list[str]:
    """Data digests and what rows share, the configuration as it can be run again, versions and hardware."""
    run = sight.run
    shared = run.table.comparability
    entries = [("events", printable(run.table.source)), ("rule of the cut", _cut_rules(sight))]
    entries += [(str(key).replace("_", " "), _plain(value)) for key, value in shared.items() if value is not None]
    packages = run.environment.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    machine = [(k, _plain(v)) for k, v in run.environment.items() if k != "packages"]
    out = [subheading("Data and definitions"), definitions(entries)]
    if machine or versions:
        out += [subheading("Environment"), definitions(machine)]
        rows = [(printable(name), _plain(version)) for name, version in sorted(versions.items())]
        out.append(table("Versions of packages", [("package", True), ("version", True)], rows))
    if run.configuration:
        text = "\n".join(printable(line) for line in run.configuration.splitlines())
        out += [subheading("Configuration, presets and defaults written out"), preformatted(text, "Configuration")]
    return out


def _cut_rules(sight: Sight) -> str:
    return ", ".join(dict.fromkeys(_plain(r.get("cut_rule", "?")) for r in sight.run.rows))


def _plain(value: Any) -> str:
    return printable(f"{value:,.12g}" if isinstance(value, float) else value)
