"""The private file of a side: the secret that everything random of that side follows from."""

from __future__ import annotations

from typing import Final

import msgspec

from pyattr.errors import ProtocolError
from pyattr.protocol.randomness import SECRET_BYTES, fresh_secret
from pyattr.transport.directory import SessionDirectory

__all__ = ["PRIVATE_CAP", "kept_secret", "secret_from"]

PRIVATE_CAP: Final = 1024


class _Private(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a side keeps to itself."""

    secret: str

    def __repr__(self) -> str:
        return "_Private()"


def kept_secret(directory: SessionDirectory) -> bytes:
    """The secret of a directory's side: on the disk before anything follows from it.

    Raises
    ------
    ProtocolError
        If the file holds none.
    PermissionError
        If others can read it.
    """
    try:
        content = directory.read_own_private(PRIVATE_CAP)
    except FileNotFoundError:
        secret = fresh_secret()
        directory.write_private(msgspec.json.encode(_Private(secret=secret.hex())))
        return secret
    return secret_from(content)


def secret_from(content: bytes) -> bytes:
    """The secret in the private file of a side.

    Raises
    ------
    ProtocolError
        If there is none.
    """
    try:
        secret = bytes.fromhex(msgspec.json.decode(content, type=_Private).secret)
    except (msgspec.MsgspecError, ValueError):
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ProtocolError(f"private file: expected a secret of {SECRET_BYTES} bytes, got others")
    return secret
