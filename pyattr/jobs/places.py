"""Where in a TOML file a key stands, which the parser does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["line_of", "placed", "value_at"]

_ABSENT: Final = object()
_OTHER_NAMES: Final = {"device": "recipe.device"}  # what those call it who know no files


def line_of(text: str, key: str) -> int | None:
    r"""Find the line that a key begins in, or of the table around it where the key is not there.

    Whatever is written before a key is TOML by itself and lacks the key. That holds for no later line: there
    the key is known, or its value has begun and not ended. So the last line of which it holds is the key's,
    however keys, tables and values are written.

    Parameters
    ----------
    text : str
        A TOML file.
    key : str
        As ``models.count``.

    Returns
    -------
    int or None
        From 1; None for a key outside of all tables that is not there.

    Examples
    --------
    >>> text = "[data]\nname = 'digits'\n[recipe]\n"
    >>> line_of(text, "data.name"), line_of(text, "recipe.kind"), line_of(text, "bank")
    (2, 3, None)
    """
    path, values = key.split("."), tomllib.loads(text)
    while path and value_at(values, path) is _ABSENT:
        path.pop()
    lines = text.split("\n")
    for number in reversed(range(len(lines)) if path else ()):
        if path[-1] in lines[number] and _lacks("\n".join(lines[:number]), path):
            return number + 1
    return None


@contextmanager
def placed(file: str, text: str, tables: Collection[str] | None = None) -> Iterator[None]:
    """Put file and line in front of a `ValueError` whose message begins with a key.

    Parameters
    ----------
    file, text : str
        "" if there is no file.
    tables : collection of str, optional
        First names of keys: other messages stay as they are. None: all begin with a key.
    """
    try:
        yield
    except ValueError as error:
        key, _, told = str(error).partition(": ")
        key = _OTHER_NAMES.get(key, key)
        if tables is not None and key.partition(".")[0] not in tables:
            raise
        line = line_of(text, key)
        where = file if line is None else f"{file}, line {line}"
        raise ValueError(f"{where}: {key}: {told}" if where else f"{key}: {told}") from error


def value_at(values: Any, path: Sequence[str], default: Any = _ABSENT) -> Any:
    """The value at a path of keys."""
    for name in path:
        if not isinstance(values, dict) or name not in values:
            return default
        values = values[name]
    return values


def _lacks(text: str, path: Sequence[str]) -> bool:
    try:
        return value_at(tomllib.loads(text), path) is _ABSENT
    except tomllib.TOMLDecodeError:
        return False
