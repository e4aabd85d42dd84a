"""Packages that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["install_line", "optional_module"]


def install_line(extra: str) -> str:
    """Say how to install an extra: from the source tree, as another project has the name on PyPI."""
    return f"pip install '.[{extra}]' in pyattr's source tree"


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
        raise RuntimeError(f"this needs {name}: {install_line(extra)}") from error
