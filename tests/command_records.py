"""What docs/commands.md says of the JSON of each command, and whether a record is as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def documented():
    """Keys of each schema, with their types, and whether they may be null or missing."""
    page = PAGE.read_text()
    tables = re.findall(r'"(pyattr-[a-z-]+/\d+)"[^|]*\n\n((?:\|.*\n)+)', page)
    schemas = {}
    for schema, table in tables:
        keys = schemas[schema] = {}
        for names, kind in re.findall(r"^\| (`.+?`) \| (\w+\??) \| .+ \|$", table, re.M):
            for name in re.findall(r"`(.+?)`", names):
                keys[name.strip("[]")] = (kind.rstrip("?"), kind.endswith("?"), name[0] == "[")
    return schemas


SCHEMAS = documented()


def check_record(text):
    """Read standard output and hold it against the page."""
    record = json.loads(text)
    assert text == json.dumps(record, indent=2) + "\n"
    keys = SCHEMAS[record.pop("schema")]
    needed = {name for name, (_, _, optional) in keys.items() if not optional}
    assert needed <= set(record) <= set(keys)
    for name, value in record.items():
        kind, nullable, _ = keys[name]
        if value is None:
            assert nullable, name
            continue
        assert isinstance(value, TYPES[kind]), (name, kind, value)
        assert isinstance(value, bool) == (kind == "boolean"), name
    return record
