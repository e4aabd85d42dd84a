"""Two sides that pass files to each other, each in a directory of its own, made again for every step."""

from __future__ import annotations

import shutil
from pathlib import Path

from cube import smooth_function

from pyattr.protocol import Prover
from pyattr.protocol.audit import manifest_of
from pyattr.protocol.keys import SigningKey
from pyattr.protocol.signing import unseal
from pyattr.transport.directory import MESSAGES, SessionDirectory
from pyattr.transport.ledger import Ledger
from pyattr.transport.prover_side import ProverSide
from pyattr.transport.verifier_side import VerifierSide

FUNCTION = smooth_function(60, cubic=0.01, n_targets=2)
KEYS = {"prover": SigningKey.generate(), "verifier": SigningKey.generate()}
TERMS = {"n_train": 60, "n_targets": 2, "epsilon": 0.2}
TURNS = ("verifier", "prover", "verifier", "prover", "verifier", "prover")


class Parties:
    """A session in the folders ``prover`` and ``verifier`` of a path, with a ledger beside them."""

    def __init__(self, path: Path, attribution=FUNCTION.best, ledger=None, **terms):
        self.path, self.attribution, self.terms = path, attribution, TERMS | terms
        self.trained = {"prover": 0, "verifier": 0}
        self.ledger = Ledger.at(ledger or path / "ledger.jsonl")
        (path / "prover").mkdir(parents=True, exist_ok=True)

    @property
    def claim(self):
        sealed = (self.path / "verifier" / MESSAGES[0]).read_bytes()
        return manifest_of(unseal(sealed, KEYS["verifier"].public)).claim()

    def retrain(self, role):
        def train(masks, seeds):
            self.trained[role] += len(masks)
            return FUNCTION(masks, seeds)

        return train

    def side(self, role, directory):
        own, peer = KEYS[role], KEYS["prover" if role == "verifier" else "verifier"].public
        if role == "verifier":
            return VerifierSide(directory, self.retrain(role), own, peer, self.ledger, self.terms)

        def make(retrain, secret):
            keys = {"key": own.public.hex, "verifier_key": peer.hex}
            return Prover(retrain, self.attribution, secret=secret, **keys)

        return ProverSide(directory, self.retrain(role), own, peer, make)

    def step(self, role, deliver=True):
        """Let a side go on as far as it can; returns the number of messages it then knows."""
        with SessionDirectory(self.path / role, role, create=True) as directory:
            side = self.side(role, directory)
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
        """Go through the whole session."""
        for role in TURNS:
            self.step(role)
        return self.messages("verifier")

    def messages(self, role):
        """Messages that a side has, by name."""
        files = [self.path / role / name for name in MESSAGES]
        return {file.name: file.read_bytes() for file in files if file.exists()}
