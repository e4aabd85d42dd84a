"""Signed messages: their headers in DSSE envelopes.

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

`securesystemslib` makes the envelopes and checks their signatures; it belongs to the extra ``session`` and
nothing else imports it. `cryptography`, which it asks, refuses a signature with S + L in place of S
(RFC 8032, section 5.1.7).
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pyattr.errors import ProtocolError
from pyattr.optional import install_line
from pyattr.protocol.encoding import HEADER_CAP, MAGIC, join_frame, split_frame
from pyattr.protocol.hashing import tensors_hash
from pyattr.protocol.keys import PublicKey, SigningKey

try:
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error as SecuresystemslibError
    from securesystemslib.signer import Signature, SSlibKey
except ImportError as error:
    raise ImportError(f"signatures need {error.name}: {install_line('session')}") from error

__all__ = [
    "ENVELOPE_CAP",
    "SEALED_MAGIC",
    "peek",
    "seal",
    "sealed_size",
    "unseal",
]

SEALED_MAGIC: Final = b"pyattr\x01\x01"

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
    signature = key.sign(envelope.pae()).hex()
    envelope.signatures[key.public.keyid] = Signature(key.public.keyid, signature)
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
