"""Two sides that pass files to each other, and stop and start as often as they like."""

from __future__ import annotations

import shutil

import pytest
from cube import smooth_function
from two_parties import exchange

from pyattr.errors import ProtocolError
from pyattr.protocol import Prover, Verifier
from pyattr.protocol.session import State
from pyattr.protocol.signing import SigningKey, seal, unseal
from pyattr.transport.directory import MESSAGES, SessionDirectory
from pyattr.transport.durable import ConflictError
from pyattr.transport.ledger import AttemptsSpentError, Ledger
from pyattr.transport.side import ProverSide, VerifierSide, secret_from
from pyattr.verification.cheats import HalvedScores

FUNCTION = smooth_function(60, cubic=0.01, n_targets=2)
KEYS = {"prover": SigningKey.generate(), "verifier": SigningKey.generate()}
TERMS = {"n_train": 60, "n_targets": 2, "epsilon": 0.2}


class Parties:
    """Both sides, each with a directory of its own, made again for every step."""

    def __init__(self, path, attribution=FUNCTION.best, **terms):
        self.path, self.attribution, self.terms = path, attribution, TERMS | terms
        self.trained = {"prover": 0, "verifier": 0}

    def retrain(self, role):
        def train(masks, seeds):
            self.trained[role] += len(masks)
            return FUNCTION(masks, seeds)

        return train

    def step(self, role, deliver=True):
        """Let a side go on as far as it can; returns the messages it then has."""
        own, peer = KEYS[role], KEYS["prover" if role == "verifier" else "verifier"].public
        with SessionDirectory(self.path / role, role, create=True) as directory:
            if role == "prover":
                side = ProverSide(
                    directory,
                    self.retrain(role),
                    own,
                    peer,
                    lambda retrain, secret: Prover(
                        retrain,
                        self.attribution,
                        key=own.public.hex,
                        verifier_key=peer.hex,
                        secret=secret,
                    ),
                )
            else:
                ledger = Ledger.at(self.path / "ledger.jsonl")
                side = VerifierSide(directory, self.retrain(role), own, peer, ledger, self.terms)
            n = side.advance()
            self.last = side.end
        if deliver:
            self.deliver()
        return n

    def deliver(self):
        """Carry messages to whoever does not have them."""
        for name in MESSAGES:
            files = [self.path / role / name for role in KEYS]
            for there, missing in (files, files[::-1]):
                if there.exists() and not missing.exists() and missing.parent.exists():
                    shutil.copyfile(there, missing)

    def play(self):
        for role in ("verifier", "prover", "verifier", "prover", "verifier", "prover"):
            self.step(role)
        return {name: (self.path / "verifier" / name).read_bytes() for name in MESSAGES}


def test_a_whole_session_step_by_step(tmp_path):
    parties = Parties(tmp_path)
    (tmp_path / "prover").mkdir()
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
    (entry,) = Ledger.at(tmp_path / "ledger.jsonl").sessions(parties.manifest_claim())
    assert entry.outcome == "ACCEPT"


def manifest_claim(parties):
    from pyattr.protocol.audit import manifest_of

    sealed = (parties.path / "verifier" / MESSAGES[0]).read_bytes()
    return manifest_of(unseal(sealed, KEYS["verifier"].public)).claim()


Parties.manifest_claim = manifest_claim


def test_the_messages_are_those_of_a_session_in_one_process(tmp_path):
    parties = Parties(tmp_path)
    (tmp_path / "prover").mkdir()
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
    for attempt in range(2):
        folder = tmp_path / f"session{attempt}"
        folder.mkdir()
        parties = Parties(folder, HalvedScores()(FUNCTION.best), attempts=2)
        parties.path = folder
        (folder / "prover").mkdir()
        if attempt:
            shutil.copyfile(tmp_path / "session0" / "ledger.jsonl", folder / "ledger.jsonl")
        for role in ("verifier", "prover", "verifier"):
            parties.step(role)
        assert parties.last.state is State.CHALLENGED
    last = tmp_path / "session2"
    last.mkdir()
    (last / "prover").mkdir()
    shutil.copyfile(tmp_path / "session1" / "ledger.jsonl", last / "ledger.jsonl")
    parties = Parties(last, attempts=2)
    parties.step("verifier")
    parties.step("prover")
    with pytest.raises(AttemptsSpentError):
        parties.step("verifier")
    assert not (last / "verifier" / MESSAGES[2]).exists()


def test_messages_that_the_peer_did_not_sign_are_refused_and_spoil_nothing(tmp_path):
    parties = Parties(tmp_path)
    (tmp_path / "prover").mkdir()
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
