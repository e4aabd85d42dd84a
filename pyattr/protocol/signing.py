"""Signatures: Ed25519 keys in files, and messages in DSSE envelopes.

A *sealed* message is a message of `pyattr.protocol.encoding` whose header is replaced by a DSSE
envelope over that header:

====================  =======================================================================
8 bytes               ``SEALED_MAGIC``
4 bytes               length of the envelope in bytes, little-endian
envelope              JSON, at most ``ENVELOPE_CAP`` bytes
rest                  the message's tensors, untouched
====================  =======================================================================

The payload type ``application/vnd.pyattr.<tag>.v2+json`` is under the signature and names the kind
of message, which the header names again: a signature of one kind is of no use for another.
Tensors are covered too: a header that has some behind it states their digest, and no other may
stand there. As with messages, an envelope is
accepted only if encoding what it says gives the same bytes again. Ed25519 signatures are
deterministic (RFC 8032), so sealing a message twice gives the same bytes.

`cryptography` signs and checks, `securesystemslib` makes the envelopes; both belong to the extra
``session`` and nothing else imports them. `cryptography` refuses a signature with S + L in place of
S (RFC 8032, section 5.1.7) but takes public keys of small order, under which anyone can sign:
`PublicKey` refuses these.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pyattr.errors import ProtocolError, bad_value
from pyattr.optional import install_line
from pyattr.protocol.encoding import HEADER_CAP, MAGIC, join_frame, split_frame
from pyattr.protocol.hashing import labelled_hash, tensors_hash

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error as SecuresystemslibError
    from securesystemslib.signer import CryptoSigner, SSlibKey
except ImportError as error:
    raise ImportError(f"signatures need {error.name}: {install_line('session')}") from error

__all__ = [
    "ENVELOPE_CAP",
    "SEALED_MAGIC",
    "PublicKey",
    "SigningKey",
    "peek",
    "seal",
    "sealed_size",
    "unseal",
    "write_key_pair",
]

SEALED_MAGIC: Final = b"pyattr\x01\x01"

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

# msgspec writes the tag of a Struct first, so a header can be asked for its kind without parsing it.
_TAG: Final = re.compile(rb'\{"type":"([a-z][a-z0-9_-]{0,31})"[,}]')
_PAYLOAD_CHARS: Final = 4 * -(-HEADER_CAP // 3)


def _payload_type(tag: str) -> str:
    return f"application/vnd.pyattr.{tag}.v2+json"


class _Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyid: Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z", max_length=16)]
    sig: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9+/]{86}==\Z", max_length=88)]


class _Envelope(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """A DSSE envelope as JSON, every field bounded; `Envelope` gives it its meaning."""

    payload: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9+/]+={0,2}\Z", max_length=_PAYLOAD_CHARS)]
    payload_type: Annotated[str, Meta(max_length=len(_payload_type("t" * 32)))]
    signatures: Annotated[tuple[_Signature, ...], Meta(min_length=1, max_length=1)]


class _Bound(msgspec.Struct):
    """Of any header: the digest of what stands behind it."""

    tensors: Annotated[str, Meta(max_length=64)] = ""


_DECODER: Final = msgspec.json.Decoder(_Envelope)
_LARGEST: Final = _Envelope(
    payload="A" * _PAYLOAD_CHARS,
    payload_type=_payload_type("t" * 32),
    signatures=(_Signature(keyid="0" * 16, sig="A" * 86 + "=="),),
)
ENVELOPE_CAP: Final = len(msgspec.json.encode(_LARGEST))


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
        raw = private_key.public_key().public_bytes_raw()
        self.public: Final = PublicKey(raw.hex())
        self._signer: Final = CryptoSigner(private_key, _library_key(self.public))

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public})"

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    def save(self, path: Path) -> None:
        """Write the key, unencrypted, as PEM (PKCS 8) to a file that its owner alone may read.

        Raises
        ------
        FileExistsError
            If there is such a file.
        """
        _write_new(path, self._signer.private_bytes, 0o600)

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


def seal(data: bytes, key: SigningKey) -> bytes:
    """Sign a message.

    Parameters
    ----------
    data : bytes
        As `pyattr.protocol.encoding.encode` wrote it.
    key : SigningKey

    Returns
    -------
    bytes
        Always the same for the same message and key.

    Raises
    ------
    ValueError
        If `data` is no message.
    """
    try:
        header, tensors = split_frame(data, MAGIC, HEADER_CAP)
        envelope = Envelope(header, _payload_type(_tag(header)), {})
        _check_tensors(header, tensors)
    except ProtocolError as error:
        raise ValueError(f"data: {error}") from None
    envelope.sign(key._signer)
    return join_frame(SEALED_MAGIC, _spelling(envelope), tensors)


def unseal(sealed: bytes, public_key: PublicKey) -> bytes:
    """Check the signature of a message.

    Parameters
    ----------
    sealed : bytes
        As the peer sent it; `sealed_size` bounds it.
    public_key : PublicKey
        The only one whose signature counts.

    Returns
    -------
    bytes
        The message, for `pyattr.protocol.encoding.decode_header`, all of it from the owner of the key.

    Raises
    ------
    ProtocolError
        If the bytes are anything but what `seal` writes with the private half of this key.
    """
    spelling, tensors = split_frame(sealed, SEALED_MAGIC, ENVELOPE_CAP)
    envelope = _read_envelope(spelling)
    (keyid,) = envelope.signatures
    if keyid != public_key.keyid:
        raise ProtocolError(f"keyid: expected {public_key.keyid}, got {keyid}")
    try:
        envelope.verify([_library_key(public_key)], 1)
    except (SecuresystemslibError, ValueError):
        expected = f"one that the owner of key {keyid} made"
        raise ProtocolError(f"signature: expected {expected}, got another") from None
    expected = _payload_type(_tag(envelope.payload))
    if envelope.payload_type != expected:
        raise ProtocolError(f"payloadType: expected {expected}, got {envelope.payload_type!r}")
    _check_tensors(envelope.payload, tensors)
    return join_frame(MAGIC, envelope.payload, tensors)


def _check_tensors(header: bytes, tensors: memoryview) -> None:
    """Refuse what stands behind a header that does not state it."""
    try:
        stated = msgspec.json.decode(header, type=_Bound).tensors
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"header: expected one of a message, got {error}") from None
    found = tensors_hash(tensors) if len(tensors) else ""
    if stated != found:
        raise ProtocolError("tensors: expected those that the signed header states, got others")


def peek(sealed: bytes) -> bytes:
    """The message in an envelope, whoever signed it: to look at, not to rely on.

    Raises
    ------
    ProtocolError
        If it is no sealed message.
    """
    spelling, tensors = split_frame(sealed, SEALED_MAGIC, ENVELOPE_CAP)
    return join_frame(MAGIC, _read_envelope(spelling).payload, tensors)


def sealed_size(n_bytes: int) -> int:
    """Largest size in bytes of a sealed message.

    Parameters
    ----------
    n_bytes : int
        Largest size of the message itself: `pyattr.protocol.encoding.frame_size`.
    """
    return n_bytes - HEADER_CAP + ENVELOPE_CAP


def _library_key(key: PublicKey) -> SSlibKey:
    return SSlibKey(key.keyid, "ed25519", "ed25519", {"public": key.hex})


def _spelling(envelope: Envelope) -> bytes:
    """The one way to write an envelope: `_Envelope` fixes the order of the keys."""
    return msgspec.json.encode(msgspec.convert(envelope.to_dict(), _Envelope))


def _read_envelope(spelling: bytes) -> Envelope:
    try:
        envelope = Envelope.from_dict(msgspec.to_builtins(_DECODER.decode(spelling)))
        again = _spelling(envelope)
    except (SecuresystemslibError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"envelope: expected DSSE with one signature, got {error}") from None
    if again != spelling:
        raise ProtocolError("envelope: expected its canonical spelling, got another")
    if len(envelope.payload) > HEADER_CAP:  # base64 counts in threes
        got = len(envelope.payload)
        raise ProtocolError(f"payload: expected at most {HEADER_CAP} bytes, got {got}")
    return envelope


def _tag(header: bytes) -> str:
    """Kind of the message whose header this is."""
    found = _TAG.match(header)
    if found is None:
        raise ProtocolError("header: expected a message's, with its type first, got another")
    return found[1].decode()


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
