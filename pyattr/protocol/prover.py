"""The prover of an interactive session: bytes in, bytes out.

1. Commit to scores and intercept, before anything about the challenge is known.
2. Receive the challenge; refuse one that is not what was agreed, or is too large.
3. Train every row of it, and send all outputs with the opening of the commitment.
4. Receive the outcome.
"""

from __future__ import annotations

import secrets
from typing import Final

import numpy as np
import numpy.typing as npt

from pyattr.errors import (
    ProtocolError,
    bad_value,
    check_count,
    check_positive,
    check_probability,
)
from pyattr.interface import Retrain
from pyattr.protocol.arrays import as_clip, attribution_tensors, to_tensor
from pyattr.protocol.challenges import design_of, row_blocks
from pyattr.protocol.encoding import decode_header, decode_tensors, encode, frame_size
from pyattr.protocol.equivalence import canonical
from pyattr.protocol.hashing import SALT_BYTES, commit
from pyattr.protocol.messages import DECODER, Challenge, Commitment, Decision, Response
from pyattr.protocol.session import Role, Session, State
from pyattr.verification.evaluate import Evaluator, Progress
from pyattr.verification.scores import HasScores, LinearScores
from pyattr.verification.verdict import Outcome

__all__ = ["Prover"]

NONCE_BYTES: Final = 32


class Prover:
    """Shows a verifier that an attribution is near-optimal, over one session.

    Parameters
    ----------
    retrain : callable
        ``retrain(masks, seeds) -> (n, n_targets) float32``.
    attribution : Attribution
        What is to be verified.
    p : float
        Probability that an example is in a mask, as agreed: any other is refused.
    clip : float, optional
        b, if it was agreed; otherwise the verifier's is taken.
    max_trainings : int
        Largest challenge that is answered.
    progress : callable, optional
        Called as ``progress(done, planned)`` after each block of trainings.

    Attributes
    ----------
    outcome : Outcome
        What the verifier decided; ABORT until it has.

    Raises
    ------
    ValueError
        If an argument is out of range, or `retrain` tells other sizes than the attribution has.
    """

    def __init__(
        self,
        retrain: Retrain,
        attribution: HasScores,
        *,
        p: float = 0.5,
        clip: float | None = None,
        max_trainings: int = 2**20,
        progress: Progress | None = None,
    ) -> None:
        self._scores = LinearScores.of(attribution)
        for name, own in (("n_train", self._scores.n_train), ("n_targets", self._scores.n_targets)):
            theirs = getattr(retrain, name, own)
            if theirs != own:
                raise bad_value("attribution", f"{name} = {theirs}, as retrain has", own)
        self._p = check_probability("p", p)
        self._clip = None if clip is None else as_clip(check_positive("clip", clip))
        self._max_trainings = check_count("max_trainings", max_trainings, 1)
        self._evaluate = Evaluator(retrain, self._scores.n_targets, progress=progress)
        self._salt = secrets.token_bytes(SALT_BYTES)
        self._session = Session(Role.PROVER)
        self.outcome = Outcome.ABORT

    @property
    def n_retrained(self) -> int:
        """Models trained in this session."""
        return self._evaluate.n_trained

    def start(self) -> bytes:
        """Return the first message: the commitment.

        Raises
        ------
        RuntimeError
            If the session has begun.
        """
        self._session.require(State.START)
        message = Commitment(
            nonce=secrets.token_bytes(NONCE_BYTES).hex(),
            n_train=self._scores.n_train,
            n_targets=self._scores.n_targets,
            digest=commit(self._salt, attribution_tensors(self._scores)),
        )
        data = encode(message)
        self._session.record(message, data)
        return data

    def receive(self, data: bytes) -> bytes | None:
        """Take the verifier's next message.

        Parameters
        ----------
        data : bytes

        Returns
        -------
        bytes or None
            The answer; None at the end.

        Raises
        ------
        ProtocolError
            If the message is wrong in form, out of order, or asks for what was not agreed. The session
            is dead then.
        RuntimeError
            If the session has not begun, is over or dead.
        TypeError
            If `data` is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"data: expected bytes, got {type(data).__name__}")
        self._session.require(State.COMMITTED, State.ANSWERED)
        try:
            message, rest = decode_header(data, DECODER, frame_size({}))
            self._session.receive(message)
            decode_tensors(rest, {})
            if isinstance(message, Challenge):
                self._check(message)
            self._session.record(message, data)
            if isinstance(message, Challenge):
                return self._respond(message)
            if isinstance(message, Decision):
                self.outcome = Outcome(message.outcome)
                return None
            raise ProtocolError(f"message: expected one of a verifier, got {message!r}")
        except BaseException:
            self._session.kill()
            raise

    def _check(self, challenge: Challenge) -> None:
        """Step 2."""
        if challenge.p != self._p:
            raise ProtocolError(f"p: expected {self._p}, as agreed, got {challenge.p}")
        agreed = as_clip(challenge.clip) if self._clip is None else self._clip
        if challenge.clip != agreed:
            raise ProtocolError(f"clip: expected the float32 {agreed}, got {challenge.clip}")
        n_asked = design_of(challenge).n_evaluations
        if n_asked > self._max_trainings:
            expected = f"at most {self._max_trainings} trainings"
            raise ProtocolError(f"design: expected {expected}, got {n_asked}")

    def _respond(self, challenge: Challenge) -> bytes:
        """Step 3."""
        outputs = self._outputs(challenge)
        message = Response(
            session=self._session.name, parent=self._session.parent, salt=self._salt.hex()
        )
        tensors = attribution_tensors(self._scores) | {"outputs": to_tensor(outputs)}
        data = encode(message, tensors)
        self._session.record(message, data)
        return data

    def _outputs(self, challenge: Challenge) -> npt.NDArray[np.float32]:
        """Train all rows of a challenge, (n_outputs, n_targets) float32 in [-b, b]."""
        design = design_of(challenge)
        self._evaluate.clip = challenge.clip
        self._evaluate.n_planned = design.n_evaluations
        outputs = np.empty((design.n_evaluations, self._scores.n_targets), np.float32)
        for start, masks, seeds in row_blocks(
            design, int(challenge.seed, 16), self._scores.n_train
        ):
            outputs[start : start + len(masks)] = canonical(self._evaluate(masks, seeds))
        return outputs
