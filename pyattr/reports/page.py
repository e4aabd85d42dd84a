"""Filling the templates: every page is the base template with the sections of its kind."""

from __future__ import annotations

from typing import Any, Final

import jinja2
from markupsafe import Markup

from pyattr.reports import words

__all__ = ["fill"]

_FILTERS: Final = {
    "digits": words.digits,
    "gap": words.gap,
    "large": words.large,
    "number": "{:g}".format,
    "plain": words.plain,
    "seconds": words.seconds,
    "signed": words.signed,
    "size": words.size,
    "words": words.in_words,
}


def fill(template: str, **context: Any) -> str:
    """Fill a template.

    Parameters
    ----------
    template : str
        Name of a file of this package.
    **context
        What it shows. Text is escaped; `markupsafe.Markup` is not.

    Returns
    -------
    str
        A whole HTML document that loads nothing from outside itself, and whose policy forbids it.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pyattr.reports", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    assert environment.loader is not None
    style, _, _ = environment.loader.get_source(environment, "style.css")
    environment.globals |= {
        "signs": words.SIGNS,
        "checks": words.CHECKS,
        "style": Markup(style),
    }
    return environment.get_template(template).render(**context)
