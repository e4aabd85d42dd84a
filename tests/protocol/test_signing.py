"""Sealed messages and keys against forgers, careless files, and random bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pyattr.errors import ProtocolError
from pyattr.protocol import signing
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
from pyattr.protocol.messages import Challenge, Commitment, Decision, Outputs
from pyattr.protocol.signing import (
    ENVELOPE_CAP,
    SEALED_MAGIC,
    PublicKey,
    SigningKey,
    seal,
    sealed_size,
    unseal,
    write_key_pair,
)
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
    signature = key._signer.sign(pae).signature
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type.decode(),
        "signatures": [
            {"keyid": key.public.keyid, "sig": base64.b64encode(bytes.fromhex(signature)).decode()}
        ],
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


def add(a, b):
    """Sum of two points of the curve of RFC 8032, section 5.1, from its definition."""
    d = -121665 * pow(121666, -1, P) % P
    product = d * a[0] * a[1] * b[0] * b[1] % P
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, P)
    return x % P, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def multiple(k, point):
    total = (0, 1)
    while k:
        total = add(total, point) if k & 1 else total
        point, k = add(point, point), k >> 1
    return total


def point_with(y):
    """A point with this y, if there is one."""
    d = -121665 * pow(121666, -1, P) % P
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    for x in (pow(square, (P + 3) // 8, P), pow(square, (P + 3) // 8, P) * pow(2, (P - 1) // 4, P)):
        if (x * x - square) % P == 0:
            return x % P, y
    return None


def small_order_keys():
    """All 32-byte strings that decode to points of small order, also with y written as y + P."""
    points = [multiple(L, point) for y in range(2, 150) if (point := point_with(y))]
    ys = {y for _, y in points}
    ys |= {y + P for y in ys if y + P < 2**255}
    return [y | sign << 255 for y in sorted(ys) for sign in (0, 1)]


def test_keys_of_small_order_are_refused():
    keys = [key.to_bytes(32, "little") for key in small_order_keys()]
    assert len(keys) == 14
    for key in keys:
        with pytest.raises(ValueError, match="hex: expected a key under which only its owner"):
            PublicKey(key.hex())


def test_the_library_takes_keys_of_small_order():
    # Why `PublicKey` refuses them: R = (0, 1) and S = 0 are a signature of anything.
    identity = Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little"))
    signature = (1).to_bytes(32, "little") + bytes(32)
    for message in (b"one thing", b"another"):
        identity.verify(signature, message)
    with pytest.raises(InvalidSignature):
        identity.verify(signature[:32] + (1).to_bytes(32, "little"), b"one thing")


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, KEY.public.hex.upper(), KEY.public.hex[:-1] + "\n", "g" * 64]
)
def test_public_keys_are_64_digits(text):
    with pytest.raises(ValueError, match="hex: expected 64 hexadecimal digits"):
        PublicKey(text)


def test_public_keys_with_another_spelling_of_y_are_refused():
    for y in (P, P + 3, 2**255 - 1):
        with pytest.raises(ValueError, match="hex: expected"):
            PublicKey(y.to_bytes(32, "little").hex())


def test_a_public_key_that_is_no_point_verifies_nothing():
    off_curve = next(y for y in range(2, 50) if point_with(y) is None)
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


def test_key_files_are_private_from_the_start(tmp_path):
    path = tmp_path / "key"
    seen = []
    real_open = os.open

    def watched(*args, **kwargs):
        descriptor = real_open(*args, **kwargs)
        seen.append(os.fstat(descriptor).st_mode & 0o777)
        return descriptor

    before = os.umask(0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(signing.os, "open", watched)
            public = write_key_pair(path)
    finally:
        os.umask(before)
    assert seen == [0o600, 0o644]
    assert path.stat().st_mode & 0o777 == 0o600
    key = SigningKey.load(path)
    assert key.public == public == PublicKey.load(tmp_path / "key.pub")
    assert (tmp_path / "key.pub").read_text() == f"{public.hex}\n"
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert unseal(seal(DECISION, key), public) == DECISION


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_keys_that_others_may_read_or_write_are_refused(tmp_path, mode):
    path = tmp_path / "key"
    KEY.save(path)
    path.chmod(mode)
    with pytest.raises(ValueError, match=rf"\(chmod 600\), got .*key with mode {mode:04o}"):
        SigningKey.load(path)
    path.chmod(0o400)
    assert SigningKey.load(path).public == KEY.public


def test_keys_are_never_overwritten(tmp_path):
    path, public_path = tmp_path / "key", tmp_path / "key.pub"
    write_key_pair(path)
    contents = path.read_bytes(), public_path.read_bytes()
    for write in (KEY.save, write_key_pair):
        with pytest.raises(FileExistsError):
            write(path)
    with pytest.raises(FileExistsError):
        KEY.public.save(public_path)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_key_pair(path)
    assert not path.exists()  # half a pair is none
    assert ((tmp_path / "elsewhere").read_bytes(), public_path.read_bytes()) == contents
    path.symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        KEY.save(path)


def test_a_key_that_could_not_be_written_whole_is_not_there(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(signing.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        KEY.save(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_files_with_something_else_are_refused(tmp_path):
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    curve = generate_private_key(SECP256R1())
    secret = Ed25519PrivateKey.generate()
    contents = [
        b"",
        b"\xff" * 100,
        KEY.public.hex.encode(),
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        curve.private_bytes(pem, pkcs8, NoEncryption()),
        secret.private_bytes(pem, pkcs8, BestAvailableEncryption(b"word")),
    ]
    path = tmp_path / "key"
    path.touch(0o600)
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="path: expected an Ed25519 private key"):
            SigningKey.load(path)
    contents[2] = KEY._signer.private_bytes
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"path: .* of a public key, got .*key$"):
            PublicKey.load(path)
    for load in (SigningKey.load, PublicKey.load):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none")


def test_a_key_shows_only_its_public_half():
    assert repr(KEY) == f"SigningKey(public={KEY.public})"
    assert (
        KEY.public.keyid
        == hashlib.sha256(
            b"".join(
                len(part).to_bytes(8, "little") + part
                for part in (b"pyattr/key/1", bytes.fromhex(KEY.public.hex))
            )
        ).hexdigest()[:16]
    )
    assert SigningKey.generate().public != SigningKey.generate().public


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
