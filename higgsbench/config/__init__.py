"""The configurations that come with higgsbench: found by name, described by a comment, copied.

This file imports little, because the command line completes the names of configurations.
"""

from __future__ import annotations

from pathlib import Path

from higgsbench.errors import ConfigError, nearest_hint
from higgsbench.files import check_folder_of, told_plainly, write_bytes


def named_configs() -> dict[str, Path]:
    """Return the files by name; they lie inside an installed package and beside the package in a checkout."""
    package = Path(__file__).parents[1]
    folder = next(place for place in (package / "configs", package.parent / "configs") if place.is_dir())
    return dict(sorted((file.stem, file) for file in folder.glob("*.yaml")))


def config_file(choice: str | Path) -> Path:
    """Return the file of a configuration that comes with higgsbench, by its name, or the user's file.

    A name has no folder and no extension: `all` is the configuration of that name, `all.yaml` is the user's file.

    Raises:
        ConfigError: if there is neither, with the nearest name.
    """
    path, known = Path(choice).expanduser(), named_configs()
    if str(choice) in known:
        return known[str(choice)]
    try:
        path.stat()
    except FileNotFoundError as error:
        advice = ""
        if path.name == str(path) and not path.suffix:
            yours = path.with_suffix(".yaml")
            hint = f" (did you mean '{yours}'?)" if yours.exists() else _hint(path.name, known)
            advice = f", and no configuration of that name comes with higgsbench{hint}"
        elif path.stem in known:
            advice = f"; {path.stem!r}, without folder and extension, comes with higgsbench"
        raise ConfigError(f"{choice}: no such configuration file{advice}") from error
    except OSError:
        pass  # reading it gives the error
    return path


def _hint(name: str, known: dict[str, Path]) -> str:
    return nearest_hint(name, known, f"; choose from {', '.join(known)}")


def description(file: Path) -> str:
    """Return the first line of a configuration's first comment."""
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def copy_config(name: str, output: Path | None = None, *, replace: bool = False) -> Path:
    """Copy a configuration that comes with higgsbench, with its comments, and return the new file.

    Args:
        name: name of the configuration.
        output: file to write; by default NAME.yaml in the working folder.
        replace: whether an existing file is replaced.

    Raises:
        ConfigError: for an unknown name, or a file that exists or cannot be written.
    """
    known, target = named_configs(), output or Path(f"{name}.yaml")
    if name not in known:
        raise ConfigError(f"{name}: no configuration of that name comes with higgsbench{_hint(name, known)}")
    return save_config(known[name].read_bytes(), target, replace=replace)


def save_config(content: bytes, target: Path, *, replace: bool = False) -> Path:
    """Write the text of a configuration to a new file, and return it.

    Raises:
        ConfigError: if the file exists and `replace` is false, or it cannot be written.
    """
    check_folder_of(target, ConfigError)
    if target.is_dir() or (target.exists() and not replace):
        advice = "name a file" if target.is_dir() else "choose another name with --output, or replace it with --force"
        raise ConfigError(f"{target}: already exists; {advice}")
    with told_plainly(ConfigError, target):
        write_bytes(target, content)
    return target
