"""Settings of a recipe, a job or a session as rows of a list: nested ones by their path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pyattr.reports.words import plain

__all__ = ["settings"]

_NOT_SHOWN: Final = frozenset({"crc32", "folder"})  # say nothing to people


def settings(words: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Names and values of all settings that have one.

    Parameters
    ----------
    words : mapping
        As JSON has it.
    path : str
        In front of each name.
    """
    rows: list[tuple[str, str]] = []
    for name, value in words.items():
        if name in _NOT_SHOWN or value is None or value == "":
            continue
        whole = f"{path}{name}"
        if isinstance(value, Mapping):
            rows += settings(value, "" if name == "recipe" else f"{whole}.")
        else:
            rows.append((whole, plain(value)))
    return rows
