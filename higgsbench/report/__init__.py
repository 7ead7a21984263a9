"""Layer 5: one page with the figures of a stored run; it reads stored runs and trains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from higgsbench import __version__
from higgsbench.files import printable
from higgsbench.pages import Definitions, Heading, Listing, Section, Table, page, with_error
from higgsbench.pages.drawing import style
from higgsbench.report.board import blend, costs, leaderboard, ranks
from higgsbench.report.context import Context
from higgsbench.report.curve import learning_curve
from higgsbench.report.events import processes, selection, shifts
from higgsbench.report.importance import importance
from higgsbench.report.roc import roc
from higgsbench.report.rows import calibration, curves, separation

if TYPE_CHECKING:
    from higgsbench.pages import Part

__all__ = ["Context", "render_report"]


def render_report(context: Context) -> str:
    """Return the page of a run as HTML; a `StoreError` if it lacks rows or events, a `DataError` for bad shifts."""
    with style(context.style):
        sections = [
            Section("leaderboard", "Leaderboard", leaderboard(context)),
            Section("ranks", "Average ranks", ranks(context)),
            Section("cut", "AMS against the cut", curves(context)),
            Section("scores", "Scores of signal and background", separation(context)),
            Section("roc", "ROC, rejection, precision, confusion", roc(context)),
            Section("calibration", "Calibration of the log-odds", calibration(context)),
            Section("processes", "Processes in the selection", processes(context)),
            Section("selection", "Where the selected events lie", selection(context)),
            Section("shifts", "Systematic shifts", shifts(context)),
            Section("importance", "Importance of features", importance(context)),
            Section("blend", "The blend and its members", blend(context)),
            Section("learning", "Learning curve", learning_curve(context)),
            Section("cost", "Time against quality", costs(context)),
            Section("provenance", "Configuration, environment, data", provenance(context)),
        ]
    footer = (
        f"Made by higgsbench {__version__} report from the run {printable(context.run.name)}. All numbers use "
        "evaluation weights, rescaled per class to the reference totals. Figures of the leaderboard at full precision: "
        "higgsbench leaderboard --format json."
    )
    return page(f"Report of {printable(context.run.name)}", _lead(context), sections, footer)


def _lead(context: Context) -> list[str]:
    rows, best = context.rows, context.rows[0]
    close = [r["name"] for r in rows if r.get("distinguishable") is False]
    text = f"Best by cross-validated AMS: {best['name']}, {with_error(best['ams_cv'], best['ams_cv_se'])}, weighted "
    text += f"AUC {with_error(best['auc'], best['auc_se'])}. "
    if close:
        text += f"{len(close)} of the {len(rows) - 1} other rows cannot be distinguished from it on these events "
        text += f"(paired difference under two standard errors): {', '.join(close)}."
    elif len(rows) > 1:
        text += "Every other row is worse by more than two paired standard errors."
    notes = list(dict.fromkeys([*context.notes, *context.events.notes]))
    if context.run.comparability.get("simulated"):
        notes.insert(0, "These events come from the built-in toy simulation; their numbers are not those of real data.")
    return [printable(line) for line in (context.table.title, text, *notes)]


def provenance(context: Context) -> list[Part]:
    """Show data digests and what the rows share, versions and hardware, and the configuration to run again."""
    rules = ", ".join(dict.fromkeys(_plain(r.get("cut_rule", "?")) for r in context.rows))
    entries = [("source", printable(context.table.source)), ("cut rule", rules)]
    entries += [
        (str(key).replace("_", " "), _plain(value))
        for key, value in context.run.comparability.items()
        if value is not None
    ]
    environment: dict[str, Any] = context.optional("environment", {})
    packages = environment.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    machine = [(k, _plain(v)) for k, v in environment.items() if k != "packages"]
    out: list[Part] = [Heading("Data and definitions"), Definitions(entries)]
    if machine or versions:
        installed = ((name, version or "not installed") for name, version in sorted(versions.items()))
        rows = [(printable(name), _plain(version)) for name, version in installed]
        table = Table("Versions of packages", ["package", "version"], rows, text=(0, 1))
        out += [Heading("Environment"), Definitions(machine), table]
    configuration: str = context.optional("configuration", "")
    if configuration:
        text = "\n".join(printable(line) for line in configuration.splitlines())
        out += [Heading("Configuration with all presets and defaults"), Listing(text, "Configuration")]
    return out


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(f"{value:,.12g}" if isinstance(value, (int, float)) else value)
