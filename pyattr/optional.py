"""Packages that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["optional_module"]


def optional_module(name: str, extra: str) -> Any:
    """Import a package that may be missing.

    Raises
    ------
    RuntimeError
        If it is; the message says which line installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(f"this needs {name}: pip install 'pyattr[{extra}]'") from error
