"""What is wrong with a job file, in the words of this package: ``key: expected …, got …``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import inspect

from pyattr.errors import bad_value, did_you_mean, one_of
from pyattr.jobs.job import NOT_KEYS
from pyattr.jobs.places import value_at

__all__ = ["NONE", "misfit", "no_toml", "refuse_unknown", "shown", "unknown_key"]

NONE: Final = "none"  # what a key has that is not there
_MOST_SHOWN: Final = 80  # characters of a value
_WORDS: Final = (
    (inspect.BoolType, "true or false"),
    (inspect.IntType, "a whole number"),
    (inspect.FloatType, "a number"),
    (inspect.StrType, "text in quotation marks"),
    (inspect.ListType, "a list of numbers"),
    (inspect.StructType | inspect.DictType, "a table"),
)


def refuse_unknown(values: dict[str, Any], schema: type) -> None:
    """Refuse keys that a job has not, in whatever table.

    Raises
    ------
    ValueError
        If there is one; the message names those that there are.
    """
    _refuse_unknown("", values, _struct(schema, ()))


def _refuse_unknown(table: str, values: dict[str, Any], struct: inspect.StructType) -> None:
    kinds = {field.name: _plain(field.type) for field in struct.fields}
    for name, value in values.items():
        if name not in kinds or name in NOT_KEYS:
            raise unknown_key(f"{table}{name}", kinds)
        kind = kinds[name]
        if isinstance(kind, inspect.StructType) and isinstance(value, dict):
            _refuse_unknown(f"{table}{name}.", value, kind)


def misfit(error: msgspec.ValidationError, values: dict[str, Any], schema: type) -> ValueError:
    """Say what is missing or does not fit the types of a job, whose keys are all known.

    Parameters
    ----------
    error : msgspec.ValidationError
    values : dict
        What the file says.
    schema : type
        What it was to be made into.
    """
    said, _, place = str(error).partition(" - at `$")
    path = [name for name in re.sub(r"\[.*", "", place.strip("`")).split(".") if name]
    found = re.search(r"missing required field `(.*)`", said)
    if found is None:
        return _wrong_value(path, values, schema)
    (field,) = (f for f in _struct(schema, path).fields if f.name == found[1])
    return bad_value(".".join([*path, field.name]), _expected(field.type), NONE)


def unknown_key(key: str, known: Iterable[str]) -> ValueError:
    """Refuse a key, and name those that there are."""
    names = [name for name in known if name not in NOT_KEYS]
    expected = f"one of the keys {', '.join(names)}"
    return bad_value(key, expected, f"another{did_you_mean(key.rpartition('.')[2], names)}")


def no_toml(file: str, text: str, error: tomllib.TOMLDecodeError) -> ValueError:
    """Say where a file is not TOML, and show the line."""
    lines = text.split("\n")
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
    if found is None:
        said, number = (
            str(error).removesuffix(" (at end of document)"),
            text.rstrip().count("\n") + 1,
        )
        where = "at its end"
    else:
        said, number, where = found[1], int(found[2]), f"at column {found[3]}"
    line = lines[number - 1].strip()
    bare = said == "Invalid value" and re.fullmatch(r"[\w.-]+\s*=\s*[A-Za-z].*", line)
    hint = "; text stands in quotation marks" if bare else ""
    if said == "Cannot overwrite a value":
        said = "this key is there already"
    words = f"{shown(line)} ({said[:1].lower()}{said[1:]} {where}){hint}"
    return bad_value(f"{file}, line {number}", "TOML", words)


def shown(value: object) -> str:
    """A value as the file has it, or what kind of value it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "several tables"
    words = repr(value)
    return words if len(words) <= _MOST_SHOWN else f"{words[: _MOST_SHOWN - 1]}…"


def _wrong_value(path: list[str], values: dict[str, Any], schema: type) -> ValueError:
    (field,) = (f for f in _struct(schema, path[:-1]).fields if f.name == path[-1])
    value = value_at(values, path)
    kind = _plain(field.type)
    near = (
        did_you_mean(value, map(str, kind.values)) if isinstance(kind, inspect.LiteralType) else ""
    )
    return bad_value(".".join(path), _expected(field.type), shown(value) + near)


def _struct(schema: type, path: Iterable[str]) -> inspect.StructType:
    """The type of the table at a path."""
    found: Any = inspect.type_info(schema)
    for name in path:
        (found,) = (_plain(f.type) for f in found.fields if f.name == name)
    struct: inspect.StructType = found
    return struct


def _plain(kind: inspect.Type) -> inspect.Type:
    """A type without "or none", which no file can say."""
    kinds = _kinds(kind)
    return kinds[0] if len(kinds) == 1 else kind


def _kinds(kind: inspect.Type) -> list[inspect.Type]:
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [kind for kind in kinds if not isinstance(kind, inspect.NoneType)]


def _expected(kind: inspect.Type) -> str:
    """A type in words."""
    return " or ".join(map(_one_expected, _kinds(kind)))


def _one_expected(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.LiteralType):
        return one_of(kind.values)
    return next(words for types, words in _WORDS if isinstance(kind, types))
