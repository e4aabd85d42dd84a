"""Training code that a user names; it runs as the user's own."""

from __future__ import annotations

import importlib
import re
from typing import Any, Final

from pyattr.errors import bad_value

__all__ = ["imported", "is_name"]

_NAME: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)


def is_name(text: object) -> bool:
    """Whether a text has the form ``module:name``."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def imported(what: str, source: str) -> Any:
    """Import what is called ``module:name``.

    Parameters
    ----------
    what : str
        Where the name stands, for the message.
    source : str

    Raises
    ------
    ValueError
        If it is no such name, or cannot be found.
    """
    if not is_name(source):
        raise bad_value(what, "'module:name'", repr(source))
    module, _, name = source.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        expected = "'module:name' that can be imported"
        raise bad_value(what, expected, f"{source} ({error})") from error
    return found
