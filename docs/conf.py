"""How Sphinx builds the site: ``sphinx-build -W docs build/site``."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

import site_tables  # noqa: E402

import pyattr  # noqa: E402  of this tree

project = "pyattr"
author = copyright = "The pyattr founders"
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "pyattr"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = html_logo = "static/logo.svg"
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#00695c", "color-brand-content": "#00695c"},
    "dark_css_variables": {"color-brand-primary": "#4db6ac", "color-brand-content": "#4db6ac"},
}

myst_heading_anchors = 3
default_role = "py:obj"  # names in docstrings are links where they are public, else code

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # numpydoc sections say more: shapes, units
numpydoc_show_class_members = False
numpydoc_validation_checks = {"PR02"}  # a documented parameter exists

_TOP = "api/index"  # documents what `import pyattr` gives; other pages do not repeat it


def _skip_what_is_at_the_top(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    last = name.rpartition(".")[2]
    known = last in pyattr.__all__ and obj is getattr(pyattr, last)
    return True if known and app.env.current_document.docname != _TOP else None


def _public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Lead ``Attribution`` and ``pyattr.attribution.Attribution`` to ``pyattr.Attribution``."""
    target = node.get("reftarget", "")
    last = target.rpartition(".")[2]
    if node.get("refdomain") != "py" or last not in pyattr.__all__:
        return None
    if not (target.startswith("pyattr.") or last[0].isupper()) or target == f"pyattr.{last}":
        return None
    node["reftarget"] = f"pyattr.{last}"
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, "obj", node["reftarget"], node, content
    )


def _put_tables(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = site_tables.put_tables(source[0])


def setup(app: Sphinx) -> None:
    """Connect what the site needs beyond the extensions."""
    app.connect("autodoc-skip-member", _skip_what_is_at_the_top)
    app.connect("missing-reference", _public_name)
    app.connect("source-read", _put_tables)
