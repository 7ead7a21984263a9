"""The `higgsbench` command: groups whose commands are imported only when they are called."""

from __future__ import annotations

import atexit
import codecs
import errno
import gc
import importlib
import os
import sys
from typing import Any

import click

from higgsbench import __version__
from higgsbench.errors import HiggsbenchError, nearest
from higgsbench.files import one_line

_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
"""System errors that are never bugs, such as a full or read-only disk or missing permissions."""

_PLAIN = {
    "±": "+-", "≈": "~", "Δ": "d", "³": "^3", "²": "^2", "µ": "u", "μ": "u", "…": "...", "×": "x", "·": ".",
    "≥": ">=", "≤": "<=", "→": "->", "✓": "x", "–": "-", "—": "-",
}  # fmt: skip
"""Replacements for characters that the output encoding does not have."""


class LazyGroup(click.Group):
    """A command group that stores each command's module and help line, and imports the module on use.

    `higgsbench --help` therefore imports neither Polars nor any model library.
    """

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a user needs them."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command."""
        if cmd_name not in self.lazy:
            return None
        module, _, name = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"higgsbench.cli.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command if there is no command of that name."""
        if args and args[0] not in self.lazy and not args[0].startswith("-"):
            close = nearest(args[0], self.lazy)
            hint = f" Did you mean {close!r}?" if close else f" Commands: {', '.join(self.lazy)}."
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


@click.group(
    cls=LazyGroup,
    lazy={
        "init": ("tables:init", "Look at event files and write a configuration for them."),
        "run": ("run:run", "Train, stack and choose cuts as configured; show the leaderboard."),
        "tune": ("run:tune", "Search a model's parameters in nested studies."),
        "learning-curve": ("run:learning_curve", "Train on growing numbers of events; do the curves still rise?"),
        "suite": ("run:suite", "Rank models over several data sets and seeds."),
        "leaderboard": ("tables:leaderboard", "Rank the rows of all stored runs."),
        "members": ("tables:members", "Show what each member contributes to the stack of a run."),
        "blend": ("scoring:blend", "Search the rows of several runs for the best blend."),
        "predict": ("scoring:predict", "Score new events with the stored models of a run."),
        "submit": ("scoring:submit", "Write a submission in the challenge's format."),
        "score": ("scoring:score", "Check a submission and score it against the truth."),
        "compare": ("tables:compare", "Compare models of stored runs on the same events."),
        "stats": ("tables:stats", "Expected significance and limits of stored models."),
        "interval": ("scoring:interval", "Measure 68% intervals of the signal strength."),
        "report": ("tables:report", "Draw a stored run as one page of figures and tables."),
        "export": ("main:export", "Export a stored run to other tools."),
        "cluster": ("tables:cluster", "Show the batch job that a cluster file asks for."),
        "models": ("tables:models", "List the registered models."),
        "features": ("tables:features", "List the feature sets, or the formulas of one."),
        "explore": ("scoring:explore", "Describe an event file before training."),
        "config": ("main:config", "List, copy and resolve configurations; print their JSON schema."),
        "data": ("main:data", "Download, simulate, check, describe and convert event files."),
        "environment": ("tables:environment", "Print versions and hardware for a bug report."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example:  higgsbench run quick --data training.csv",
)
@click.version_option(__version__, "-V", "--version", prog_name="higgsbench")
def cli() -> None:
    """Fair, weighted, significance-based benchmarking of classifiers for particle physics."""


data = LazyGroup(
    "data",
    lazy={
        "fetch": ("data:fetch", "Download a public data set into the cache and verify it."),
        "layouts": ("data:layouts", "List the built-in layouts and public data sets."),
        "info": ("data:info", "Show what an event file contains."),
        "validate": ("data:validate", "Check an event file against every rule of real events."),
        "convert": ("data:convert", "Convert between CSV, gzipped CSV, Parquet and ROOT."),
        "simulate": ("data:simulate", "Write events of the built-in toy simulation."),
        "shift": ("data:shift", "Apply systematic shifts to an event file."),
    },
    help="Download, simulate, check, describe and convert event files.",
    epilog="Example:  higgsbench data validate training.csv",
)
config = LazyGroup(
    "config",
    lazy={
        "list": ("tables:list_", "List the configurations that come with higgsbench."),
        "copy": ("tables:copy", "Copy one of them to your own file."),
        "show": ("tables:show", "Print a configuration with all defaults and presets filled in."),
        "schema": ("tables:schema", "Print the JSON schema of configurations, for editors."),
    },
    help="List, copy and resolve configurations; print their JSON schema.",
    epilog="Example:  higgsbench config copy best -o mine.yaml",
)
export = LazyGroup(
    "export",
    lazy={
        "cabinetry": ("scoring:cabinetry", "Write the regions of a run for cabinetry."),
        "mlflow": ("scoring:mlflow", "Log a stored run to MLflow's tracking."),
        "native": ("scoring:native", "Write boosted trees as files of their libraries."),
        "onnx": ("scoring:onnx", "Write one ONNX graph from features to log-odds."),
    },
    help="Export a stored run to other tools.",
    epilog="Example:  higgsbench export onnx results/all-1a2b3c4d -o model.onnx",
)


def main(args: list[str] | None = None) -> None:
    """Run the command line: exit code 0 done, 2 bad input (one line on standard error), 130 interrupted.

    A bug keeps its traceback and exits with 1.
    """
    atexit.register(gc.freeze)  # otherwise Python looks for cycles among all objects as it exits, for 0.2 s
    _open_streams()
    try:
        code = cli.main(args=args, prog_name="higgsbench", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # since click 8.2; its message is the whole help
            error.show()
        else:
            click.echo(f"Error: {one_line(_usage(error))}", err=True)
        code = 2
    except HiggsbenchError as error:
        click.echo(f"Error: {one_line(str(error))}", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = 130
    except BrokenPipeError:
        # The reader (head, less) closed the pipe; suppress a second error message at shutdown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {one_line(f'{place}the operating system reports: {error.strerror}')}", err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: click.ClickException) -> str:
    """Return what is wrong with the command line, and how to get help."""
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    return f"{message.rstrip().removesuffix('.')}; try '{context.command_path} --help'"


def _open_streams() -> None:
    """Make standard output and error usable: reopen them if closed, replace characters that they cannot encode."""
    codecs.register_error("higgsbench", _plain_signs)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  (lives as long as Python)
        elif not str(getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf"):
            stream.reconfigure(errors="higgsbench")


def _plain_signs(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded by letters that mean the same, or by a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign, "#" if "▀" <= sign <= "▟" else "?") for sign in signs), error.end


if __name__ == "__main__":
    main()
