"""Training code that a user names; it runs as the user's own."""

from __future__ import annotations

import importlib
import re
import traceback
from typing import Any, Final

from pyattr.errors import bad_value, did_you_mean

__all__ = ["imported", "is_name"]

_NAME: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)
_EXPECTED: Final = "'module:name' that can be imported"


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
        If it is no such name, cannot be found, or its module cannot be run.
    """
    if not is_name(source):
        raise bad_value(what, "'module:name'", repr(source))
    module, _, name = source.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # of the module, which may raise whatever it likes
        raise bad_value(what, _EXPECTED, f"{source!r} ({_said(error)})") from error
    for part in name.split("."):
        if not hasattr(found, part):
            near = did_you_mean(part, vars(found) if hasattr(found, "__dict__") else ())
            raise bad_value(what, _EXPECTED, f"{source!r} ({module} has no {part!r}{near})")
        found = getattr(found, part)
    return found


def _said(error: Exception) -> str:
    """What a module said when it was imported, and the line of it."""
    if isinstance(error, ModuleNotFoundError | SyntaxError):  # tell where themselves
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error}, in {last.filename}, line {last.lineno}"
