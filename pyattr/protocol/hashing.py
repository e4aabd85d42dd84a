"""All hashing: SHA-256 with a label for each purpose, so that no digest serves two.

Every part that goes into a digest is preceded by its length in bytes; no two lists of parts give the
same input. Digests are lower-case hexadecimal of 64 digits.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from pyattr.protocol.encoding import Tensor

__all__ = [
    "SALT_BYTES",
    "commit",
    "equal",
    "keyed_hash",
    "keystream",
    "labelled_hash",
    "message_hash",
    "session_id",
    "tensors_hash",
    "tree_leaf",
    "tree_node",
]

SALT_BYTES: Final = 32


def _joined(label: str, parts: tuple[bytes, ...]) -> bytes:
    """Label and parts, each preceded by its length."""
    pieces = (f"pyattr/{label}".encode(), *parts)
    return b"".join(len(piece).to_bytes(8, "little") + piece for piece in pieces)


def labelled_hash(label: str, *parts: bytes | memoryview) -> str:
    """Digest of a list of byte strings for one purpose.

    Parameters
    ----------
    label : str
        The purpose; a digest made under one label is never valid under another.
    parts : bytes
    """
    digest = hashlib.sha256()
    for part in (f"pyattr/{label}".encode(), *parts):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def keystream(label: str, n_bytes: int, *parts: bytes) -> bytes:
    """Bytes that nobody can tell from random ones without knowing all parts: SHAKE-256.

    Parameters
    ----------
    label : str
        The purpose, as for `labelled_hash`.
    n_bytes : int
        Of the result; a shorter one is the beginning of a longer one.
    parts : bytes
        At least one of them secret, with 32 random bytes.
    """
    return hashlib.shake_256(_joined(label, parts)).digest(n_bytes)


def commit(salt: bytes, tensors: Mapping[str, Tensor]) -> str:
    """Commitment to tensors: binding by collision resistance, hiding by the salt.

    Names, types and shapes are part of it, so the same bytes in another shape are something else.

    Parameters
    ----------
    salt : bytes
        `SALT_BYTES` fresh random bytes.
    tensors : mapping of str to Tensor
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"salt: expected {SALT_BYTES} bytes, got {len(salt)}")
    parts = [salt]
    for name in sorted(tensors):
        tensor = tensors[name]
        shape = b"".join(size.to_bytes(8, "little") for size in tensor.shape)
        parts += [name.encode(), tensor.dtype.encode(), shape, tensor.data]
    return labelled_hash("commitment/1", *parts)


def message_hash(message: bytes) -> str:
    """Digest of a whole message, which the next message carries.

    Each message contains the digest of the one before, so one digest stands for the whole transcript.
    """
    return labelled_hash("message/2", message)


def tensors_hash(tensors: bytes | memoryview) -> str:
    """Digest of the tensors of a message, as they stand behind its header."""
    return labelled_hash("tensors/2", tensors)


def session_id(commitment: bytes) -> str:
    """Name of a session, from the randomness of both parties.

    Parameters
    ----------
    commitment : bytes
        The second message: it contains the prover's randomness, and the digest of the first message, which
        contains the verifier's.
    """
    return labelled_hash("session/2", commitment)


def keyed_hash(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104): 32 bytes that say nothing about one another without the key.

    Parameters
    ----------
    key : bytes
        For one purpose only: there is no label.
    data : bytes
    """
    return hmac.digest(key, data, "sha256")


def tree_leaf(*parts: bytes | memoryview) -> bytes:
    """Hash of a leaf of a Merkle tree: SHA-256 of 0x00 and the parts (RFC 9162, section 2.1.1).

    The parts are joined as they are, so only the last may have a length that is not fixed.
    """
    return hashlib.sha256(b"".join((b"\x00", *parts))).digest()


def tree_node(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node of a Merkle tree: SHA-256 of 0x01 and its children (RFC 9162).

    The first byte tells nodes from leaves, so no node can be shown as a leaf.
    """
    return hashlib.sha256(b"\x01" + left + right).digest()


def equal(left: str, right: str) -> bool:
    """Compare two digests in time that does not depend on where they differ."""
    return hmac.compare_digest(left.encode(), right.encode())
