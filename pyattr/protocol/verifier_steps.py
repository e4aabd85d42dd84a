"""The steps of a verifier: Algorithm 1 of Karchmer, Pawelczyk, Neel 2025.

The holes of its text are closed (method.md, section 3.1), and gap estimation takes the place of its
residual estimation by default (section 3.2):

1. Train a pilot, fix b and choose a design. Send the invitation: the manifest, and digests that bind
   this side to its part of the challenge's seed and to the key of its spot checks.
2. Receive the commitment to scores and intercept. From here on the prover is bound: scores that fit
   the challenge itself would show no error however wrong they are.
3. Send the challenge, E in the paper: the design, and a seed that follows from the randomness of both.
4. Receive the root of all outputs, then the outputs and the openings together. Check the openings against
   both commitments, and that scores and outputs are numbers in range.
5. Judge by the outputs. Where that leads to acceptance, find which sets of corrupted outputs it would
   survive (`pyattr.verification.corruption`).
6. Draw the spot checks, C in the paper, by the sealed key: so many that any other set is missed with
   probability at most δ_s. Retrain them and compare; on a difference retrain once more.
7. Send the outcome, and nothing that it rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyattr.errors import ProtocolError, Rejected
from pyattr.protocol.challenges import parameters_of
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.encoding import Layout, Tensor, encode, tensor_bytes
from pyattr.protocol.hashing import equal, tensors_hash
from pyattr.protocol.manifest import Manifest
from pyattr.protocol.messages import (
    Challenge,
    Commitment,
    Decision,
    Invitation,
    Message,
    Outputs,
    OutputsCommitment,
    attribution_layout,
    n_leaves,
    outputs_layout,
)
from pyattr.protocol.method import Asked, Method
from pyattr.protocol.randomness import VerifierSecrets, challenge_seed, sealed
from pyattr.protocol.response import check_opening, check_root, read_outputs, read_scores
from pyattr.protocol.session import Session, State
from pyattr.protocol.terms import Terms
from pyattr.verification.verdict import Verdict

__all__ = ["VerifierSteps"]


class VerifierSteps:
    """What a verifier does at each step; see the module. Used for one session.

    Parameters
    ----------
    session : Session
        Of the verifier, which shows it the prover's messages.
    secrets : VerifierSecrets
    terms : Terms
    method : Method
    said : mapping
        Fields of the manifest that are no terms, as for `Terms.stated`.

    Attributes
    ----------
    manifest : Manifest or None
        Once step 1 has been done.
    verdict : Verdict or None
        Once the session is over.
    rejected : Rejected or None
        The check that failed, if one did.
    """

    def __init__(
        self,
        session: Session,
        secrets: VerifierSecrets,
        terms: Terms,
        method: Method,
        said: Mapping[str, Any],
    ) -> None:
        self._session, self._secrets = session, secrets
        self._terms, self._method, self._said = terms, method, said
        self._committed, self._root, self._seed = "", "", 0
        self._asked: Asked | None = None
        self.manifest: Manifest | None = None
        self.verdict: Verdict | None = None
        self.rejected: Rejected | None = None

    def invite(self) -> bytes:
        """Step 1."""
        design = parameters_of(self._method.choose_design())
        name, clip = self._method.name, self._method.clip
        self.manifest = self._terms.stated(name, clip, design=design, **self._said)
        message = Invitation(
            manifest=self.manifest,
            randomness=sealed("randomness", self._secrets.randomness),
            checks=sealed("check key", self._secrets.check_key),
        )
        return self._send(message)

    def take(self, message: Message, tensors: dict[str, Tensor]) -> tuple[bytes, ...]:
        """Go on with the prover's next message; returns what is to be sent.

        Raises
        ------
        ProtocolError
            If it is wrong in form.
        """
        if isinstance(message, Commitment):
            self._committed = message.digest
            return (self._challenge(message),)
        if isinstance(message, OutputsCommitment):
            self._bind(message)
            return ()
        if isinstance(message, Outputs):
            if not equal(message.tensors, tensors_hash(tensor_bytes(tensors))):
                raise ProtocolError("tensors: expected those that the header states, got others")
            return (self._decide(message, tensors),)
        raise ProtocolError(f"message: expected one of a prover, got {message!r}")

    def fail(self, rejected: Rejected) -> Verdict:
        """End with ABORT because of one check, and return the verdict."""
        self.rejected = rejected
        self.verdict = self._method.failed(rejected)
        return self.verdict

    def expected_tensors(self) -> Layout:
        """What the prover's next message has behind its header."""
        if self._session.state is not State.ANSWERED or self._method.design is None:
            return {}
        n_outputs = self._method.design.n_evaluations
        return outputs_layout(n_outputs, self._terms.n_train, self._terms.n_targets)

    def _send(self, message: Message) -> bytes:
        data = encode(message)
        self._session.record(message, data)
        return data

    def _challenge(self, commitment: Commitment) -> bytes:
        """Steps 2 and 3."""
        design = self._method.design
        if design is None:
            raise RuntimeError("challenge: expected start to have run")
        own, theirs = self._secrets.randomness, bytes.fromhex(commitment.randomness)
        seed = challenge_seed(own, theirs, self._session.parent)
        self._seed = int(seed, 16)
        challenge = Challenge(
            session=self._session.name,
            parent=self._session.parent,
            randomness=own.hex(),
            design=parameters_of(design),
            seed=seed,
        )
        return self._send(challenge)

    def _bind(self, message: OutputsCommitment) -> None:
        """Step 4, first half."""
        design = self._method.design
        expected = 0 if design is None else n_leaves(design.n_evaluations)
        if message.n_leaves != expected:
            raise ProtocolError(f"n_leaves: expected {expected}, got {message.n_leaves}")
        self._root = message.root
        self._asked = Asked(self._seed, self._checks())

    def _checks(self) -> SecretChecks:
        """Step 6: nothing that is known later than the root of the outputs enters the choice."""
        return SecretChecks(self._secrets.check_key, self._session.parent)

    def _decide(self, message: Outputs, tensors: dict[str, Tensor]) -> bytes:
        """Steps 4 to 7."""
        if self._asked is None:
            raise RuntimeError("decide: expected the root of the outputs first")
        try:
            self._check_opening(message, tensors)
            scores = read_scores(tensors, self._method.clip)
            outputs = read_outputs(tensors, self._method.clip)
            check_root(outputs, message.leaf_key, self._session.name, self._root)
            judged = self._method.complete(self._method.judge(scores, outputs, self._asked))
            verdict = replace(judged, p=self._terms.criterion.p, judged=scores)
        except Rejected as rejected:
            verdict = self.fail(rejected)
        self.verdict = verdict
        decision = Decision(
            session=self._session.name,
            parent=self._session.parent,
            outcome=verdict.outcome.value,
        )
        return self._send(decision)

    def _check_opening(self, message: Outputs, tensors: dict[str, Tensor]) -> None:
        """Step 4: the attribution is the one committed to before the challenge."""
        names = attribution_layout(self._terms.n_train, self._terms.n_targets)
        check_opening(message.salt, {name: tensors[name] for name in names}, self._committed)
