"""How `fuzz_messages` changes an input so that it still gets far."""

from __future__ import annotations

import random
import re
from typing import Any

import atheris
import msgspec
import numpy as np
from fuzz_targets import CLIP, NAMES  # before pyattr: it instruments what it imports

from pyattr.protocol.hashing import tensors_hash

__all__ = ["mutate"]

HOSTILE = [
    None, True, 0, 1, -1, 2**31, 2**53 + 1, 2**64, 0.0, -0.0, 1.0, 5e-324, 1.7e308, "", "x" * 65, "0" * 16,
    "0" * 64, "\0", [], {}, [[]], "ACCEPT", "clusters", "pairs", {"a": 1}, {"b": 1, "a": 1},
]  # fmt: skip
FLOATS = np.array(
    [0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, 3e38, CLIP, -CLIP, 9e9, 1e18], "<f4"
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """All (container, key) of a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def _mutate_json(text: bytes, rng: random.Random) -> bytes:
    try:
        value = msgspec.json.decode(text)
        places = _places(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        places = []
    if not places or rng.random() < 0.3:
        return bytes(atheris.Mutate(text, len(text) + 16))
    container, key = rng.choice(places)
    if rng.random() < 0.1 and isinstance(container, dict):
        container[rng.choice(["extra", "", "a"])] = container.pop(key)
    elif rng.random() < 0.5 and isinstance(container[key], str) and container[key]:
        changed = atheris.Mutate(container[key].encode(), len(container[key]) + 4)
        container[key] = bytes(changed).decode("utf-8", "replace")
    else:
        container[key] = rng.choice(HOSTILE)
    return msgspec.json.encode(value)


def _mutate_floats(data: bytes, rng: random.Random) -> bytes:
    if len(data) < 4 or rng.random() < 0.3:
        return bytes(atheris.Mutate(data, len(data) + 16))
    at = 4 * rng.randrange(len(data) // 4)
    n = min(rng.choice([1, 1, 2, 16, 256]), (len(data) - at) // 4)
    return data[:at] + FLOATS[[rng.randrange(len(FLOATS))] * n].tobytes() + data[at + 4 * n :]


def _mutate_tensors(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file: its header, the terms in it, or what follows."""
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    if rest and rng.random() < 0.3:
        return data[: 8 + length] + _mutate_floats(rest, rng)
    terms = re.search(rb'"(\{(?:[^"\\]|\\.)*\})"', header)  # JSON inside of JSON
    if terms and rng.random() < 0.6:
        inner = _mutate_json(terms[1].replace(b'\\"', b'"'), rng)
        text = inner.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        header = header[: terms.start(1)] + text + header[terms.end(1) :]
    else:
        header = _mutate_json(header, rng)
    header = header.rstrip() + b" " * (-len(header.rstrip()) % 8)
    return len(header).to_bytes(8, "little") + header + rest


def _mutate_frame(body: bytes, rng: random.Random) -> bytes:
    """A message, plain or sealed."""
    length = int.from_bytes(body[8:12], "little")
    header, rest = body[12 : 12 + length], body[12 + length :]
    if rest and rng.random() < 0.5:
        changed = _mutate_floats(rest, rng)
        if rng.random() < 0.8:
            header = header.replace(tensors_hash(rest).encode(), tensors_hash(changed).encode())
        rest = changed
    else:
        header = _mutate_json(header, rng)
    return body[:8] + len(header).to_bytes(4, "little") + header + rest


def _mutate_lines(body: bytes, rng: random.Random) -> bytes:
    lines = body.split(b"\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.3:
        lines.insert(rng.randrange(len(lines)), lines[at])
    else:
        lines[at] = _mutate_json(lines[at], rng)
    return b"\n".join(lines)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an input so that it still gets far."""
    rng = random.Random(seed)
    if len(data) < 2 or rng.random() < 0.05:
        return bytes(atheris.Mutate(data, max_size))
    kind, body = data[:1], data[1:]
    name = NAMES[kind[0] % len(NAMES)]
    if name == "lies":
        body = _mutate_floats(body, rng)
    elif name in ("manifest", "opening", "private"):
        body = _mutate_json(body, rng)
    elif name in ("replay", "block") and len(body) > 8 and rng.random() < 0.9:
        body = _mutate_tensors(body, rng)
    elif name == "ledger" and rng.random() < 0.9:
        body = _mutate_lines(body, rng)
    elif len(body) >= 12 and rng.random() < 0.9:
        body = _mutate_frame(body, rng)
    else:
        body = bytes(atheris.Mutate(body, max_size - 1))
    return (kind + body)[:max_size]
