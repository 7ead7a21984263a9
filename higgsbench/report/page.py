"""A stored run as one self-contained page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from higgsbench._version import __version__
from higgsbench.errors import StoreError
from higgsbench.files import printable
from higgsbench.pages import with_error
from higgsbench.pages.drawing import Pictures, check_page, style, write_page
from higgsbench.pages.html import Definitions, Heading, Listing, Section, Table, page
from higgsbench.report.board import blend, costs, leaderboard, ranks, roc
from higgsbench.report.context import Context, find_run, read_run, reload_events
from higgsbench.report.events import selection, shifts
from higgsbench.report.importance import importance
from higgsbench.report.rows import calibration, curves, separation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.inference.shifts import Systematic
    from higgsbench.pages.html import Part
    from higgsbench.report.context import FittedModels

__all__ = ["render_report", "write_report"]


def write_report(
    run: str | Path,
    output: str | Path,
    *,
    figures: str | Path | None = None,
    data: str | Path | None = None,
    test: str | Path | None = None,
    models: FittedModels | None = None,
    all_rows: bool = False,
    systematics: Sequence[Systematic] = (),
    shift_events: str | Path | None = None,
) -> Path:
    """Write the page of a stored run, whole or not at all.

    Args:
        run: the run's folder, or a folder of runs, of which the one finished last is taken.
        output: the page.
        figures: folder that gets every figure as PNG and PDF too.
        data: event file, where it is no longer where the run's configuration says.
        test: file of held-out events, likewise.
        models: the run's stored models; without them the page leaves out what needs a model.
        all_rows: whether every row gets figures of its own, not only the best ones and the stack.
        systematics: systematic shifts whose effect on the selections is shown.
        shift_events: file of labelled events that are shifted, instead of the run's own.

    Returns:
        The run's folder.

    Raises:
        StoreError: if there is no finished run, or it is damaged.
        MissingExtraError: if the drawing libraries are not installed.
        DataError: if the page or a figure cannot be written, a named event file is not that of the run, or events
            cannot be shifted.
    """
    target = Path(output)
    check_page(target)
    folder = find_run(Path(run))
    text = render_report(
        folder,
        Pictures(None if figures is None else Path(figures)),
        data=None if data is None else Path(data),
        test=None if test is None else Path(test),
        models=models,
        all_rows=all_rows,
        systematics=systematics,
        shift_events=None if shift_events is None else Path(shift_events),
    )
    write_page(target, text)
    return folder


def render_report(
    folder: Path,
    pictures: Pictures,
    *,
    data: Path | None = None,
    test: Path | None = None,
    models: FittedModels | None = None,
    all_rows: bool = False,
    systematics: Sequence[Systematic] = (),
    shift_events: Path | None = None,
) -> str:
    """Return the page of a run as HTML.

    Args:
        folder: the run's folder.
        pictures: takes the figures.
        data: event file, instead of the configuration's.
        test: file of held-out events, instead of the configuration's.
        models: as in `write_report`, and so the other arguments.
        all_rows: whether every row gets figures of its own.
        systematics: systematic shifts.
        shift_events: file of labelled events that are shifted.

    Raises:
        StoreError: if the run is damaged, none of its rows has scores, or shifts are asked for and there are no events.
        DataError: if a named event file is not that of the run, or events cannot be shifted.
    """
    run = read_run(folder)
    if not run.rows:
        raise StoreError(f"{folder}: no row of this run has numbers; there is nothing to draw")
    context = Context(run, reload_events(run, data, test), pictures, models, all_rows, systematics, shift_events)
    with style():
        sections = [
            Section("leaderboard", "Leaderboard", leaderboard(context)),
            Section("ranks", "Average ranks", ranks(context)),
            Section("cut", "AMS against the cut", curves(context)),
            Section("scores", "Scores of signal and background", separation(context)),
            Section("roc", "ROC and background rejection", roc(context)),
            Section("calibration", "Calibration of the log-odds", calibration(context)),
            Section("selection", "Where the selected events lie", selection(context)),
            Section("shifts", "Systematic shifts", shifts(context)),
            Section("importance", "Importance of features", importance(context)),
            Section("blend", "The blend and its members", blend(context)),
            Section("cost", "Time against quality", costs(context)),
            Section("provenance", "Configuration, environment, data", provenance(context)),
        ]
    footer = (
        f"Made by higgsbench {__version__} report from the run {printable(folder.name)}. All numbers use evaluation "
        "weights, rescaled per class to the reference totals. Figures of the leaderboard at full precision: higgsbench "
        "leaderboard --format json."
    )
    return page(f"Report of {printable(folder.name)}", _lead(context), sections, footer)


def _lead(context: Context) -> list[str]:
    run = context.run
    best = run.rows[0]
    close = [r["name"] for r in run.rows if r.get("distinguishable") is False]
    text = f"Best by cross-validated AMS: {best['name']}, {with_error(best['ams_cv'], best['ams_cv_se'])}, weighted "
    text += f"AUC {with_error(best['auc'], best['auc_se'])}. "
    if close:
        text += f"{len(close)} of the {len(run.rows) - 1} other rows cannot be distinguished from it on these events "
        text += f"(paired difference under two standard errors): {', '.join(close)}."
    elif len(run.rows) > 1:
        text += "Every other row is worse by more than two paired standard errors."
    notes = [*run.notes, *context.events.notes]
    if run.table.comparability.get("simulated"):
        notes.insert(0, "These events come from the built-in toy simulation; their numbers are not those of real data.")
    return [printable(line) for line in (run.table.title, text, *notes)]


def provenance(context: Context) -> list[Part]:
    """Show data digests and what the rows share, versions and hardware, and the configuration to run again."""
    run = context.run
    shared = run.table.comparability
    rules = ", ".join(dict.fromkeys(_plain(r.get("cut_rule", "?")) for r in run.rows))
    entries = [("events", printable(run.table.source)), ("rule of the cut", rules)]
    entries += [(str(key).replace("_", " "), _plain(value)) for key, value in shared.items() if value is not None]
    packages = run.environment.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    machine = [(k, _plain(v)) for k, v in run.environment.items() if k != "packages"]
    out: list[Part] = [Heading("Data and definitions"), Definitions(entries)]
    if machine or versions:
        rows = [(printable(name), _plain(version)) for name, version in sorted(versions.items())]
        table = Table("Versions of packages", ["package", "version"], rows, text=(0, 1))
        out += [Heading("Environment"), Definitions(machine), table]
    if run.configuration:
        text = "\n".join(printable(line) for line in run.configuration.splitlines())
        out += [Heading("Configuration, presets and defaults written out"), Listing(text, "Configuration")]
    return out


def _plain(value: Any) -> str:
    return printable(f"{value:,.12g}" if isinstance(value, float) else value)
