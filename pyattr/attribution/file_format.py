"""The file of an attribution: safetensors with a fixed set of names, types and shapes.

========================  =====  ====================  =========================================
tensor                    dtype  shape                 present
========================  =====  ====================  =========================================
``scores``                F32    (n_train, n_targets)  always
``intercept``             F32    (n_targets,)          always
``standard_error``        F32    (n_train, n_targets)  if the method gives one
``details.<name>``        F64    (n_targets,)          any number
========================  =====  ====================  =========================================

The metadata are exactly ``format``, ``version``, ``method`` and ``design``.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pyattr.errors import bad_value

__all__ = [
    "DETAIL",
    "Layout",
    "read_file",
    "read_tensors",
    "whole_file",
    "write_file",
    "write_tensors",
]

DETAIL: Final = re.compile(r"details\.([a-z][a-z0-9_]{0,63})")
_FORMAT: Final = {"format": "pyattr-attribution", "version": "1"}

Layout = Mapping[str, tuple[str, tuple[int, ...]]]


def write_file(
    path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file whole: a reader sees the old content or the new, never a part.

    Parameters
    ----------
    path : Path
        File to write or replace. The same arguments give the same bytes.
    tensors : mapping of str to array
    metadata : mapping of str to str
    """
    content = memoryview(save(dict(tensors), dict(metadata)))
    begin = 8 + int.from_bytes(content[:8], "little")
    with whole_file(path) as file:
        file.write(content[:8])
        file.write(_with_order(bytes(content[8:begin])))
        file.write(content[begin:])


def _with_order(header: bytes) -> bytes:
    """The header of a file with its metadata in order; safetensors has them in another every time."""
    entries = json.loads(header)
    entries["__metadata__"] = dict(sorted(entries["__metadata__"].items()))
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False)
    return text.encode().ljust(len(header))


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file so that it appears whole, or not at all if an error ends the writing.

    Parameters
    ----------
    path : Path
        File to write or replace.

    Yields
    ------
    binary file
    """
    # The temporary file lies beside the target: a rename is atomic on one file system only.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_file(
    path: Path, check: Callable[[str, Mapping[str, str], Layout], None]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read a safetensors file after checking its metadata and layout.

    Parameters
    ----------
    path : Path
        A file from anyone.
    check : callable
        Called with the file's name, its metadata, and dtype and shape of each tensor; raises
        ValueError.

    Returns
    -------
    tensors : dict of str to array
        The values are not looked at.
    metadata : dict of str to str

    Raises
    ------
    ValueError
        If it is not a safetensors file, or not one that `check` accepts.
    """
    name = str(path)
    try:
        with safe_open(name, framework="np") as file:
            metadata = dict(file.metadata() or {})
            parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - a handle, not a mapping
            layout = {k: (p.get_dtype(), tuple(p.get_shape())) for k, p in parts.items()}
            check(name, metadata, layout)
            return {key: file.get_tensor(key) for key in parts}, metadata
    except SafetensorError as error:
        raise bad_value(name, "a safetensors file", error) from error


def write_tensors(
    path: Path, tensors: Mapping[str, NDArray[np.floating[Any]]], method: str, design: str
) -> None:
    """Write the file of an attribution.

    Parameters
    ----------
    path : Path
        File to write or replace.
    tensors : mapping of str to array
        As in the table above.
    method, design : str
        Facts about the fit that go into the metadata.
    """
    write_file(path, tensors, {**_FORMAT, "method": method, "design": design})


def read_tensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read a file, refusing anything that `write_tensors` would not have written.

    Parameters
    ----------
    path : Path
        A file from anyone.

    Returns
    -------
    tensors : dict of str to array
        As in the table above; the values are not looked at.
    metadata : dict of str to str

    Raises
    ------
    ValueError
        If a tensor is missing, unknown, or of another type or shape.
    """
    return read_file(path, _check_layout)


def _check_layout(name: str, metadata: Mapping[str, str], layout: Layout) -> None:
    if set(metadata) != {*_FORMAT, "method", "design"} or not _FORMAT.items() <= metadata.items():
        raise bad_value(f"{name}: metadata", f"{_FORMAT}, method and design", dict(metadata))
    shape = layout.get("scores", ("", ()))[1]
    if len(shape) != 2 or "intercept" not in layout:
        raise bad_value(name, "tensors scores (n_train, n_targets) and intercept", sorted(layout))
    expected = {
        "scores": ("F32", shape),
        "standard_error": ("F32", shape),
        "intercept": ("F32", shape[1:]),
    }
    for key, found in layout.items():
        wanted = ("F64", shape[1:]) if DETAIL.fullmatch(key) else expected.get(key)
        if found != wanted:
            raise bad_value(f"{name}: tensor {key!r}", str(wanted or "no such tensor"), found)
