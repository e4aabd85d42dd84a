"""The messages against vectors that are never rewritten."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pyattr.errors import ProtocolError
from pyattr.protocol import merkle
from pyattr.protocol.arrays import outputs_root
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.encoding import (
    HEADER_CAP,
    MAGIC,
    Tensor,
    decode_header,
    decode_tensors,
    encode,
    frame_size,
    join_frame,
)
from pyattr.protocol.hashing import commit, keystream, message_hash, session_id
from pyattr.protocol.manifest import Manifest, Subject
from pyattr.protocol.messages import (
    DECODER,
    KINDS,
    Challenge,
    Commitment,
    Decision,
    Invitation,
    Outputs,
    OutputsCommitment,
    outputs_layout,
)
from pyattr.protocol.randomness import ProverSecrets, VerifierSecrets, challenge_seed, sealed
from pyattr.protocol.signing import PublicKey, SigningKey, seal, sealed_size, unseal
from pyattr.protocol.words import ClusterParameters, ResidualParameters

VECTORS = Path(__file__).parent.parent / "vectors"
MESSAGES = json.loads((VECTORS / "session2_messages.json").read_text())
DIGESTS = json.loads((VECTORS / "session2_digests.json").read_text())
SEALED = json.loads((VECTORS / "session2_sealed.json").read_text())
VALID = {vector["name"]: vector for vector in MESSAGES if vector["valid"]}
INVALID = [vector for vector in MESSAGES if not vector["valid"]]
SEALED_VALID = [vector for vector in SEALED["frames"] if vector["valid"]]
SEALED_INVALID = [vector for vector in SEALED["frames"] if not vector["valid"]]
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SEALED["private"])))
PUBLIC = PublicKey(SEALED["public"])

DIGEST = "0f" * 32
NAMED = {"ids": lambda vector: vector["name"]}


def layout_of(vector):
    return {name: (dtype, tuple(shape)) for name, (dtype, shape) in vector["tensors"].items()}


def decode(data, layout):
    message, rest = decode_header(data, DECODER, frame_size(layout))
    return message, decode_tensors(rest, layout)


def read(name):
    return decode(bytes.fromhex(VALID[name]["hex"]), layout_of(VALID[name]))


def test_the_vectors_cover_every_message_and_refuse_more_than_they_accept():
    assert {type(read(name)[0]) for name in VALID} == set(KINDS)
    assert len(INVALID) >= 200 > len(VALID)
    assert len(SEALED_INVALID) >= 70 > len(SEALED_VALID)
    assert {vector["name"] for vector in SEALED_VALID} == set(VALID)


@pytest.mark.parametrize("vector", VALID.values(), **NAMED)
def test_valid_vectors_are_read_and_written_alike(vector):
    data = bytes.fromhex(vector["hex"])
    message, tensors = decode(data, layout_of(vector))
    assert encode(message, tensors) == data


@pytest.mark.parametrize("vector", INVALID, **NAMED)
def test_invalid_vectors_are_refused_for_the_reason_they_were_made_for(vector):
    with pytest.raises(ProtocolError, match=r"expected .*, got") as refused:
        decode(bytes.fromhex(vector["hex"]), layout_of(vector))
    assert vector["because"] in str(refused.value)


def test_valid_vectors_say_what_they_should():
    said = read("invitation, all said")[0].manifest
    assert said.subject.recipe["hidden"] == "64,64"
    assert said.subject.recipe["nesterov"] is True
    assert (said.p, said.attempts, said.sampling, said.budget) == (0.3, 20, "weighted", 10000)
    assert said.design == ClusterParameters(n_clusters=1250, n_leaves=4, rho=0.25)
    assert read("invitation, lower extremes")[0].manifest.subject.recipe["a"] == -(2**53)
    assert read("invitation, upper extremes")[0].manifest.p == 1.0 - 2.0**-53
    commitment = Commitment(parent="11" * 32, randomness="22" * 32, digest="33" * 32)
    assert read("commitment") == (commitment, {})
    challenge, _ = read("challenge, clusters")
    assert challenge.design == ClusterParameters(n_clusters=2, n_leaves=1, rho=1.0)
    assert int(challenge.seed, 16) == 2**64 - 1
    assert read("challenge, pairs, extremes")[0].design.rho == 1.0 / 3.0
    assert read("outputs commitment, most leaves")[0].n_leaves == 2**16
    outputs, tensors = read("outputs")
    assert (outputs.salt, outputs.leaf_key) == ("ab" * 32, "44" * 32)
    assert tensors["intercept"].data == b"\x00\x00\x00\x3f"
    assert tensors["outputs"].shape == (4, 1)
    assert read("decision INCONCLUSIVE")[0].outcome == "INCONCLUSIVE"


@pytest.mark.parametrize("vector", SEALED_VALID, **NAMED)
def test_sealed_vectors_are_the_plain_ones_under_a_signature(vector):
    frame, plain = bytes.fromhex(vector["hex"]), bytes.fromhex(VALID[vector["name"]]["hex"])
    assert unseal(frame, PUBLIC) == plain
    assert seal(plain, KEY) == frame
    assert len(frame) <= sealed_size(frame_size(layout_of(VALID[vector["name"]])))


@pytest.mark.parametrize("vector", SEALED_INVALID, **NAMED)
def test_forged_vectors_are_refused_for_the_reason_they_were_made_for(vector):
    with pytest.raises(ProtocolError, match=r"expected .*, got") as refused:
        unseal(bytes.fromhex(vector["hex"]), PUBLIC)
    assert vector["because"] in str(refused.value)


def _of(case):
    return bytes.fromhex(VALID[case["of"]]["hex"])


def _hex(*values):
    return (bytes.fromhex(value) for value in values)


def _commitment(case):
    _, tensors = read(case["of"])
    return commit(*_hex(case["salt"]), {name: tensors[name] for name in ("scores", "intercept")})


def _verifiers(case):
    secrets = VerifierSecrets.of(*_hex(case["secret"]))
    numbers = [f"{number:016x}" for number in (secrets.pilot, secrets.fresh)]
    return [secrets.randomness.hex(), secrets.check_key.hex(), *numbers]


def _provers(case):
    secrets = ProverSecrets.of(*_hex(case["secret"]))
    return [secrets.randomness.hex(), secrets.salt.hex(), secrets.leaf_key.hex()]


def _checks(case):
    return SecretChecks(*_hex(case["key"]), case["transcript"])


def _root(case):
    key, context = _hex(case["salt_key"], case["context"])
    return merkle.root(list(_hex(*case["rows"])), key, context=context)


def _outputs_root(case):
    outputs = np.arange(case["n_outputs"], dtype=np.float32)[:, None]
    return outputs_root(outputs, *_hex(case["leaf_key"]), case["session"])


COMPUTED = {
    "message": lambda case: message_hash(_of(case) if "of" in case else bytes.fromhex(case["hex"])),
    "session": lambda case: session_id(_of(case)),
    "commitment": _commitment,
    "claim": lambda case: read(case["of"])[0].manifest.claim(),
    "challenge seed": lambda case: challenge_seed(
        *_hex(case["verifier"], case["prover"]), case["transcript"]
    ),
    "sealed randomness": lambda case: sealed("randomness", *_hex(case["value"])),
    "sealed check key": lambda case: sealed("check key", *_hex(case["value"])),
    "verifier's secrets": _verifiers,
    "prover's secrets": _provers,
    "key stream": lambda case: keystream(
        case["label"], len(case["digest"]) // 2, *_hex(*case["parts"])
    ).hex(),
    "uniform spot checks": lambda case: (
        _checks(case).uniform(case["n_outputs"], case["n_checked"]).tolist()
    ),
    "weighted spot checks": lambda case: (
        _checks(case).weighted(np.array(case["probabilities"])).tolist()
    ),
    "Merkle root": _root,
    "Merkle root of outputs": _outputs_root,
    "key id": lambda case: PublicKey(case["key"]).keyid,
}


@pytest.mark.parametrize("case", DIGESTS, ids=lambda case: case["purpose"])
def test_digests_are_those_of_the_vectors(case):
    assert COMPUTED[case["purpose"]](case) == case["digest"]


def test_no_kind_of_digest_is_without_a_vector():
    assert {case["purpose"] for case in DIGESTS} == set(COMPUTED)


# --- every message that can be made ---------------------------------------------------------------

hex256 = st.binary(min_size=32, max_size=32).map(bytes.hex)
sizes = st.integers(1, 2**31)
shares = st.floats(0.0, 1.0, exclude_min=True, exclude_max=True)
numbers = st.floats(0.0, 2.0**80).map(abs)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x or 0.0)
scalars = st.booleans() | st.integers(-(2**53), 2**53) | finite | texts
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


def in_order(values):
    return st.dictionaries(names, values, max_size=6).map(lambda words: dict(sorted(words.items())))


subjects = st.builds(
    Subject,
    train=hex256 | st.just(""),
    targets=hex256,
    recipe=in_order(scalars),
    output=texts,
    platform=texts,
    versions=in_order(texts),
)
manifests = st.builds(
    Manifest,
    subject=subjects,
    n_train=sizes,
    n_targets=sizes,
    p=shares,
    clip=st.floats(2.0**-40, 2.0**40),
    clip_agreed=st.booleans(),
    method=st.sampled_from(["gap", "paper"]),
    epsilon=st.floats(0.0, 2.0**80, exclude_min=True),
    delta=shares,
    attempts=st.integers(1, 10_000),
    bound=names,
    relative=st.booleans(),
    nonlinearity=numbers,
    intercept=st.sampled_from(["refit", "check"]),
    simultaneous=st.booleans(),
    budget=st.none() | st.integers(1, 2**40),
    design=st.none() | clusters,
    tolerance=numbers,
    spot_check_share=shares,
    sampling=st.sampled_from(["uniform", "weighted"]),
    prover=hex256 | st.just(""),
    verifier=hex256 | st.just(""),
)
LINKS = {"session": hex256, "parent": hex256}
messages = st.one_of(
    st.builds(Invitation, manifest=manifests, randomness=hex256, checks=hex256),
    st.builds(Commitment, parent=hex256, randomness=hex256, digest=hex256),
    st.builds(
        Challenge,
        **LINKS,
        randomness=hex256,
        design=clusters | pairs,
        seed=st.binary(min_size=8, max_size=8).map(bytes.hex),
    ),
    st.builds(OutputsCommitment, **LINKS, root=hex256, n_leaves=st.integers(1, 2**16)),
    st.builds(Outputs, **LINKS, salt=hex256, leaf_key=hex256),
    st.builds(Decision, **LINKS, outcome=st.sampled_from(["ACCEPT", "ABORT", "INCONCLUSIVE"])),
)


@given(messages)
@settings(max_examples=300, deadline=None)
def test_every_message_comes_back_as_it_was_plain_and_sealed(message):
    data = encode(message)
    again, tensors = decode(data, {})
    assert again == message
    assert tensors == {}
    assert encode(again) == data
    assert unseal(seal(data, KEY), PUBLIC) == data


@given(st.binary(max_size=200), st.integers(1, 3), st.integers(1, 4), st.integers(1, 2))
@settings(max_examples=100, deadline=None)
def test_all_outputs_come_back_as_they_were(noise, n_outputs, n_train, n_targets):
    layout = outputs_layout(n_outputs, n_train, n_targets)
    filler = (noise + bytes(64)) * 2
    tensors = {
        name: Tensor(dtype, shape, filler[: 4 * int(np.prod(shape))])
        for name, (dtype, shape) in layout.items()
    }
    message = Outputs(session=DIGEST, parent=DIGEST, salt=DIGEST, leaf_key=DIGEST)
    data = encode(message, tensors)
    assert decode(data, layout) == (message, tensors)
    assert len(data) <= frame_size(layout)


def manifest_of(**changes):
    manifest = read("invitation")[0].manifest
    return Invitation(
        manifest=msgspec.structs.replace(manifest, **changes), randomness=DIGEST, checks=DIGEST
    )


def spellings(value):
    """What other programs may write for a number."""
    styles = [repr(value), *(f"{value:.{n}{style}}" for style in "efg" for n in range(19))]
    styles += [style.replace("e+", "e").replace("e-0", "e-") for style in styles]
    styles.append(msgspec.json.encode(value).decode())
    return {spelling for style in styles for spelling in (style, style.upper(), f"{style}0")}


@given(finite)
@settings(max_examples=200, deadline=None)
def test_a_number_has_one_spelling(value):
    head = msgspec.json.encode(manifest_of(subject=Subject(recipe={"x": "?"})))
    accepted = []
    for spelling in spellings(value):
        said = head.replace(b'"?"', spelling.encode())
        try:
            message, _ = decode_header(join_frame(MAGIC, said), DECODER, frame_size({}))
        except ProtocolError:
            continue
        number = message.manifest.subject.recipe["x"]
        accepted.append((type(number), number))
    assert (float, value) in accepted
    assert len(accepted) == len(set(accepted))


# --- what a sender cannot write -------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        lambda: Decision(session=DIGEST, parent=DIGEST, outcome="OK"),
        lambda: OutputsCommitment(session=DIGEST, parent=DIGEST, root=DIGEST, n_leaves=0),
        lambda: Commitment(parent=DIGEST, randomness="", digest=DIGEST),
        lambda: Challenge(
            session=DIGEST,
            parent=DIGEST,
            randomness=DIGEST,
            design=ClusterParameters(n_clusters=2, n_leaves=1, rho=float("nan")),
            seed="0" * 16,
        ),
        lambda: manifest_of(n_train=0),
        lambda: manifest_of(n_train=True),
        lambda: manifest_of(p=1),
        lambda: manifest_of(epsilon=1),
        lambda: manifest_of(tolerance=-0.0),
        lambda: manifest_of(clip=float("inf")),
        lambda: manifest_of(subject=Subject(recipe={"x": float("nan")})),
        lambda: manifest_of(subject=Subject(recipe={"x": 2**53 + 1})),
        lambda: manifest_of(subject=Subject(recipe={"b": 1, "a": 2})),
        lambda: manifest_of(subject=Subject(output="\ud800")),
        lambda: manifest_of(subject=Subject(recipe={f"{i:02d}": "\x00" * 256 for i in range(64)})),
    ],
)
def test_a_sender_cannot_write_what_no_receiver_would_accept(message):
    with pytest.raises(ValueError, match=r"."):
        encode(message())


def test_the_largest_challenge_is_below_1_kb_sealed():
    challenge = Challenge(
        session=DIGEST,
        parent=DIGEST,
        randomness=DIGEST,
        design=ClusterParameters(n_clusters=2**24, n_leaves=2**16, rho=-sys.float_info.min + 0.1),
        seed="f" * 16,
    )
    widest = msgspec.structs.replace(
        challenge,
        design=msgspec.structs.replace(challenge.design, rho=2.2250738585072014e-308),
    )
    frames = [seal(encode(message), KEY) for message in (challenge, widest)]
    assert max(map(len, frames)) < 1024
    envelope = json.loads(frames[1][12:])
    assert len(base64.b64decode(envelope["payload"])) < HEADER_CAP
