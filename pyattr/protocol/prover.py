"""The prover of an interactive session: bytes in, bytes out.

1. Receive the invitation; refuse a manifest that is not what was agreed.
2. Commit to scores and intercept, before anything about the challenge is known.
3. Receive the challenge; refuse one whose seed does not follow from the randomness of both, or that is
   too large: a verifier that could choose the subsets could learn about data by them.
4. Train every row of it. Commit to all outputs, then send them with the openings of both commitments.
5. Receive the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
from pyattr.protocol.arrays import as_clip, attribution_tensors, outputs_root, to_tensor
from pyattr.protocol.challenges import Design, design_of, row_blocks
from pyattr.protocol.encoding import (
    decode_header,
    decode_tensors,
    encode,
    frame_size,
    tensor_bytes,
)
from pyattr.protocol.equivalence import canonical
from pyattr.protocol.hashing import commit, equal, tensors_hash
from pyattr.protocol.manifest import Manifest, Subject
from pyattr.protocol.messages import (
    DECODER,
    Challenge,
    Commitment,
    Decision,
    Invitation,
    Message,
    Outputs,
    OutputsCommitment,
    n_leaves,
)
from pyattr.protocol.randomness import ProverSecrets, challenge_seed, check_secret, opens
from pyattr.protocol.session import Role, Session, State
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.evaluate import Evaluator, Progress
from pyattr.verification.scores import HasScores, LinearScores
from pyattr.verification.verdict import Outcome

__all__ = ["Prover"]

CLIPPED_SHARE: Final = 0.01  # of a target's outputs: with more, none is accepted (`judge_gap`)

# What may differ between parties that calibrated a tolerance.
_OF_MACHINES = ("platform", "versions")


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
        b, if it was agreed; otherwise the verifier's is taken, unless it cuts off 1% of outputs or more.
    subject : Subject, optional
        What `retrain` is; a manifest about anything else is refused. Not compared if not given.
    tolerance : float
        τ, as agreed.
    agreed : mapping, optional
        Other fields of `Manifest` that were agreed, such as ``{"epsilon": 0.05, "delta": 0.05}``: an
        invitation that states others is refused. What is not given is for the verifier to choose: it may then
        ask for what no prover can show.
    key, verifier_key : str, optional
        Public keys that the manifest must name, where messages are signed.
    max_trainings : int
        Largest challenge that is answered.
    min_trainings : int
        Smallest challenge that scores are opened for: one that is too small decides nothing.
    secret : bytes, optional
        All randomness of this side: 32 bytes from the operating system's generator, by default. Given again
        after a crash, with the messages so far, it leads to the same bytes. Whoever knows it before the
        session is over knows the scores' salt.
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
        subject: Subject | None = None,
        tolerance: float = 0.0,
        agreed: Mapping[str, Any] | None = None,
        key: str = "",
        verifier_key: str = "",
        max_trainings: int = 2**20,
        min_trainings: int = 1,
        secret: bytes | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._scores = LinearScores.of(attribution)
        for name, own in (("n_train", self._scores.n_train), ("n_targets", self._scores.n_targets)):
            theirs = getattr(retrain, name, None)
            if theirs not in (None, own):
                raise bad_value("attribution", f"{name} = {theirs}, as retrain has", own)
        self._agreed = {
            "n_train": self._scores.n_train,
            "n_targets": self._scores.n_targets,
            "p": check_probability("p", p),
            "tolerance": tolerance,
            "prover": key,
            "verifier": verifier_key,
            **_checked_terms(agreed or {}),
        }
        if clip is not None:
            self._agreed["clip"] = as_clip(check_positive("clip", clip))
        self._subject = subject
        self._max_trainings = check_count("max_trainings", max_trainings, 1)
        self._min_trainings = check_count("min_trainings", min_trainings, 1)
        self._evaluate = Evaluator(retrain, self._scores.n_targets, progress=progress)
        self._secrets = ProverSecrets.of(check_secret(secret))
        self._session = Session(Role.PROVER)
        self._invitation: Invitation | None = None
        self.outcome = Outcome.ABORT

    @property
    def n_retrained(self) -> int:
        """Models trained in this session."""
        return self._evaluate.n_trained

    @property
    def state(self) -> State:
        """How far the session is."""
        return self._session.state

    @property
    def session(self) -> str:
        """Session id; "" until the commitment."""
        return self._session.name

    def receive(self, data: bytes) -> tuple[bytes, ...]:
        """Take the verifier's next message.

        Parameters
        ----------
        data : bytes

        Returns
        -------
        tuple of bytes
            The messages to send, in order: one after the invitation, two after the challenge, none at last.

        Raises
        ------
        ProtocolError
            If the message is wrong in form, out of order, or asks for what was not agreed. The session
            is dead then.
        RuntimeError
            If the session is over or dead.
        TypeError
            If `data` is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"data: expected bytes, got {type(data).__name__}")
        self._session.require(State.START, State.COMMITTED, State.OPENED)
        try:
            message, rest = decode_header(data, DECODER, frame_size({}))
            self._session.receive(message)
            decode_tensors(rest, {})
            return self._take(message, data)
        except BaseException:
            self._session.kill()
            raise

    def _take(self, message: Message, data: bytes) -> tuple[bytes, ...]:
        if isinstance(message, Invitation):
            self._agree(message.manifest)
            self._session.record(message, data)
            self._invitation = message
            return (self._commit(),)
        if isinstance(message, Challenge) and self._invitation is not None:
            design = self._check(message, self._invitation)
            self._session.record(message, data)
            return self._answer(message, design, self._invitation.manifest)
        if isinstance(message, Decision):
            self._session.record(message, data)
            self.outcome = Outcome(message.outcome)
            return ()
        raise ProtocolError(f"message: expected one of a verifier, got {message!r}")

    def _send(self, message: Message, data: bytes) -> bytes:
        self._session.record(message, data)
        return data

    def _agree(self, manifest: Manifest) -> None:
        """Step 1."""
        for name, expected in self._agreed.items():
            got = getattr(manifest, name)
            if got != expected:
                raise ProtocolError(f"{name}: expected {expected!r}, as agreed, got {got!r}")
        if manifest.clip != as_clip(manifest.clip):
            raise ProtocolError(f"clip: expected a float32, got {manifest.clip}")
        if self._subject is not None:
            for name in self._subject.__struct_fields__:
                if manifest.tolerance > 0.0 and name in _OF_MACHINES:
                    continue
                expected, got = getattr(self._subject, name), getattr(manifest.subject, name)
                if got != expected:
                    raise ProtocolError(
                        f"subject.{name}: expected {expected!r}, as agreed, got {got!r}"
                    )
        design = design_of(manifest.design, manifest.p)
        if (
            design.n_evaluations < self._min_trainings
        ):  # too few to decide, and it would have the scores
            expected = f"at least {self._min_trainings} trainings"
            raise ProtocolError(f"design: expected {expected}, got {design.n_evaluations}")
        if design.n_evaluations > self._max_trainings:
            expected = f"at most {self._max_trainings} trainings"
            raise ProtocolError(f"design: expected {expected}, got {design.n_evaluations}")

    def _commit(self) -> bytes:
        """Step 2."""
        message = Commitment(
            parent=self._session.parent,
            randomness=self._secrets.randomness.hex(),
            digest=commit(self._secrets.salt, attribution_tensors(self._scores)),
        )
        return self._send(message, encode(message))

    def _check(self, challenge: Challenge, invitation: Invitation) -> Design:
        """Step 3."""
        if not opens(invitation.randomness, "randomness", challenge.randomness):
            raise ProtocolError("randomness: expected what the invitation sealed, got another")
        verifiers = bytes.fromhex(challenge.randomness)
        seed = challenge_seed(verifiers, self._secrets.randomness, self._session.parent)
        if not equal(challenge.seed, seed):
            raise ProtocolError(
                "seed: expected the one that both parties' randomness gives, got another"
            )
        if challenge.design != invitation.manifest.design:
            expected = f"{invitation.manifest.design}, as stated"
            raise ProtocolError(f"design: expected {expected}, got {challenge.design}")
        return design_of(challenge.design, invitation.manifest.p)

    def _answer(
        self, challenge: Challenge, design: Design, manifest: Manifest
    ) -> tuple[bytes, ...]:
        """Step 4."""
        outputs = self._outputs(design, int(challenge.seed, 16), manifest.clip)
        root = OutputsCommitment(
            session=self._session.name,
            parent=self._session.parent,
            root=outputs_root(outputs, self._secrets.leaf_key, self._session.name),
            n_leaves=n_leaves(len(outputs)),
        )
        first = self._send(root, encode(root))
        tensors = attribution_tensors(self._scores) | {"outputs": to_tensor(outputs)}
        message = Outputs(
            session=self._session.name,
            parent=self._session.parent,
            salt=self._secrets.salt.hex(),
            leaf_key=self._secrets.leaf_key.hex(),
            tensors=tensors_hash(tensor_bytes(tensors)),
        )
        return first, self._send(message, encode(message, tensors))

    def _outputs(self, design: Design, seed: int, clip: float) -> npt.NDArray[np.float32]:
        """Train all rows of a challenge, (n_outputs, n_targets) float32 in [-b, b]."""
        self._evaluate.clip = clip
        self._evaluate.n_planned = design.n_evaluations
        outputs = np.empty((design.n_evaluations, self._scores.n_targets), np.float32)
        for start, masks, seeds in row_blocks(design, seed, self._scores.n_train):
            outputs[start : start + len(masks)] = canonical(self._evaluate(masks, seeds))
        share = float(self._evaluate.clipped_shares.max())
        gap = isinstance(design, ClusterDesign)  # the paper's method clips by intent
        if gap and "clip" not in self._agreed and share > CLIPPED_SHARE:
            expected = f"one that cuts off at most {CLIPPED_SHARE:.0%} of outputs"
            raise ProtocolError(
                f"clip: expected {expected}, got {clip}, which cuts off {share:.0%}"
            )
        return outputs


def _checked_terms(agreed: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(agreed) - set(Manifest.__struct_fields__))
    if unknown:
        raise bad_value("agreed", "fields of a manifest", ", ".join(unknown))
    return dict(agreed)
