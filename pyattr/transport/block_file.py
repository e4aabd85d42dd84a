"""The file of a journal's block: safetensors with ``digest`` (32,) uint8 and ``outputs`` float32."""

from __future__ import annotations

from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pyattr.errors import ProtocolError
from pyattr.protocol.journal import Block

__all__ = ["decode_block", "encode_block"]

_DIGEST_BYTES: Final = 32


def encode_block(block: Block) -> bytes:
    """The content of a block's file."""
    digest = np.frombuffer(bytes.fromhex(block.digest), np.uint8)
    return save({"digest": digest, "outputs": np.ascontiguousarray(block.outputs, "<f4")})


def decode_block(name: str, content: bytes) -> Block:
    """The block in a file, of whoever wrote it.

    Parameters
    ----------
    name : str
        Of the file, for the message.
    content : bytes

    Raises
    ------
    ProtocolError
        If it is not what `encode_block` writes.
    """
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ProtocolError(f"{name}: expected a safetensors file, got {error}") from error
    layout = {key: (array.dtype, array.ndim) for key, array in tensors.items()}
    expected = {"digest": (np.dtype(np.uint8), 1), "outputs": (np.dtype(np.float32), 2)}
    if layout != expected or tensors["digest"].size != _DIGEST_BYTES:
        raise ProtocolError(f"{name}: expected a digest and outputs, got {layout}")
    return Block(tensors["digest"].tobytes().hex(), tensors["outputs"])
