"""What lies in a bank: zarr version 3, float32, each chunk with its CRC-32C.

====================================  ==================================================================
object                                holds
====================================  ==================================================================
``zarr.json``                         a group; its attribute ``pyattr`` is the manifest
``seed-<s>/zarr.json``                an array (n_models, n_targets) float32, by ``c.<chunk>.0``
``seed-<s>/c.<chunk>.0``              rows ``chunk · chunk_rows`` and following, and 4 bytes CRC-32C
``failures/seed-<s>.<row>.json``      what a training that failed said; for people
``platforms/<crc32c>.json``           a platform class that a writer had
====================================  ==================================================================

Any zarr 3 reader opens it. A row that is not a number holds its `Status` in the low bits of each NaN
(0 is zarr's own fill value: no such chunk yet), so that one object says everything about its rows and
none can be read without the others.

The zarr package is not used to write: it takes 1.7 ms for a chunk of 64 rows and 1,000 targets where a
plain file takes 0.2 (part `writes` of `bench/bench_retraining.py`).
"""

from __future__ import annotations

import json
import math
from enum import IntEnum
from typing import Any, Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pyattr.errors import bad_value

__all__ = [
    "FORMAT",
    "Status",
    "array_record",
    "checksum",
    "decode_chunk",
    "encode_chunk",
    "group_record",
    "read_length",
    "read_manifest",
    "statuses",
    "to_json",
    "unusable_row",
]

FORMAT: Final = "pyattr-bank/1"
_NAN: Final = 0x7FC00000  # the quiet NaN that zarr's fill value "NaN" stands for
_CRC_BYTES: Final = 4

Float32 = NDArray[np.float32]


class Status(IntEnum):
    """What became of a training; fixed for ever."""

    TRAINED = 0
    DIVERGED = 1
    """It ended in NaN or infinity."""
    FAILED = 2
    """It raised an error."""
    DIED = 3
    """Its process ended, killed for its memory, say."""


def unusable_row(status: Status, n_targets: int) -> Float32:
    """Make the row of a training that gave no outputs.

    Returns
    -------
    (n_targets,) float32
        NaN, with the status in the low bits.
    """
    return np.full(n_targets, _NAN | status, np.uint32).view(np.float32)


def statuses(outputs: Float32) -> NDArray[np.uint8]:
    """Read what became of each row.

    Parameters
    ----------
    outputs : (n, n_targets) float32
        Rows of a bank.

    Returns
    -------
    (n,) uint8
        Of `Status`.
    """
    first = np.ascontiguousarray(outputs[:, 0])
    codes = first.view(np.uint32) & 0xFF
    return np.where(np.isnan(first), codes, Status.TRAINED).astype(np.uint8)


def checksum(data: bytes) -> int:
    """CRC-32C of some bytes."""
    return int(google_crc32c.value(data))


def encode_chunk(outputs: Float32) -> bytes:
    """Bytes of a chunk: float32 little-endian in C order, then their CRC-32C."""
    data = outputs.astype("<f4", copy=False).tobytes()
    return data + checksum(data).to_bytes(_CRC_BYTES, "little")


def decode_chunk(where: str, data: bytes, n_rows: int, n_targets: int) -> Float32:
    """Check and read a chunk.

    Parameters
    ----------
    where : str
        Its name, for the message.
    data : bytes
    n_rows, n_targets : int

    Returns
    -------
    (n_rows, n_targets) float32

    Raises
    ------
    ValueError
        If it has another size or checksum, or a row that no writer writes.
    """
    advice = "delete this one file and its models are trained again"
    size = n_rows * n_targets * 4 + _CRC_BYTES
    if len(data) != size:
        raise bad_value(where, f"{size} bytes", f"{len(data)}: it is damaged; {advice}")
    body, stored = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "little")
    computed = checksum(body)
    if computed != stored:
        got = f"{computed:08x}: it is damaged; {advice}"
        raise bad_value(where, f"bytes of CRC-32C {stored:08x}", got)
    outputs = np.frombuffer(body, "<f4").astype(np.float32, copy=False)
    outputs = outputs.reshape(n_rows, n_targets)
    check_rows(where, outputs)
    return outputs


def check_rows(where: str, outputs: Float32) -> None:
    """Refuse rows that are neither finite nor of one failed `Status` throughout.

    Raises
    ------
    ValueError
        If there is one; the message names it.
    """
    finite = np.isfinite(outputs).all(axis=1)
    if finite.all():
        return
    bits = outputs[~finite].view(np.uint32)
    known = np.isin(bits[:, 0], [_NAN | code for code in Status if code])
    bad = ~(known & (bits == bits[:, :1]).all(axis=1))
    if bad.any():
        row = int(np.flatnonzero(~finite)[int(bad.argmax())])
        raise bad_value(where, "finite rows, or whole rows of a failed status", f"row {row}")


def array_record(n_rows: int, n_targets: int, chunk_rows: int) -> bytes:
    """``zarr.json`` of an array of outputs."""
    return to_json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [n_rows, n_targets],
            "data_type": "float32",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [chunk_rows, n_targets]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": "NaN",
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "crc32c"},
            ],
            "attributes": {"nan_low_bits": {code.name.lower(): code.value for code in Status}},
            "dimension_names": ["model", "target"],
        }
    )


def read_length(data: bytes) -> int:
    """Rows of an array by its ``zarr.json``, 0 if that is damaged: it can be written anew."""
    try:
        return int(json.loads(data)["shape"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return 0


def group_record(manifest: dict[str, Any]) -> bytes:
    """``zarr.json`` of the bank."""
    attributes = {"pyattr": {"format": FORMAT, **manifest}}
    return to_json({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def read_manifest(where: str, data: bytes) -> dict[str, Any]:
    """Read the manifest from the bank's ``zarr.json``.

    Raises
    ------
    ValueError
        If it is not that of a bank.
    """
    try:
        manifest = dict(json.loads(data)["attributes"]["pyattr"])
    except (ValueError, KeyError, TypeError) as error:
        raise bad_value(
            where, "the manifest of a bank", f"{type(error).__name__}: {error}"
        ) from error
    if manifest.pop("format", None) != FORMAT:
        raise bad_value(where, f"format {FORMAT}", "another")
    return manifest


def to_json(value: object) -> bytes:
    """Canonical JSON: the same bytes for equal values."""
    text = json.dumps(_plain(value), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _plain(value: object) -> object:
    """Turn NumPy numbers and tuples into what JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value
