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
from pyattr.masks import Masks
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
    tensor_bytes,
)
from pyattr.protocol.hashing import commit, keystream, message_hash, session_id, tensors_hash
from pyattr.protocol.journal import block_digest
from pyattr.protocol.keys import PublicKey, SigningKey
from pyattr.protocol.manifest import MOST_NUMBERS, Manifest, Subject, subject_digest
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
from pyattr.protocol.signing import seal, sealed_size, unseal
from pyattr.protocol.tolerance import Calibration, ReplayTerms
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
SEALED_MAGIC = b"pyattr\x01\x01"
NAMED = {"ids": lambda vector: vector["name"]}


def layout_of(vector):
    tensors = vector.get("tensors", {})
    return {name: (dtype, tuple(shape)) for name, (dtype, shape) in tensors.items()}


def plain(name):
    """The bytes of a valid vector."""
    return bytes.fromhex(VALID[name]["hex"])


def sealed_frame(vector):
    """A message under its signature, written by hand; see the specification of DSSE."""
    data = plain(vector["name"])
    end = 12 + int.from_bytes(data[8:12], "little")
    envelope = {
        "payload": base64.b64encode(data[12:end]).decode(),
        "payloadType": vector["payloadType"],
        "signatures": [{"keyid": vector["keyid"], "sig": vector["sig"]}],
    }
    return join_frame(
        SEALED_MAGIC, json.dumps(envelope, separators=(",", ":")).encode(), data[end:]
    )


def edited(vector, frames):
    """The bytes of an invalid vector: those of a valid one, or none, with parts replaced.

    An edit (start, end, hex, times) puts a text, so many times, in the place of bytes start to end of
    the original.
    """
    data = frames[vector["of"]] if "of" in vector else b""
    for start, end, text, times in reversed(vector["edits"]):
        data = data[:start] + bytes.fromhex(text) * times + data[end:]
    return data


PLAIN_FRAMES = {name: plain(name) for name in VALID}
SEALED_FRAMES = {vector["name"]: sealed_frame(vector) for vector in SEALED_VALID}


def decode(data, layout):
    message, rest = decode_header(data, DECODER, frame_size(layout))
    return message, decode_tensors(rest, layout)


def read(name):
    return decode(plain(name), layout_of(VALID[name]))


def test_the_vectors_cover_every_message_and_refuse_more_than_they_accept():
    assert {type(read(name)[0]) for name in VALID} == set(KINDS)
    assert len(INVALID) >= 380 > len(VALID)
    assert len(SEALED_INVALID) >= 100 > len(SEALED_VALID)
    assert {vector["name"] for vector in SEALED_VALID} == set(VALID)
    manifests = [read(name)[0].manifest for name in VALID if name.startswith("invitation")]
    assert {manifest.calibration is None for manifest in manifests} == {True, False}
    assert {manifest.method for manifest in manifests} == {"gap", "paper"}


def test_no_invalid_vector_repeats_another_or_a_valid_one():
    found = [(edited(vector, PLAIN_FRAMES), str(layout_of(vector))) for vector in INVALID]
    found += [(plain(name), str(layout_of(vector))) for name, vector in VALID.items()]
    assert len(set(found)) == len(found)
    sealed_frames = [edited(vector, SEALED_FRAMES) for vector in SEALED_INVALID]
    sealed_frames += SEALED_FRAMES.values()
    assert len(set(sealed_frames)) == len(sealed_frames)


@pytest.mark.parametrize("vector", VALID.values(), **NAMED)
def test_valid_vectors_are_read_and_written_alike(vector):
    data = plain(vector["name"])
    message, tensors = decode(data, layout_of(vector))
    assert encode(message, tensors) == data


@pytest.mark.parametrize("vector", INVALID, **NAMED)
def test_invalid_vectors_are_refused_for_the_reason_they_were_made_for(vector):
    with pytest.raises(ProtocolError, match=r"expected .*, got") as refused:
        decode(edited(vector, PLAIN_FRAMES), layout_of(vector))
    assert vector["because"] in str(refused.value)


def test_valid_vectors_say_what_they_should():
    said = read("invitation, all said")[0].manifest
    assert said.subject.recipe["hidden"] == "64,64"
    assert said.subject.recipe["nesterov"] is True
    assert (said.p, said.attempts, said.sampling, said.budget) == (0.3, 20, "weighted", 10000)
    assert said.design == ClusterParameters(n_clusters=1250, n_leaves=4, rho=0.25)
    assert (said.design_agreed, said.clip_agreed) == (False, False)
    assert said.calibration.tolerance == said.tolerance == 2.0 * said.calibration.largest == 1e-6
    assert (said.calibration.terms.n_rows, said.calibration.terms.n_repeats) == (256, 32)
    assert read("invitation")[0].manifest.calibration is None
    paper = read("invitation, the paper's method")[0].manifest
    assert (paper.method, paper.design) == ("paper", ResidualParameters(n_pairs=16, rho=0.25))
    assert read("invitation, most targets")[0].manifest.n_targets == 2**20
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
    frame, data = SEALED_FRAMES[vector["name"]], plain(vector["name"])
    assert unseal(frame, PUBLIC) == data
    assert seal(data, KEY) == frame
    assert len(frame) <= sealed_size(frame_size(layout_of(VALID[vector["name"]])))


@pytest.mark.parametrize("vector", SEALED_INVALID, **NAMED)
def test_forged_vectors_are_refused_for_the_reason_they_were_made_for(vector):
    with pytest.raises(ProtocolError, match=r"expected .*, got") as refused:
        unseal(edited(vector, SEALED_FRAMES), PUBLIC)
    assert vector["because"] in str(refused.value)


def _of(case):
    return plain(case["of"])


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


def _tensors(case):
    data = _of(case)
    return tensors_hash(data[12 + int.from_bytes(data[8:12], "little") :])


def _trainings(case):
    masks = Masks.pack(np.array(case["masks"], bool))
    seeds = np.array([int(seed, 16) for seed in case["seeds"]], np.uint64)
    return block_digest(masks, seeds, case["subject"])


COMPUTED = {
    "message": lambda case: message_hash(_of(case) if "of" in case else bytes.fromhex(case["hex"])),
    "session": lambda case: session_id(_of(case)),
    "commitment": _commitment,
    "claim": lambda case: read(case["of"])[0].manifest.claim(),
    "subject": lambda case: subject_digest(read(case["of"])[0].manifest.subject),
    "tensors": _tensors,
    "trainings": _trainings,
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

hex64 = st.binary(min_size=8, max_size=8).map(bytes.hex)
clips = st.floats(2.0**-40, 2.0**40)
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
calibrations = st.fixed_dictionaries(
    {
        "largest": st.floats(2.0**-60, 2.0**20) | st.just(0.0),
        "factor": st.floats(1.0, 2.0**10),
        "n_checks": sizes,
        "alarm": shares,
        "replays": st.tuples(hex256, hex256),
    }
)
repeats = st.integers(2, 256)


@st.composite
def manifests(draw):
    """Any that may be written, signed and not, calibrated and not, of both methods."""
    n_targets = draw(st.integers(1, 2**20))
    method = draw(st.sampled_from(["gap", "paper"]))
    most = MOST_NUMBERS // n_targets
    design = draw((clusters if method == "gap" else pairs).filter(lambda d: d.n_outputs <= most))
    sizes_and_p = {
        "n_train": draw(st.integers(1, min(most, 2**31))),
        "n_targets": n_targets,
        "p": draw(shares),
    }
    clip, calibration, tolerance = draw(clips), None, draw(numbers)
    if draw(st.booleans()):
        words = draw(calibrations)
        tolerance = words["factor"] * words["largest"]
        terms = ReplayTerms(
            **sizes_and_p,
            n_rows=draw(st.integers(256, 2**24)),
            n_repeats=draw(repeats),
            clip=draw(st.floats(clip, 2.0**40)),
            seed=draw(hex64),
        )
        calibration = Calibration(
            **words, tolerance=tolerance, smallest_sd=tolerance * 11.0, terms=terms
        )
    signed = draw(st.booleans()) if calibration or tolerance == 0.0 else False
    return Manifest(
        **sizes_and_p,
        subject=draw(subjects),
        clip=clip,
        clip_agreed=draw(st.booleans()),
        method=method,
        epsilon=draw(st.floats(0.0, 2.0**80, exclude_min=True)),
        delta=draw(shares),
        attempts=draw(st.integers(1, 10_000)),
        bound=draw(names),
        relative=draw(st.booleans()),
        nonlinearity=draw(numbers),
        intercept=draw(st.sampled_from(["refit", "check"])),
        simultaneous=draw(st.booleans()),
        budget=draw(st.none() | st.integers(design.n_outputs, 2**40)),
        design=design,
        design_agreed=draw(st.booleans()),
        tolerance=tolerance,
        calibration=calibration,
        spot_check_share=draw(shares),
        sampling=draw(st.sampled_from(["uniform", "weighted"])),
        prover=draw(hex256) if signed else "",
        verifier=draw(hex256) if signed else "",
    )


LINKS = {"session": hex256, "parent": hex256}
messages = st.one_of(
    st.builds(Invitation, manifest=manifests(), randomness=hex256, checks=hex256),
    st.builds(Commitment, parent=hex256, randomness=hex256, digest=hex256),
    st.builds(
        Challenge,
        **LINKS,
        randomness=hex256,
        design=clusters | pairs,
        seed=hex64,
    ),
    st.builds(OutputsCommitment, **LINKS, root=hex256, n_leaves=st.integers(1, 2**16)),
    st.builds(Outputs, **LINKS, salt=hex256, leaf_key=hex256, tensors=hex256),
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
    if isinstance(message, Outputs):  # which states tensors that are not there
        with pytest.raises(
            ValueError, match="tensors: expected those that the signed header states"
        ):
            seal(data, KEY)
    else:
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
    stated = tensors_hash(tensor_bytes(tensors))
    message = Outputs(session=DIGEST, parent=DIGEST, salt=DIGEST, leaf_key=DIGEST, tensors=stated)
    data = encode(message, tensors)
    assert decode(data, layout) == (message, tensors)
    assert unseal(seal(data, KEY), PUBLIC) == data
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
