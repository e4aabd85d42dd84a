"""Two sides that pass files to each other, and stop and start as often as they like."""

from __future__ import annotations

import pytest
from two_parties import exchange

from pyattr.errors import ProtocolError
from pyattr.protocol import Prover, Verifier
from pyattr.protocol.keys import SigningKey
from pyattr.protocol.session import State
from pyattr.protocol.signing import seal, unseal
from pyattr.transport.directory import MESSAGES, SessionDirectory
from pyattr.transport.durable import ConflictError
from pyattr.transport.ledger import AttemptsSpentError
from pyattr.transport.secret_file import secret_from
from pyattr.verification.cheats import HalvedScores
from transport.parties import FUNCTION, KEYS, TERMS, Parties


def test_a_whole_session_step_by_step(tmp_path):
    parties = Parties(tmp_path)
    assert [parties.step(role) for role in ("verifier", "prover", "verifier", "prover")] == [
        1,
        2,
        3,
        5,
    ]
    assert parties.step("verifier") == 6
    verdict = parties.last.verdict
    assert verdict
    trained = dict(parties.trained)
    assert parties.step("prover") == 6
    assert parties.last.outcome is verdict.outcome
    # Made again, a side sends the same and trains nothing.
    for role in KEYS:
        assert parties.step(role) == 6
        assert parties.last.state is State.CLOSED
    assert parties.trained == trained
    assert trained["verifier"] == verdict.n_retrained
    assert trained["prover"] == verdict.n_prover_retrained
    (entry,) = parties.ledger.sessions(parties.claim)
    assert entry.outcome == "ACCEPT"


def test_the_messages_are_those_of_a_session_in_one_process(tmp_path):
    parties = Parties(tmp_path)
    sealed = parties.play()
    secrets = {
        role: secret_from((tmp_path / role / f"private-{role}.json").read_bytes()) for role in KEYS
    }
    prover = Prover(
        FUNCTION,
        FUNCTION.best,
        key=KEYS["prover"].public.hex,
        verifier_key=KEYS["verifier"].public.hex,
        secret=secrets["prover"],
    )
    verifier = Verifier(
        FUNCTION,
        **TERMS,
        prover_key=KEYS["prover"].public.hex,
        key=KEYS["verifier"].public.hex,
        secret=secrets["verifier"],
    )
    for number, message in enumerate(exchange(prover, verifier)):
        role = "prover" if number in (1, 3, 4) else "verifier"
        assert seal(message, KEYS[role]) == sealed[MESSAGES[number]]


def test_a_claim_has_as_many_sessions_as_were_stated(tmp_path):
    """Sessions that got as far as a challenge count, though nobody finished them."""
    ledger = tmp_path / "ledger.jsonl"
    for attempt in range(2):
        parties = Parties(
            tmp_path / str(attempt), HalvedScores()(FUNCTION.best), ledger, attempts=2
        )
        for role in ("verifier", "prover", "verifier"):
            parties.step(role)
        assert parties.last.state is State.CHALLENGED
    parties = Parties(tmp_path / "last", ledger=ledger, attempts=2)
    parties.step("verifier")
    parties.step("prover")
    with pytest.raises(AttemptsSpentError):
        parties.step("verifier")
    assert MESSAGES[2] not in parties.messages("verifier")


def test_messages_that_the_peer_did_not_sign_are_refused_and_spoil_nothing(tmp_path):
    parties = Parties(tmp_path)
    parties.step("verifier")
    parties.step("prover", deliver=False)
    commitment = (tmp_path / "prover" / MESSAGES[1]).read_bytes()
    forged = seal(unseal(commitment, KEYS["prover"].public), SigningKey.generate())
    path = tmp_path / "verifier" / MESSAGES[1]
    path.write_bytes(forged)
    with pytest.raises(ProtocolError, match="keyid"):
        parties.step("verifier")
    path.write_bytes(commitment)
    assert parties.step("verifier") == 3
    with (
        SessionDirectory(tmp_path / "verifier", "verifier") as directory,
        pytest.raises(ConflictError),
    ):
        directory.write_message(1, forged)
