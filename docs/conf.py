"""Settings of Sphinx; `nox -s docs` builds the site."""

from __future__ import annotations

import contextlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

sys.path.insert(0, str(Path(__file__).parents[1]))

import higgsbench
from docs import made

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "higgsbench"
version = release = higgsbench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["_build", "_made"]
myst_heading_anchors = 4

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


def plain_types(app: Sphinx, function: Any, bound: bool) -> None:
    """Show the types of arguments without the annotations that check them."""
    if inspect.isfunction(function):
        with contextlib.suppress(NameError):  # types that are imported for type checkers only
            function.__annotations__ = inspect.unwrap(function).__annotations__ = get_type_hints(function)


def setup(app: Sphinx) -> None:
    """Write the pages that come from the code before Sphinx looks for documents."""
    app.connect("autodoc-before-process-signature", plain_types)
    app.connect("config-inited", lambda *_: made.write())
    app.connect("source-read", lambda _, name, text: text.__setitem__(0, made.site_links(text[0], f"docs/{name}")))
