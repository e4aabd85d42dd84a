"""The transition table, and what breaks the chain of messages."""

from __future__ import annotations

import itertools

import pytest

from pyattr.errors import ProtocolError
from pyattr.protocol.encoding import encode
from pyattr.protocol.hashing import message_hash
from pyattr.protocol.messages import Challenge, ClusterParameters, Commitment, Decision, Response
from pyattr.protocol.session import TRANSITIONS, Role, Session, State

DIGEST = "00" * 32
MESSAGES = (Commitment, Challenge, Response, Decision)


def chain():
    """The four messages of a session, each as it follows from the ones before."""
    session = Session(Role.VERIFIER)
    commitment = Commitment(nonce=DIGEST, n_train=3, n_targets=1, digest=DIGEST)
    session.record(commitment, encode(commitment))
    name = session.name_with("11" * 32)
    challenge = Challenge(
        session=name,
        parent=session.parent,
        nonce="11" * 32,
        design=ClusterParameters(n_clusters=2, n_leaves=1, rho=1.0),
        p=0.5,
        clip=1.0,
        seed="0" * 16,
    )
    response = Response(session=name, parent=message_hash(encode(challenge)), salt=DIGEST)
    decision = Decision(session=name, parent=message_hash(encode(response)), outcome="ABORT")
    return [commitment, challenge, response, decision]


def walk(role, n_messages):
    """A session that has seen the first messages."""
    session = Session(role)
    for message in chain()[:n_messages]:
        if message.sender != role:
            session.receive(message)
        session.record(message, encode(message))
    return session


@pytest.mark.parametrize("role", Role)
def test_a_whole_session_passes_on_both_ends(role):
    assert walk(role, 4).state is State.CLOSED


@pytest.mark.parametrize(("role", "n_seen"), list(itertools.product(Role, range(5))))
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


def test_both_ends_have_the_same_table():
    by_role = {
        role: {(state, kind): to for (r, state, kind), to in TRANSITIONS.items() if r == role}
        for role in Role
    }
    assert by_role[Role.PROVER] == by_role[Role.VERIFIER]
    assert {kind for _, kind in by_role[Role.PROVER]} == set(MESSAGES)


def test_no_message_leads_out_of_the_end():
    ends = {state for _, state, _ in TRANSITIONS} & {State.CLOSED, State.DEAD}
    assert not ends


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("field", ["session", "parent"])
def test_broken_links_are_refused(role, field):
    for position, message in enumerate(chain()):
        if message.sender == role or isinstance(message, Commitment):
            continue
        changed = {name: getattr(message, name) for name in message.__struct_fields__}
        changed[field] = "ff" * 32
        with pytest.raises(ProtocolError, match=f"{field}: expected"):
            walk(role, position).receive(type(message)(**changed))


def test_the_session_id_depends_on_both_nonces():
    names = set()
    for first, second in itertools.product(["aa" * 32, "bb" * 32], repeat=2):
        session = Session(Role.PROVER)
        commitment = Commitment(nonce=first, n_train=3, n_targets=1, digest=DIGEST)
        session.record(commitment, encode(commitment))
        names.add(session.name_with(second))
    assert len(names) == 4


def test_a_dead_session_stays_dead():
    session = walk(Role.VERIFIER, 2)
    session.kill()
    with pytest.raises(ProtocolError):
        session.receive(chain()[2])
    with pytest.raises(RuntimeError, match="session: expected to be challenged, got dead"):
        session.require(State.CHALLENGED)
