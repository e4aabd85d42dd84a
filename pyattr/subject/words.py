"""Recipes: flat lists of plain settings that a manifest can carry and two parties can compare."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from pyattr.errors import bad_value

__all__ = ["Setting", "checked_recipe", "checked_text", "differing_words"]

Setting = bool | int | float | str

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MOST_SETTINGS: Final = 64
_MOST_TEXT: Final = 256
_LARGEST: Final = 2**53  # up to here all readers of JSON agree about integers


def checked_recipe(recipe: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return a recipe in the order of its keys, if a manifest can carry it.

    Raises
    ------
    ValueError
        If there are more than 64 settings, a name is not of lower-case letters, digits and underscores,
        or a value is not a plain bool, int of at most 2^53, finite float or text of at most 256
        characters.
    """
    if len(recipe) > _MOST_SETTINGS:
        raise bad_value("recipe", f"at most {_MOST_SETTINGS} settings", len(recipe))
    for name, value in recipe.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise bad_value("recipe", "names of lower-case letters, digits and _", repr(name))
        if type(value) is int and abs(value) > _LARGEST:
            raise bad_value(name, "an integer of at most 2^53", value)
        if type(value) is float and not math.isfinite(value):
            raise bad_value(name, "a finite number", value)
        if type(value) is str:
            checked_text(name, value)
        elif type(value) not in (bool, int, float):
            raise bad_value(name, "a bool, int, float or str of Python", type(value).__name__)
    return dict(sorted(recipe.items()))


def checked_text(name: str, text: str) -> str:
    """Return a text of at most 256 characters.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if not isinstance(text, str) or len(text) > _MOST_TEXT:
        raise bad_value(name, f"text of at most {_MOST_TEXT} characters", repr(text))
    return text


def differing_words(left: Mapping[str, Setting], right: Mapping[str, Setting]) -> list[str]:
    """Names, in order, under which two recipes do not have the same value of the same type.

    Examples
    --------
    >>> differing_words({"n_steps": 1, "l2": 1.0}, {"n_steps": True, "l2": 1.0, "seed": 0})
    ['n_steps', 'seed']
    """

    def word(recipe: Mapping[str, Setting], name: str) -> tuple[type, Setting | None]:
        value = recipe.get(name)  # 1, 1.0 and True compare as equal
        return type(value), value

    return [name for name in sorted({*left, *right}) if word(left, name) != word(right, name)]
