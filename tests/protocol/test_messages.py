"""The messages against vectors that are never rewritten, and against random damage."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyattr.errors import ProtocolError
from pyattr.protocol.encoding import Tensor, decode_header, decode_tensors, encode, frame_size
from pyattr.protocol.hashing import commit, message_hash, session_id
from pyattr.protocol.messages import (
    DECODER,
    Challenge,
    ClusterParameters,
    Commitment,
    Decision,
    ResidualParameters,
    Response,
    response_layout,
)

VECTORS = Path(__file__).parent.parent / "vectors"
MESSAGES = json.loads((VECTORS / "protocol_messages.json").read_text())
DIGESTS = json.loads((VECTORS / "protocol_digests.json").read_text())
VALID = [vector for vector in MESSAGES if vector["valid"]]
INVALID = [vector for vector in MESSAGES if not vector["valid"]]

DIGEST = "0f" * 32


def layout_of(vector):
    return {name: (dtype, tuple(shape)) for name, (dtype, shape) in vector["tensors"].items()}


def decode(data, layout):
    message, rest = decode_header(data, DECODER, frame_size(layout))
    return message, decode_tensors(rest, layout)


def test_there_are_more_invalid_vectors_than_valid_ones():
    assert len(VALID) >= 8
    assert len(INVALID) >= len(VALID)


@pytest.mark.parametrize("vector", VALID, ids=lambda v: v["name"])
def test_valid_vectors_are_read_and_written_alike(vector):
    data = bytes.fromhex(vector["hex"])
    message, tensors = decode(data, layout_of(vector))
    assert encode(message, tensors) == data


def test_valid_vectors_say_what_they_should():
    read = {v["name"]: decode(bytes.fromhex(v["hex"]), layout_of(v)) for v in VALID}
    commitment, _ = read["commitment"]
    assert commitment == Commitment(nonce="11" * 32, n_train=3, n_targets=1, digest="22" * 32)
    challenge, _ = read["challenge, clusters"]
    assert challenge.design == ClusterParameters(n_clusters=2, n_leaves=1, rho=1.0)
    assert (challenge.p, challenge.clip, int(challenge.seed, 16)) == (0.5, 2.5, 2**64 - 1)
    _, tensors = read["response"]
    assert tensors["intercept"].data == b"\x00\x00\x00\x3f"
    assert tensors["outputs"].shape == (4, 1)
    assert read["decision"][0].outcome == "INCONCLUSIVE"


@pytest.mark.parametrize("vector", INVALID, ids=lambda v: v["name"])
def test_invalid_vectors_are_refused(vector):
    with pytest.raises(ProtocolError, match=r"expected .*, got"):
        decode(bytes.fromhex(vector["hex"]), layout_of(vector))


@pytest.mark.parametrize("case", DIGESTS, ids=lambda c: c["purpose"])
def test_digests_are_those_of_the_vectors(case):
    if case["purpose"] == "commitment":
        tensors = {
            name: Tensor(dtype, tuple(shape), bytes.fromhex(data))
            for name, (dtype, shape, data) in case["tensors"].items()
        }
        assert commit(bytes.fromhex(case["salt"]), tensors) == case["digest"]
    else:
        function = {"message": message_hash, "session": session_id}[case["purpose"]]
        assert function(*map(bytes.fromhex, case["parts"])) == case["digest"]


hex256 = st.binary(min_size=32, max_size=32).map(bytes.hex)
sizes = st.integers(1, 2**31)
clusters = st.builds(
    ClusterParameters,
    n_clusters=st.integers(2, 2**24),
    n_leaves=st.integers(1, 2**16),
    rho=st.floats(0.0, 1.0, exclude_min=True),
)
pairs = st.builds(
    ResidualParameters,
    n_pairs=st.integers(1, 2**28),
    rho=st.floats(0.0, 1.0 / 3.0, exclude_min=True),
)
messages = st.one_of(
    st.builds(Commitment, nonce=hex256, n_train=sizes, n_targets=sizes, digest=hex256),
    st.builds(
        Challenge,
        session=hex256,
        parent=hex256,
        nonce=hex256,
        design=clusters | pairs,
        p=st.floats(0.0, 1.0, exclude_min=True, exclude_max=True),
        clip=st.floats(2.0**-40, 2.0**40),
        seed=st.binary(min_size=8, max_size=8).map(bytes.hex),
    ),
    st.builds(Response, session=hex256, parent=hex256, salt=hex256),
    st.builds(
        Decision,
        session=hex256,
        parent=hex256,
        outcome=st.sampled_from(["ACCEPT", "ABORT", "INCONCLUSIVE"]),
    ),
)


@given(messages)
@settings(max_examples=300, deadline=None)
def test_every_message_comes_back_as_it_was(message):
    data = encode(message)
    again, tensors = decode(data, {})
    assert again == message
    assert tensors == {}
    assert encode(again) == data


@given(st.binary(max_size=200), st.integers(1, 3), st.integers(1, 4), st.integers(1, 2))
@settings(max_examples=100, deadline=None)
def test_every_response_comes_back_as_it_was(noise, n_outputs, n_train, n_targets):
    layout = response_layout(n_outputs, n_train, n_targets)
    filler = (noise + bytes(64)) * 2
    tensors = {
        name: Tensor(dtype, shape, filler[: 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)])
        for name, (dtype, shape) in layout.items()
    }
    message = Response(session=DIGEST, parent=DIGEST, salt=DIGEST)
    data = encode(message, tensors)
    assert decode(data, layout) == (message, tensors)
    assert len(data) <= frame_size(layout)


@st.composite
def damaged(draw):
    """A valid vector with bytes changed, cut out, repeated or put in."""
    vector = draw(st.sampled_from(VALID))
    data = bytearray.fromhex(vector["hex"])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["change", "cut", "insert", "repeat", "text"]))
        if kind == "change" and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        else:
            token = draw(
                st.sampled_from([b"NaN", b"1e999", b"[[[[", b"null", b'"', b"\\u0000", b"-0"])
            )
            data[at : at + len(token)] = token
    header = draw(st.booleans())
    if header and len(data) > 12:  # let the length be right, so that the damage gets further
        end = data.rfind(b"}", 0, 600) + 1
        data[8:12] = max(end - 12, 0).to_bytes(4, "little")
    return bytes(data), layout_of(vector)


@given(damaged())
@settings(max_examples=1500, deadline=None)
def test_damaged_messages_are_refused_or_mean_exactly_their_bytes(case):
    data, layout = case
    try:
        message, tensors = decode(data, layout)
    except ProtocolError:
        return
    assert encode(message, tensors) == data


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_noise_is_refused(data):
    header = b"pyattr\x00\x01" + len(data).to_bytes(4, "little") + data
    for candidate in (data, header):
        with pytest.raises(ProtocolError):
            decode(candidate, {})


def test_a_sender_cannot_write_what_no_receiver_would_accept():
    with pytest.raises(msgspec.ValidationError):
        encode(Decision(session=DIGEST, parent=DIGEST, outcome="OK"))
    with pytest.raises(msgspec.ValidationError):
        encode(Commitment(nonce=DIGEST, n_train=0, n_targets=1, digest=DIGEST))
    clusters = ClusterParameters(n_clusters=2, n_leaves=1, rho=float("nan"))
    with pytest.raises(ValueError, match="rho"):
        encode(
            Challenge(
                session=DIGEST,
                parent=DIGEST,
                nonce=DIGEST,
                design=clusters,
                p=0.5,
                clip=1.0,
                seed="0" * 16,
            )
        )


def test_a_challenge_is_below_1_kb_at_its_largest():
    challenge = Challenge(
        session=DIGEST,
        parent=DIGEST,
        nonce=DIGEST,
        design=ClusterParameters(n_clusters=2**24, n_leaves=2**16, rho=0.1234567890123456),
        p=0.1234567890123456,
        clip=1099511627775.1234,
        seed="f" * 16,
    )
    assert len(encode(challenge)) < 1024
