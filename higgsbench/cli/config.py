"""`higgsbench config`: list, copy and resolve configurations, and print their JSON schema."""

from __future__ import annotations

from pathlib import Path

import click

from higgsbench.cli import options as opt
from higgsbench.pages import Table


@opt.command("list", "config list")
@opt.format_option("table", "json")
def list_(form: str) -> None:
    """List the configurations that come with higgsbench; `higgsbench run NAME` runs one."""
    from higgsbench.config import description, named_configs
    from higgsbench.config.load import load_config

    found = [
        {"name": name, "description": description(file), "file": str(file),
         "models": [entry.row_label for entry in load_config(file).config.models]}
        for name, file in named_configs().items()
    ]  # fmt: skip
    if form == "json":
        opt.echo_json(found)
        return
    rows = [(str(one["name"]), str(one["description"]), ", ".join(one["models"])) for one in found]
    Table("", ("name", "what", "models"), rows, text=range(3)).show(opt.console(width=opt.WIDE))


@opt.command("copy", "config copy best -o mine.yaml")
@click.argument("name", shell_complete=opt.complete_names)
@click.option("--output", "-o", type=opt.FILE_NAME, help="File to write; NAME.yaml in this folder by default.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def copy(name: str, output: Path | None, force: bool) -> None:
    """Copy the configuration NAME, with its comments, to a file of your own."""
    from higgsbench.config import copy_config

    click.echo(f"Wrote {copy_config(name, output, replace=force)}")


@opt.command("show", "config show best --set folds=10")
@opt.config_argument
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one key, e.g. cut.rule=max.")
def show(config: Path, settings: tuple[str, ...]) -> None:
    """Print CONFIG with all defaults and presets filled in, as YAML that runs unchanged.

    This reads the names of columns but no events: values that depend on the events stay open.
    """
    from higgsbench.api.running import resolve_config
    from higgsbench.config.document import yaml_text

    click.echo(yaml_text(resolve_config(config, settings=settings)), nl=False)


@opt.command("schema", "config schema > higgsbench.schema.json")
def schema() -> None:
    """Print the JSON schema of configurations, so that editors can complete and check them.

    It lists the installed models and feature sets. Begin a configuration with the line
    `# yaml-language-server: $schema=higgsbench.schema.json`.
    """
    from higgsbench.config.model import RunConfig
    from higgsbench.config.section import json_schema

    opt.echo_json(json_schema(RunConfig))


@opt.command("init", "init ntuples/ggH_*.root ntuples/ttbar_*.root -o my.yaml")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--output", "-o", type=opt.FILE_NAME, help="File to write; standard output by default.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(files: tuple[str, ...], output: Path | None, force: bool) -> None:
    """Look at event FILES and write a configuration for them, with the reason for each guess.

    Give one file with a column of labels, or separate files of signal and background (CSV, gzipped CSV, Parquet, ROOT;
    `file.root:tree` names a tree). Files whose names differ only in a number are one sample.
    """
    from higgsbench.config import save_config
    from higgsbench.config.guess import suggest_config

    text = suggest_config(files)
    if output is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"Wrote {save_config(text.encode(), output, replace=force)}; run it with `higgsbench run {output}`")
