"""The transition table, and what breaks the chain of messages."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from pyattr.errors import ProtocolError
from pyattr.protocol.challenges import parameters_of
from pyattr.protocol.encoding import decode_header, encode, frame_size
from pyattr.protocol.hashing import message_hash, session_id
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
)
from pyattr.protocol.session import TRANSITIONS, Role, Session, State
from pyattr.protocol.tolerance import Calibration, ReplayTerms
from pyattr.protocol.words import ClusterParameters
from pyattr.verification.clusters import ClusterDesign

DIGEST = "00" * 32
MANIFEST = Manifest(
    subject=Subject(),
    n_train=3,
    n_targets=1,
    p=0.5,
    clip=1.0,
    clip_agreed=True,
    method="gap",
    epsilon=0.05,
    delta=0.05,
    attempts=1,
    bound="chi2",
    relative=True,
    nonlinearity=0.02,
    intercept="refit",
    simultaneous=False,
    budget=None,
    design=ClusterParameters(n_clusters=2, n_leaves=1, rho=1.0),
    design_agreed=False,
    tolerance=0.0,
    calibration=None,
    spot_check_share=0.2,
    sampling="uniform",
    prover="",
    verifier="",
)


def chain():
    """The six messages of a session, each as it follows from the ones before."""
    invitation = Invitation(manifest=MANIFEST, randomness=DIGEST, checks=DIGEST)
    parent = message_hash(encode(invitation))
    commitment = Commitment(parent=parent, randomness="11" * 32, digest=DIGEST)
    links = {"session": session_id(encode(commitment)), "parent": message_hash(encode(commitment))}
    design = ClusterParameters(n_clusters=2, n_leaves=1, rho=1.0)
    messages = [invitation, commitment]
    for kind, fields in (
        (Challenge, {"randomness": DIGEST, "design": design, "seed": "0" * 16}),
        (OutputsCommitment, {"root": DIGEST, "n_leaves": 4}),
        (Outputs, {"salt": DIGEST, "leaf_key": DIGEST, "tensors": DIGEST}),
        (Decision, {"outcome": "ABORT"}),
    ):
        messages.append(kind(**links, **fields))
        links["parent"] = message_hash(encode(messages[-1]))
    return messages


def walk(role, n_messages):
    """A session that has seen the first messages."""
    session = Session(role)
    for message in chain()[:n_messages]:
        if message.sender != role:
            session.receive(message)
        session.record(message, encode(message))
    return session


def test_a_calibration_at_a_smaller_b_says_nothing():
    """What was cut off on both sides was equal."""
    terms = ReplayTerms(
        n_train=3, n_targets=1, n_rows=300, n_repeats=8, p=0.5, clip=1.0, seed="0" * 16
    )
    found = Calibration(
        tolerance=0.5,
        largest=0.5,
        factor=1.0,
        smallest_sd=9.0,
        n_checks=9,
        alarm=0.05,
        terms=terms,
        replays=(DIGEST, DIGEST),
    )
    words = {"calibration": found, "tolerance": 0.5}
    assert msgspec.structs.replace(MANIFEST, **words).clip == 1.0
    with pytest.raises(ValueError, match=r"calibration: expected one with b ≥ 1\.5, got 1\.0"):
        msgspec.structs.replace(MANIFEST, **words, clip=1.5)


@pytest.mark.parametrize("role", Role)
def test_a_whole_session_passes_on_both_ends(role):
    assert walk(role, 6).state is State.CLOSED


@pytest.mark.parametrize(("role", "n_seen"), list(itertools.product(Role, range(7))))
def test_all_but_the_next_message_is_refused(role, n_seen):
    for position, message in enumerate(chain()):
        session = walk(role, n_seen)
        if position == n_seen and message.sender != role:
            session.receive(message)
        else:
            with pytest.raises(ProtocolError, match=r"message: expected what follows .*, got a"):
                session.receive(message)
        if position != n_seen:
            with pytest.raises(ProtocolError):
                session.record(message, encode(message))


def test_every_kind_of_message_has_its_place():
    assert tuple(kind for _, kind in TRANSITIONS) == KINDS
    states = [state for state, _ in TRANSITIONS] + [State.CLOSED]
    assert list(TRANSITIONS.values()) == states[1:]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("field", ["session", "parent"])
def test_broken_links_are_refused(role, field):
    n_broken = 0
    for position, message in enumerate(chain()):
        if message.sender == role or not hasattr(message, field):
            continue
        changed = msgspec.structs.replace(message, **{field: "ff" * 32})
        with pytest.raises(ProtocolError, match=f"{field}: expected"):
            walk(role, position).receive(changed)
        n_broken += 1
    assert n_broken >= 2


def test_the_session_id_depends_on_everything_both_parties_said_first():
    names = set()
    for checks, randomness in itertools.product(["aa" * 32, "bb" * 32], repeat=2):
        invitation = Invitation(manifest=MANIFEST, randomness=DIGEST, checks=checks)
        session = Session(Role.PROVER)
        session.record(invitation, encode(invitation))
        commitment = Commitment(parent=session.parent, randomness=randomness, digest=DIGEST)
        session.record(commitment, encode(commitment))
        names.add(session.name)
    assert len(names) == 4


def test_a_dead_session_stays_dead():
    session = walk(Role.VERIFIER, 3)
    session.kill()
    with pytest.raises(ProtocolError):
        session.receive(chain()[3])
    with pytest.raises(RuntimeError, match="session: expected to be challenged, got dead"):
        session.require(State.CHALLENGED)


def test_a_whole_number_in_a_design_is_written_as_a_share():
    words = parameters_of(ClusterDesign(24, rho=1))
    links = {"session": DIGEST, "parent": DIGEST, "randomness": DIGEST}
    data = encode(Challenge(**links, design=words, seed="0" * 16))
    assert decode_header(data, DECODER, frame_size({}))[0].design == words
