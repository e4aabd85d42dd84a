"""Ed25519 keys (RFC 8032), and the files that hold them.

`cryptography` signs; it belongs to the extra ``session`` and nothing else imports it. It takes public keys
of small order, under which anyone can sign: `PublicKey` refuses these.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyattr.errors import bad_value
from pyattr.optional import install_line
from pyattr.protocol.hashing import labelled_hash

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
except ImportError as error:
    raise ImportError(f"signatures need {error.name}: {install_line('session')}") from error

__all__ = ["PublicKey", "SigningKey", "write_key_pair"]

_KEY_FILE_CAP: Final = 4096
_FIELD: Final = 2**255 - 19
# y of the points whose order divides 8 (the signs of x left out), little-endian.
_SMALL_ORDER: Final = frozenset(
    int.from_bytes(bytes.fromhex(y), "little")
    for y in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key.

    Parameters
    ----------
    hex : str
        Its 32 bytes (RFC 8032, section 5.1.5), hexadecimal.

    Raises
    ------
    ValueError
        If these are no 64 hexadecimal digits in lower case, or y is written as a number above the
        field's, or the key is of small order, so that there are signatures that anyone can make.
    """

    hex: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.hex):
            raise bad_value("hex", "64 hexadecimal digits in lower case", repr(self.hex))
        y = int.from_bytes(bytes.fromhex(self.hex), "little") & (2**255 - 1)
        if y >= _FIELD or y in _SMALL_ORDER:
            raise bad_value("hex", "a key under which only its owner can sign", self.hex)

    @property
    def keyid(self) -> str:
        """Name of the key in envelopes: 16 hexadecimal digits of its digest."""
        return labelled_hash("key/1", bytes.fromhex(self.hex))[:16]

    def save(self, path: Path) -> None:
        """Write the key as one line of text.

        Raises
        ------
        FileExistsError
            If there is such a file.
        """
        _write_new(path, f"{self.hex}\n".encode(), 0o644)

    @classmethod
    def load(cls, path: Path) -> PublicKey:
        """Read a key that `save` wrote.

        Raises
        ------
        ValueError
            If the file holds something else.
        OSError
            If it cannot be read.
        """
        with path.open("rb") as file:
            content = file.read(_KEY_FILE_CAP)
        try:
            return cls(content.decode("ascii").strip())
        except ValueError:  # its text would show what is in the file, which may be the private key
            raise bad_value("path", "the file of a public key", path) from None


class SigningKey:
    """An Ed25519 private key. Nothing shows it but the file that `save` writes.

    Parameters
    ----------
    private_key : Ed25519PrivateKey
        Of `cryptography`.
    """

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self.public: Final = PublicKey(private_key.public_key().public_bytes_raw().hex())
        self._private: Final = private_key

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public})"

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the signature of `data`: always the same ones."""
        return self._private.sign(data)

    def save(self, path: Path) -> None:
        """Write the key, unencrypted, as PEM (PKCS 8) to a file that its owner alone may read.

        Raises
        ------
        FileExistsError
            If there is such a file.
        """
        pem = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write_new(path, pem, 0o600)

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a key.

        Raises
        ------
        ValueError
            If the file holds something else, or others than its owner may read or write it.
        OSError
            If it cannot be read.
        """
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                expected = "a private key that its owner alone may read (chmod 600)"
                raise bad_value("path", expected, f"{path} with mode {mode:04o}")
            content = file.read(_KEY_FILE_CAP)
        try:
            private_key = load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private_key = None
        if not isinstance(private_key, Ed25519PrivateKey):
            raise bad_value("path", "an Ed25519 private key as unencrypted PEM", path)
        return cls(private_key)


def write_key_pair(path: Path) -> PublicKey:
    """Make a key and write both halves: the private one to `path`, the public one to ``path.pub``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    PublicKey

    Raises
    ------
    FileExistsError
        If there is either file; then nothing is written.
    """
    key = SigningKey.generate()
    key.save(path)
    try:
        key.public.save(path.with_name(f"{path.name}.pub"))
    except BaseException:
        path.unlink()
        raise
    return key.public


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that was not there, with its mode from the start; all of it or nothing."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise
