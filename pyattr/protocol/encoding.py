"""Bytes on the wire: one strict frame, and one way to write each message.

A message is

====================  =======================================================================
8 bytes               ``MAGIC``: format and its version
4 bytes               length of the header in bytes, little-endian
header                JSON of one tagged msgspec Struct, at most ``HEADER_CAP`` bytes
rest                  tensors as one safetensors file, or nothing
====================  =======================================================================

Nothing is guessed and nothing is normalised: bytes are accepted only if encoding what they say gives
the same bytes again. So other spellings of a header (spaces, another order of keys, a key twice,
``0.50``) are refused, and two parties never disagree about what was hashed.

The tensors of a message are known to the receiver beforehand: their names, types and shapes follow
from what was agreed. The safetensors header is therefore compared with the only one that may be
there and never parsed; sizes are checked before anything is copied. `safetensors.serialize` is not
used since its argument is a raw memory address; ``tests/protocol/test_encoding.py`` shows that both
write the same bytes.

No numerics here: a tensor is a type, a shape and bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from pyattr.errors import ProtocolError

__all__ = [
    "HEADER_CAP",
    "Layout",
    "Tensor",
    "decode_header",
    "decode_tensors",
    "encode",
    "frame_size",
    "join_frame",
    "split_frame",
    "tensor_bytes",
]

MAGIC: Final = b"pyattr\x00\x02"
HEADER_CAP: Final = 2**14
_PREFIX: Final = len(MAGIC) + 4
_ITEM_BYTES: Final = {"F32": 4}

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name → (dtype, shape) of the tensors of a message; empty if it has none."""

_Message = TypeVar("_Message")


@dataclass(frozen=True)
class Tensor:
    """A tensor as bytes.

    Parameters
    ----------
    dtype : str
        As safetensors names it: "F32".
    shape : tuple of int
    data : bytes
        Little-endian, C order.

    Raises
    ------
    ValueError
        If the length of `data` does not follow from dtype and shape.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != _n_bytes(self.dtype, self.shape):
            expected = f"{_n_bytes(self.dtype, self.shape)} bytes"
            raise ValueError(f"data: expected {expected} for {self.shape}, got {len(self.data)}")


def _n_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return _ITEM_BYTES[dtype] * math.prod(shape)


def _tensor_header(layout: Layout) -> bytes:
    """Length and JSON header of the one safetensors file with this layout."""
    entries: dict[str, Any] = {}
    offset = 0
    for name in sorted(layout):  # safetensors sorts by alignment first: here there is one dtype
        dtype, shape = layout[name]
        end = offset + _n_bytes(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _tensor_size(layout: Layout) -> int:
    if not layout:
        return 0
    return len(_tensor_header(layout)) + sum(_n_bytes(*entry) for entry in layout.values())


def frame_size(layout: Layout) -> int:
    """Largest size in bytes of a message with these tensors: what a receiver needs to allow."""
    return _PREFIX + HEADER_CAP + _tensor_size(layout)


def encode(message: msgspec.Struct, tensors: Mapping[str, Tensor] | None = None) -> bytes:
    """Write a message.

    Parameters
    ----------
    message : Struct
        Of a tagged class, every field of which is bounded.
    tensors : mapping of str to Tensor, optional

    Raises
    ------
    ValueError
        If a field is out of its bounds, so that no receiver would accept the message.
    """
    header = msgspec.json.encode(message)
    # msgspec checks bounds when it decodes and not when a Struct is made; 1 for 1.0 it writes as it is.
    again = msgspec.json.encode(msgspec.json.decode(header, type=type(message)))
    if len(header) > HEADER_CAP or again != header:
        raise ValueError(f"message: expected one that can be sent, got {message!r}")
    return join_frame(MAGIC, header, tensor_bytes(tensors or {}))


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as they stand behind a header: one safetensors file, or nothing."""
    if not tensors:
        return b""
    layout = {name: (t.dtype, t.shape) for name, t in tensors.items()}
    return b"".join([_tensor_header(layout), *(tensors[name].data for name in sorted(tensors))])


def join_frame(magic: bytes, header: bytes, *rest: bytes | memoryview) -> bytes:
    """Write a frame: mark, length of the header, header, rest."""
    return b"".join((magic, len(header).to_bytes(4, "little"), header, *rest))


def split_frame(data: bytes, magic: bytes, header_cap: int) -> tuple[bytes, memoryview]:
    """Take a frame apart; nothing in it is read.

    Parameters
    ----------
    data : bytes
    magic : bytes
        The 8 bytes it must begin with.
    header_cap : int
        Largest length of the header in bytes.

    Returns
    -------
    header : bytes
    rest : memoryview
        Of `data`.

    Raises
    ------
    ProtocolError
        If the mark is another, or the header is too long or not all there.
    """
    if len(data) < _PREFIX or data[: len(magic)] != magic:
        raise ProtocolError(f"message: expected the mark {magic!r}, got others")
    length = int.from_bytes(data[len(magic) : _PREFIX], "little")
    if length > header_cap or length > len(data) - _PREFIX:
        raise ProtocolError(f"header: expected at most {header_cap} bytes, all there, got {length}")
    return data[_PREFIX : _PREFIX + length], memoryview(data)[_PREFIX + length :]


def decode_header(
    data: bytes, decoder: msgspec.json.Decoder[_Message], most_bytes: int
) -> tuple[_Message, memoryview]:
    """Read the header of a message.

    Parameters
    ----------
    data : bytes
        The whole message, as the peer sent it.
    decoder : Decoder
        Of the union of all messages.
    most_bytes : int
        Largest size that can be right; see `frame_size`.

    Returns
    -------
    message : Struct
    rest : memoryview
        For `decode_tensors`.

    Raises
    ------
    ProtocolError
        If the bytes are anything but what `encode` writes.
    """
    if len(data) > most_bytes:
        raise ProtocolError(f"message: expected at most {most_bytes} bytes, got {len(data)}")
    header, rest = split_frame(data, MAGIC, HEADER_CAP)
    try:
        message = decoder.decode(header)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"header: expected one known message, got {error}") from None
    if msgspec.json.encode(message) != header:
        raise ProtocolError("header: expected its canonical spelling, got another")
    return message, rest


def decode_tensors(rest: memoryview, layout: Layout) -> dict[str, Tensor]:
    """Read the tensors of a message.

    Parameters
    ----------
    rest : memoryview
        From `decode_header`.
    layout : mapping of str to (dtype, shape)
        What must be there, to the byte.

    Raises
    ------
    ProtocolError
        If anything else is there.
    """
    if len(rest) != _tensor_size(layout):
        expected = f"{_tensor_size(layout)} bytes"
        raise ProtocolError(f"tensors: expected {expected}, got {len(rest)}")
    if not layout:
        return {}
    header = _tensor_header(layout)
    if rest[: len(header)] != header:
        raise ProtocolError(f"tensors: expected {dict(layout)}, got another safetensors header")
    tensors, start = {}, len(header)
    for name in sorted(layout):
        dtype, shape = layout[name]
        end = start + _n_bytes(dtype, shape)
        tensors[name] = Tensor(dtype, shape, bytes(rest[start:end]))
        start = end
    return tensors
