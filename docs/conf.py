"""Settings of Sphinx; `nox -s docs` builds the site."""

from __future__ import annotations

import builtins
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

sys.path.insert(0, str(Path(__file__).parents[1]))

import higgsbench
from docs import made

if TYPE_CHECKING:
    import click
    from sphinx.application import Sphinx

project = "higgsbench"
version = release = higgsbench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["_build", "_made"]
myst_heading_anchors = 4

smartquotes = False  # options begin with two hyphens
default_role = "code"  # docstrings and help texts mark code by single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
napoleon_use_ivar = True  # fields of dataclasses stand in the docstring of the class
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other libraries; links of the documents are still checked

html_theme = "furo"
html_title = f"higgsbench {version}"
html_extra_path = ["_made/gallery/example-report.html"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False


class Unloaded(dict[str, Any]):
    """Names of a module for annotations; a name that only type checkers import becomes a class of that name."""

    def __missing__(self, name: str) -> type:
        return type(name, (), {"__module__": "", "__class_getitem__": classmethod(lambda kind, _: kind)})


def plain_types(app: Sphinx, function: Any, bound: bool) -> None:
    """Show the types of arguments without the annotations that check them."""
    if inspect.isfunction(function):
        names = Unloaded(vars(builtins) | inspect.unwrap(function).__globals__)
        function.__annotations__ = inspect.unwrap(function).__annotations__ = get_type_hints(function, localns=names)


def tidy_options(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Show paths as on the command line."""
    lines[:] = [re.sub(r"PosixPath\((.*?)\)", r"\1", line) for line in lines]


def tidy_arguments(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Leave out the list of arguments, which says less than the usage."""
    lines.clear()


def tidy_example(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Show the example below a command as code."""
    text = re.sub(r"^Example: +", ".. rubric:: Example\n\n.. code-block:: console\n\n   ", "\n".join(lines).strip())
    lines[:] = [*text.splitlines(), ""]


def setup(app: Sphinx) -> None:
    """Write the pages that come from the code before Sphinx looks for documents."""
    app.connect("autodoc-before-process-signature", plain_types)
    app.connect("sphinx-click-process-options", tidy_options)
    app.connect("sphinx-click-process-arguments", tidy_arguments)
    app.connect("sphinx-click-process-epilog", tidy_example)
    app.connect("config-inited", lambda *_: made.write())
    app.connect("source-read", lambda _, name, text: text.__setitem__(0, made.site_links(text[0], f"docs/{name}")))
