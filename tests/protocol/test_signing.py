"""Sealed messages and keys against forgers, careless files, and random bytes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pyattr.errors import ProtocolError
from pyattr.protocol.encoding import (
    HEADER_CAP,
    MAGIC,
    Tensor,
    encode,
    frame_size,
    join_frame,
    tensor_bytes,
)
from pyattr.protocol.hashing import tensors_hash
from pyattr.protocol.keys import PublicKey, SigningKey
from pyattr.protocol.messages import Challenge, Commitment, Decision, Outputs
from pyattr.protocol.signing import ENVELOPE_CAP, SEALED_MAGIC, seal, sealed_size, unseal
from pyattr.protocol.words import ClusterParameters

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
DIGEST = "0f" * 32
COMMITMENT = encode(Commitment(parent=DIGEST, randomness=DIGEST, digest=DIGEST))
DECISION = encode(Decision(session=DIGEST, parent=DIGEST, outcome="ACCEPT"))
CHALLENGE = encode(
    Challenge(  # every number as long as it can be
        session=DIGEST,
        parent=DIGEST,
        randomness=DIGEST,
        design=ClusterParameters(n_clusters=2**24, n_leaves=2**16, rho=0.12345678901234567),
        seed="f" * 16,
    )
)
TENSORS = {"outputs": Tensor("F32", (2, 1), bytes(range(8)))}
BOUND = tensors_hash(tensor_bytes(TENSORS))
WITH_TENSORS = encode(
    Outputs(session=DIGEST, parent=DIGEST, salt=DIGEST, leaf_key=DIGEST, tensors=BOUND), TENSORS
)
MESSAGES = [COMMITMENT, DECISION, CHALLENGE, WITH_TENSORS]

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493  # order of the base point


def envelope_of(sealed):
    length = int.from_bytes(sealed[8:12], "little")
    return json.loads(sealed[12 : 12 + length]), sealed[12 + length :]


def frame(envelope, rest=b""):
    """A sealed message with this envelope, spelled as canonically as it can be."""
    return join_frame(SEALED_MAGIC, json.dumps(envelope, separators=(",", ":")).encode(), rest)


def forge(payload, payload_type, key=KEY):
    """An envelope with a right signature over whatever payload and type: DSSE's own definition."""
    pae = b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type, len(payload), payload)
    signature = base64.b64encode(key.sign(pae)).decode()
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type.decode(),
        "signatures": [{"keyid": key.public.keyid, "sig": signature}],
    }


def is_refused(sealed, key=KEY.public):
    """Whether it is refused in the one way that is allowed."""
    try:
        unseal(sealed, key)
    except ProtocolError as error:
        return "expected" in str(error)
    return False


@pytest.mark.parametrize("data", MESSAGES)
def test_messages_come_back_and_are_sealed_alike_each_time(data):
    sealed = seal(data, KEY)
    assert unseal(sealed, KEY.public) == data
    assert seal(data, KEY) == sealed
    envelope, rest = envelope_of(sealed)
    assert len(sealed) <= sealed_size(frame_size({}) + len(rest))
    assert frame(envelope, rest) == sealed
    tag = json.loads(base64.b64decode(envelope["payload"]))["type"]
    expected = forge(base64.b64decode(envelope["payload"]), envelope["payloadType"].encode())
    assert envelope == expected
    assert envelope["payloadType"] == f"application/vnd.pyattr.{tag}.v2+json"


def test_a_sealed_challenge_stays_below_a_kilobyte():
    assert len(seal(CHALLENGE, KEY)) < 1000


def test_the_largest_header_is_sealed_within_the_cap():
    # The longest tag, and a header to the last byte.
    bound = tensors_hash(b"rest").encode()
    head = b'{"type":"' + b"t" * 32 + b'","tensors":"' + bound + b'","x":"'
    header = head + b"x" * (HEADER_CAP - len(head) - 2) + b'"}'
    data = join_frame(MAGIC, header, b"rest")
    sealed = seal(data, KEY)
    assert unseal(sealed, KEY.public) == data
    assert len(sealed) == sealed_size(len(data))
    # One byte more is refused on both sides, though base64 has room for it.
    longer = header[:-2] + b'x"}'
    with pytest.raises(ValueError, match=f"data: header: expected at most {HEADER_CAP} bytes"):
        seal(join_frame(MAGIC, longer), KEY)
    envelope = forge(longer, b"application/vnd.pyattr." + b"t" * 32 + b".v2+json")
    assert is_refused(frame(envelope))


def test_sizes_are_checked_before_anything_is_read():
    for claimed in (ENVELOPE_CAP + 1, 2**32 - 1):
        sealed = SEALED_MAGIC + claimed.to_bytes(4, "little") + b" " * (ENVELOPE_CAP + 1)
        with pytest.raises(ProtocolError, match=f"header: expected at most {ENVELOPE_CAP} bytes"):
            unseal(sealed, KEY.public)


@pytest.mark.parametrize("data", [b"", b"\x00" * 12, COMMITMENT[1:], seal(COMMITMENT, KEY)])
def test_only_messages_are_sealed(data):
    with pytest.raises(ValueError, match="data: message: expected the mark"):
        seal(data, KEY)


@pytest.mark.parametrize("header", [b"{}", b'{"a":1,"type":"decision"}', b'{"type":"a b"}', b""])
def test_only_headers_that_say_what_they_are_are_sealed(header):
    with pytest.raises(ValueError, match="data: header: expected a message's"):
        seal(join_frame(MAGIC, header), KEY)
    # and refused from whoever signed them
    assert is_refused(frame(forge(header, b"application/vnd.pyattr.decision.v2+json")))


def test_no_flipped_bit_passes():
    sealed = seal(DECISION, KEY)
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        assert is_refused(bytes(changed)), f"bit {bit}"


def test_tensors_are_signed_with_their_header():
    sealed = seal(WITH_TENSORS, KEY)
    assert unseal(sealed, KEY.public) == WITH_TENSORS
    changed = bytearray(sealed)
    changed[-1] ^= 1
    for other in (
        bytes(changed),
        sealed[:-1],
        sealed + b"x",
        sealed[: -len(tensor_bytes(TENSORS))],
    ):
        with pytest.raises(ProtocolError, match="tensors: expected those that the signed header"):
            unseal(other, KEY.public)
    with pytest.raises(ProtocolError, match="tensors: expected"):  # nothing stands behind others
        unseal(seal(DECISION, KEY) + b"x", KEY.public)
    with pytest.raises(ValueError, match="tensors: expected"):
        seal(WITH_TENSORS[:-1], KEY)


def test_a_signature_of_one_kind_of_message_is_of_no_use_for_another():
    commitment, _ = envelope_of(seal(COMMITMENT, KEY))
    decision, _ = envelope_of(seal(DECISION, KEY))
    for part in ("payload", "payloadType", "signatures"):
        assert is_refused(frame({**commitment, part: decision[part]}))
    # Even if the owner of the key signs a header under another type.
    payload = base64.b64decode(decision["payload"])
    for payload_type in (
        b"application/vnd.pyattr.commitment.v2+json",
        b"application/vnd.pyattr.decision.v1+json",
        b"application/vnd.pyattr.decision.v2+json ",
        b"application/vnd.in-toto+json",
        b"",
    ):
        assert is_refused(frame(forge(payload, payload_type)))
    assert not is_refused(frame(forge(payload, b"application/vnd.pyattr.decision.v2+json")))


def test_another_key_is_refused():
    sealed = seal(DECISION, OTHER)
    assert not is_refused(sealed, OTHER.public)
    with pytest.raises(ProtocolError, match=f"keyid: expected {KEY.public.keyid}"):
        unseal(sealed, KEY.public)
    envelope, _ = envelope_of(sealed)
    envelope["signatures"][0]["keyid"] = KEY.public.keyid
    with pytest.raises(ProtocolError, match="signature: expected one that the owner of key"):
        unseal(frame(envelope), KEY.public)


def test_exactly_one_signature():
    envelope, _ = envelope_of(seal(DECISION, KEY))
    signature = envelope["signatures"][0]
    other = envelope_of(seal(DECISION, OTHER))[0]["signatures"][0]
    assert not is_refused(frame({**envelope, "signatures": [signature]}))
    for signatures in ([], [signature, signature], [signature, other], [other, signature]):
        assert is_refused(frame({**envelope, "signatures": signatures}))


def test_other_spellings_are_refused():
    sealed = seal(DECISION, KEY)
    envelope, _ = envelope_of(sealed)
    text = sealed[12:].decode()
    signature = envelope["signatures"][0]
    spellings = [
        json.dumps(envelope),
        text + " ",
        text.replace("/", "\\/"),
        text[:-1] + ',"more":1}',
        text[:-1] + f',"payloadType":"{envelope["payloadType"]}"}}',
        json.dumps(dict(reversed(envelope.items())), separators=(",", ":")),
        text.replace('"}]', '","more":1}]'),
        text.replace(signature["keyid"], signature["keyid"].upper()),
    ]
    for spelling in spellings:
        assert spelling != text
        assert is_refused(join_frame(SEALED_MAGIC, spelling.encode()))


def test_other_base64_of_the_same_bytes_is_refused():
    # 64 bytes leave four bits of the last digit unused, and a decoder may well ignore them.
    envelope, _ = envelope_of(seal(DECISION, KEY))
    signature = envelope["signatures"][0]
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = signature["sig"][85]
    padded = signature["sig"][:85] + digits[digits.index(last) ^ 1] + "=="
    assert base64.b64decode(padded) == base64.b64decode(signature["sig"])
    variants = [padded, signature["sig"][:-2], signature["sig"] + "\n", signature["sig"][:-1]]
    urlsafe = signature["sig"].replace("+", "-").replace("/", "_")
    variants += [urlsafe] if urlsafe != signature["sig"] else []
    for sig in variants:
        assert is_refused(frame({**envelope, "signatures": [{**signature, "sig": sig}]}))
    for payload in (envelope["payload"] + "=", envelope["payload"] + "\n", "*", "=", ""):
        assert is_refused(frame({**envelope, "payload": payload}))


def test_s_plus_l_is_refused():
    # Both S and S + L satisfy the equation; RFC 8032 demands S < L, and the library checks that.
    envelope, _ = envelope_of(seal(DECISION, KEY))
    signature = envelope["signatures"][0]
    raw = base64.b64decode(signature["sig"])
    s = int.from_bytes(raw[32:], "little")
    assert s < L
    longer = base64.b64encode(raw[:32] + (s + L).to_bytes(32, "little")).decode()
    assert is_refused(frame({**envelope, "signatures": [{**signature, "sig": longer}]}))


def test_a_public_key_that_is_no_point_verifies_nothing():
    d = -121665 * pow(121666, -1, P) % P
    squares = ((y, (y * y - 1) * pow(d * y * y + 1, -1, P)) for y in range(2, 50))
    off_curve = next(y for y, square in squares if pow(square, (P - 1) // 2, P) != 1)  # no x
    key = PublicKey(off_curve.to_bytes(32, "little").hex())
    envelope, _ = envelope_of(seal(DECISION, KEY))
    envelope["signatures"][0]["keyid"] = key.keyid
    with pytest.raises(ProtocolError, match="signature: expected"):
        unseal(frame(envelope), key)


@given(st.binary(max_size=600))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused(noise):
    assert is_refused(noise)
    assert is_refused(join_frame(SEALED_MAGIC, noise))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
base64_like = st.text("ABab01+/=-_\n é", max_size=90)


@given(
    st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig", "more"]),
    json_values | base64_like,
)
@settings(max_examples=300, deadline=None)
def test_envelopes_with_any_other_field_are_refused(name, value):
    envelope, _ = envelope_of(seal(DECISION, KEY))
    target = envelope["signatures"][0] if name in ("keyid", "sig") else envelope
    if target.get(name) != value:
        target[name] = value
        assert is_refused(frame(envelope))


@given(st.binary(max_size=120), st.sampled_from(["decision", "x", "commitment"]))
@settings(max_examples=200, deadline=None)
def test_any_signed_payload_gives_a_message_or_is_refused(payload, tag):
    # The peer owns its key, so a right signature says nothing about the form.
    assert is_refused(frame(forge(payload, f"application/vnd.pyattr.{tag}.v2+json".encode())))


def test_deeply_nested_json_is_refused():
    for nested in (b"[" * 2000, b'{"payload":' * 180, b'{"payload":' + b"[" * 1500):
        assert is_refused(join_frame(SEALED_MAGIC, nested))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import pyattr, pyattr.protocol, sys; print('cryptography' in sys.modules)", "False"),
        (
            "import sys; sys.modules['securesystemslib'] = None\n"
            "try: import pyattr.protocol.signing\n"
            "except ImportError as error: print(error)",
            "pip install '.[session]'",
        ),
    ],
)
def test_the_libraries_are_loaded_only_where_they_are_needed(code, expected):
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert expected in ended.stdout
