"""Damaged and hostile bytes: only an error of form may come of them, and little memory may go.

`bench/fuzz_messages.py` does the same for hours, guided by coverage.
"""

from __future__ import annotations

import copy
import functools
import math
import tracemalloc

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cube import smooth_function
from hypothesis import example, given, settings
from hypothesis import strategies as st
from two_parties import header

from pyattr.errors import ProtocolError
from pyattr.protocol import Prover, Subject, Verifier
from pyattr.protocol.encoding import (
    HEADER_CAP,
    MAGIC,
    Tensor,
    decode_header,
    decode_tensors,
    encode,
    frame_size,
    join_frame,
    tensor_bytes,
)
from pyattr.protocol.hashing import tensors_hash
from pyattr.protocol.keys import SigningKey
from pyattr.protocol.messages import DECODER, Outputs, outputs_layout
from pyattr.protocol.randomness import secret_of
from pyattr.protocol.session import State
from pyattr.protocol.signing import ENVELOPE_CAP, seal, unseal
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.verdict import Outcome

N_TRAIN, N_TARGETS = 12, 2
FUNCTION = smooth_function(N_TRAIN, n_targets=N_TARGETS)
DESIGN = ClusterDesign(24)
LAYOUT = outputs_layout(DESIGN.n_evaluations, N_TRAIN, N_TARGETS)
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
DIGEST = "5a" * 32
STATES = ["START", "INVITED", "COMMITTED", "CHALLENGED", "ANSWERED", "OPENED"]
# Beside a copy of the tensors. Text of 4 bytes a character, and the shortest keys, take most of it.
HEADER_MEMORY = 16 * HEADER_CAP


@functools.cache
def waiting():
    """Each state's side that waits, with the message that it waits for."""
    prover = Prover(FUNCTION, FUNCTION.best, secret=secret_of(1))
    verifier = Verifier(FUNCTION, design=DESIGN, clip=10.0, epsilon=0.2, secret=secret_of(2))
    found, queue = {}, [verifier.start()]
    while queue:
        data = queue.pop(0)
        side = verifier if header(data).sender == "prover" else prover
        found[side.state.name] = (copy.deepcopy(side), data)
        queue += side.receive(data)
    assert verifier.outcome is prover.outcome is Outcome.ACCEPT
    assert sorted(found) == sorted(STATES)
    return found


# --- damage ---------------------------------------------------------------------------------------

TOKENS = [
    b"NaN",
    b"1e999",
    b"-0.0",
    b"[[[[",
    b"null",
    b'"',
    b"\\u0000",
    b"{}",
    b"1.0",
    b"18446744073709551616",
]
VALUES = [
    None,
    True,
    -1,
    0,
    2**53 + 1,
    2**64,
    -0.0,
    0.5,
    1e308,
    "",
    "0" * 16,
    "0" * 64,
    "x" * 300,
    [],
    {},
]
FLOATS = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, 3e38, 9.75, -10.0], "<f4")


def places(value):
    """All (container, key) of a JSON value."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    return [(value, key) for key in keys] + [p for key in keys for p in places(value[key])]


def damage_bytes(draw, data):
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["change", "cut", "insert", "repeat", "token"]))
        if kind == "change" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        else:
            token = draw(st.sampled_from(TOKENS))
            data[at : at + len(token)] = token
    return bytes(data)


def damage_json(draw, text):
    value = msgspec.json.decode(text)
    container, key = draw(st.sampled_from(places(value)))
    if isinstance(container, dict) and draw(st.booleans()):
        container[draw(st.sampled_from(["extra", "", "type"]))] = container.pop(key)
    else:
        container[key] = draw(st.sampled_from(VALUES))
    return msgspec.json.encode(value)


def damage_floats(draw, rest):
    header_size = 8 + int.from_bytes(rest[:8], "little")
    words = np.frombuffer(rest[header_size:], "<f4").copy()
    at = draw(st.integers(0, len(words) - 1))
    words[at : at + draw(st.sampled_from([1, 2, 50]))] = draw(st.sampled_from(list(FLOATS)))
    return rest[:header_size] + words.tobytes()


def damage_frame(draw, data):
    """A frame in which one thing or another is not as it was; its length is mostly right."""
    kind = draw(st.sampled_from(["bytes", "header", "json", "floats"]))
    length = int.from_bytes(data[8:12], "little")
    head, rest = data[12 : 12 + length], data[12 + length :]
    if kind == "bytes":
        return damage_bytes(draw, data)
    if kind == "floats" and rest:
        changed = damage_floats(draw, rest)
        if draw(st.booleans()):  # by a peer that means it: its header states what is there
            head = head.replace(tensors_hash(rest).encode(), tensors_hash(changed).encode())
        return join_frame(data[:8], head, changed)
    return join_frame(data[:8], (damage_json if kind == "json" else damage_bytes)(draw, head), rest)


@st.composite
def damaged(draw, states=STATES):
    """State, its message damaged, and how it goes over the line."""
    state = draw(st.sampled_from(states))
    _, data = waiting()[state]
    route = draw(st.sampled_from(["plain", "sealed", "signed damage"]))
    if route == "sealed":
        return state, route, damage_frame(draw, seal(data, KEY))
    return state, route, damage_frame(draw, data)


def arrives(route, data):
    """What the damaged bytes are for a decoder, or `ProtocolError`."""
    if route == "sealed":
        return unseal(data, KEY.public)
    if route == "signed damage":  # of a peer that means it
        try:
            data = seal(data, KEY)
        except ValueError as error:
            raise ProtocolError(str(error)) from None
        return unseal(data, KEY.public)
    return data


@given(damaged())
@settings(max_examples=1500, deadline=None)
def test_damaged_messages_are_refused_or_mean_exactly_their_bytes(case):
    _, route, data = case
    try:
        data = arrives(route, data)
        message, rest = decode_header(data, DECODER, frame_size(LAYOUT))
        tensors = decode_tensors(rest, LAYOUT if isinstance(message, Outputs) else {})
    except ProtocolError:
        return
    assert encode(message, tensors) == data


@pytest.mark.parametrize("state", STATES)
def test_a_live_side_dies_of_damage_by_name(state):
    """`ProtocolError` and nothing else; or ABORT for a check that has a name."""

    @given(damaged(states=[state]))
    @settings(max_examples=250, deadline=None)
    def attack(case):
        _, route, data = case
        original, honest = waiting()[state]
        side = copy.deepcopy(original)
        try:
            data = arrives(route, data)
        except ProtocolError:
            return
        if data == honest:
            return
        try:
            answers = side.receive(data)
        except ProtocolError:
            assert (side.state, side.outcome) == (State.DEAD, Outcome.ABORT)
            if isinstance(side, Verifier):
                assert side.verdict.details["check"] == "form"
            with pytest.raises(RuntimeError, match="got dead"):
                side.receive(honest)
            return
        if state == "ANSWERED":
            assert header(answers[0]).outcome == side.outcome == "ABORT"
            found = side.verdict.details["check"]
            assert found in ("commitment", "outputs commitment", "scores", "outputs")
        else:
            # A digest, the prover's randomness and terms that nobody fixed are as good as others until they
            # are opened, and the outcome is the verifier's to say; a challenge follows from what was bound.
            assert state in ("START", "INVITED", "CHALLENGED", "OPENED")
            assert side.state is not State.DEAD

    attack()


@pytest.mark.parametrize("state", STATES)
@settings(max_examples=100, deadline=None)
@given(noise=st.binary(max_size=400))
def test_noise_is_refused(state, noise):
    for candidate in (noise, join_frame(MAGIC, noise)):
        side = copy.deepcopy(waiting()[state][0])
        with pytest.raises(ProtocolError):
            side.receive(candidate)
        with pytest.raises(ProtocolError):
            unseal(candidate, KEY.public)


@pytest.mark.parametrize("state", STATES)
def test_messages_of_other_states_are_refused(state):
    for other, (_, data) in waiting().items():
        if other != state:
            side = copy.deepcopy(waiting()[state][0])
            with pytest.raises(ProtocolError):
                side.receive(data)


def test_outputs_other_than_stated_are_refused():
    side, data = copy.deepcopy(waiting()["ANSWERED"])
    with pytest.raises(ProtocolError, match="tensors: expected those that the header states"):
        side.receive(data[:-1] + bytes([data[-1] ^ 1]))
    assert (side.state, side.verdict.details["check"]) == (State.DEAD, "form")


# --- memory ---------------------------------------------------------------------------------------


def peak(call):
    """Most bytes that were allocated at a time while a call was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def invitation(field, value):
    """A header with any bytes for one value of it."""
    text = waiting()["START"][1][12:]
    before, after = text.split(field.encode() + b":", 1)
    end = after.index(b"}" if after[:1] == b"{" else b",") + (after[:1] == b"{")
    return before + field.encode() + b":" + value + after[end:]


def filled(field, value_of):
    """The header whose value is as long as the cap lets it be."""
    room = HEADER_CAP - len(invitation(field, value_of(0)))
    size = room
    while len(invitation(field, value_of(size))) > HEADER_CAP:
        size = size * 15 // 16
    return invitation(field, value_of(size))


def _keys(value):
    return lambda n: b"{" + b",".join(b'"%d":%s' % (i, value) for i in range(n)) + b"}"


HOSTILE = {
    "nested lists": lambda: b"[" * HEADER_CAP,
    "nested objects": lambda: b'{"a":' * (HEADER_CAP // 5),
    "a list of objects": lambda: b"[" + b"{}," * 5000 + b"{}]",
    "nesting in a value": lambda: filled('"design"', lambda n: b"[" * n),
    "many keys": lambda: filled('"recipe"', _keys(b"0")),
    "many keys with floats": lambda: filled('"recipe"', _keys(b"1.5")),
    "many versions": lambda: filled('"versions"', _keys(b'""')),
    "a long key": lambda: filled('"recipe"', lambda n: b'{"' + "𝄞".encode() + b"x" * n + b'":1}'),
    "long text": lambda: filled('"output"', lambda n: b'"' + b"x" * n + b'"'),
    "long text of 4 bytes a character": lambda: filled(
        '"output"', lambda n: b'"' + "𝄞".encode() + b"x" * n + b'"'
    ),
    "escaped text": lambda: filled(
        '"output"', lambda n: b'"' + b"\\ud834\\udd1e" * (n // 12) + b'"'
    ),
    "a number of 16,000 digits": lambda: filled('"n_train"', lambda n: b"9" * n),
    "an exponent of 16,000 digits": lambda: filled('"epsilon"', lambda n: b"1e" + b"9" * n),
    "a float of 16,000 digits": lambda: filled('"epsilon"', lambda n: b"0." + b"1" * n),
    "a long unknown value": lambda: filled(
        '"output"', lambda n: b'"","z":[' + b"0," * (n // 2) + b"0]"
    ),
    "many errors": lambda: filled('"attempts"', lambda n: b"[" + b"null," * (n // 5) + b"null]"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_takes_a_small_multiple_of_its_cap(name):
    waiting()
    head = HOSTILE[name]()
    assert len(head) > 0.8 * HEADER_CAP
    frame = join_frame(MAGIC, head)
    assert peak(lambda: decode_header(frame, DECODER, frame_size({}))) <= HEADER_MEMORY
    side = copy.deepcopy(waiting()["START"][0])
    assert peak(lambda: side.receive(frame)) <= HEADER_MEMORY
    sealed = join_frame(b"pyattr\x01\x01", head)
    assert peak(lambda: unseal(sealed, KEY.public)) <= HEADER_MEMORY


def test_the_bound_is_not_one_that_nothing_could_break():
    """A reader that makes objects of whatever comes passes it."""
    head = b"[" + b"{}," * 5000 + b"{}]"
    tracemalloc.start()
    made = msgspec.json.decode(head)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(made) == 5001
    assert used > HEADER_MEMORY


@pytest.mark.parametrize("state", STATES)
def test_a_message_that_is_too_large_is_refused_unread(state):
    original, honest = waiting()[state]
    length = int.from_bytes(honest[8:12], "little")
    for data in (honest + bytes(2**24), honest[:8] + b"\xff" * 4 + honest[12:]):
        side = copy.deepcopy(original)
        assert peak(functools.partial(side.receive, data)) <= HEADER_MEMORY + len(honest)
    sealed = seal(honest, KEY)
    for data in (
        sealed[:12] + b"\0" + sealed[13:] + bytes(2**24),
        sealed[:8] + b"\xff" * 4 + sealed[12:],
    ):
        assert peak(functools.partial(unseal, data, KEY.public)) <= 16 * ENVELOPE_CAP
    assert length < HEADER_CAP


def outputs_frame(changed=lambda rest: rest):
    data = waiting()["ANSWERED"][1]
    end = 12 + int.from_bytes(data[8:12], "little")
    return data[:end] + changed(data[end:])


@pytest.mark.parametrize("size", [0, 2**31, 2**62, 2**63 - 1, 2**64 - 1])
def test_sizes_that_tensors_claim_allocate_nothing(size):
    def claimed(rest):
        return size.to_bytes(8, "little") + rest[8:]

    def shaped(rest):
        length = int.from_bytes(rest[:8], "little")
        text = rest[8 : 8 + length].rstrip().replace(b"[12,2]", b"[%d,2]" % size)
        return rest[:8] + text.ljust(length)[:length] + rest[8 + length :]

    for change in (claimed, shaped):
        side = copy.deepcopy(waiting()["ANSWERED"][0])
        assert peak(functools.partial(side.receive, outputs_frame(change))) <= HEADER_MEMORY


@example(n_clusters=2**24, n_leaves=2**16)
@example(n_clusters=2**19 + 1, n_leaves=1)
@given(n_clusters=st.integers(2**19 + 1, 2**24), n_leaves=st.integers(1, 2**16))
@settings(max_examples=20, deadline=None)
def test_a_challenge_that_is_too_large_allocates_nothing(n_clusters, n_leaves):
    side, data = copy.deepcopy(waiting()["START"])
    stated = b'"n_clusters":%d,"n_leaves":%d'
    text = data[12:].replace(stated % (DESIGN.n_clusters, 1), stated % (n_clusters, n_leaves))
    assert text != data[12:]
    invited = join_frame(MAGIC, text)
    assert peak(lambda: side.receive(invited)) <= HEADER_MEMORY
    side, data = copy.deepcopy(waiting()["COMMITTED"])
    challenge = header(data)
    design = msgspec.structs.replace(challenge.design, n_clusters=n_clusters, n_leaves=n_leaves)
    asked = encode(msgspec.structs.replace(challenge, design=design))
    assert peak(lambda: side.receive(asked)) <= HEADER_MEMORY


def test_tensors_are_copied_once():
    layout = outputs_layout(10_000, 100, 100)
    tensors = {
        name: Tensor(dtype, shape, bytes(4 * math.prod(shape)))
        for name, (dtype, shape) in layout.items()
    }
    stated = tensors_hash(tensor_bytes(tensors))
    message = Outputs(session=DIGEST, parent=DIGEST, salt=DIGEST, leaf_key=DIGEST, tensors=stated)
    data = encode(message, tensors)
    tracemalloc.start()
    _, rest = decode_header(data, DECODER, frame_size(layout))
    decode_tensors(rest, layout)
    decoding = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decoding <= len(data) + HEADER_MEMORY
    sealed = seal(data, KEY)
    tracemalloc.start()
    unseal(sealed, KEY.public)
    unsealing = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert unsealing <= len(data) + HEADER_MEMORY


def test_the_largest_manifest_that_can_be_said_is_read_within_the_bound():
    said = header(waiting()["START"][1])
    recipe = {f"{i:02d}": "𝄞" + "x" * 220 for i in range(64)}
    manifest = msgspec.structs.replace(said.manifest, subject=Subject(recipe=recipe))
    data = encode(msgspec.structs.replace(said, manifest=manifest))
    assert len(data) > 0.7 * HEADER_CAP
    tracemalloc.start()
    decode_header(data, DECODER, frame_size({}))
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used <= HEADER_MEMORY
