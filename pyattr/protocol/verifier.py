"""The verifier of an interactive session: bytes in, bytes out, a verdict at the end.

Algorithm 1 of Karchmer, Pawelczyk, Neel 2025, with the holes of its text closed (method.md, section
3.1) and, by default, gap estimation in place of its residual estimation (section 3.2):

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

from dataclasses import dataclass, replace
from typing import Any, Literal

from pyattr.errors import ProtocolError, Rejected, bad_value, check_count, check_positive
from pyattr.interface import Retrain
from pyattr.protocol.arrays import as_clip
from pyattr.protocol.challenges import design_of, parameters_of
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.encoding import (
    Layout,
    Tensor,
    decode_header,
    decode_tensors,
    encode,
    frame_size,
    tensor_bytes,
)
from pyattr.protocol.gap_session import GapMethod
from pyattr.protocol.hashing import equal, tensors_hash
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
    attribution_layout,
    n_leaves,
    outputs_layout,
)
from pyattr.protocol.method import Asked, Method, Terms, agreed_size
from pyattr.protocol.paper_session import PaperMethod
from pyattr.protocol.randomness import VerifierSecrets, challenge_seed, check_secret, sealed
from pyattr.protocol.response import check_opening, check_root, read_outputs, read_scores
from pyattr.protocol.session import Role, Session, State
from pyattr.protocol.tolerance import Calibration
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.evaluate import Evaluator, Progress
from pyattr.verification.judge import Criterion
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Outcome, Verdict

__all__ = ["Accepted", "Verifier"]

# Fields of a manifest that are no arguments of the same name and value.
_OTHERWISE = (
    "protocol",
    "prover",
    "verifier",
    "design",
    "design_agreed",
    "clip",
    "clip_agreed",
)


@dataclass(frozen=True)
class Accepted:
    """What a verifier has in hand after a session that ended in acceptance.

    Parameters
    ----------
    scores : LinearScores
        The attribution that was verified: the one that the prover was bound to.
    verdict : Verdict
    manifest : Manifest
        The terms that it was accepted under.
    session : str
        Session id.
    messages : tuple of bytes
        All six. With the secret and the trainings of this side they are the evidence that
        `pyattr.protocol.audit` makes the decision from again.
    """

    scores: LinearScores
    verdict: Verdict
    manifest: Manifest
    session: str
    messages: tuple[bytes, ...]


class Verifier:
    """Checks a prover's attribution over one session; see the module for the steps.

    Parameters
    ----------
    retrain : callable
        ``retrain(masks, seeds) -> (n, n_targets) float32``.
    n_train, n_targets : int, optional
        Sizes agreed; those of `retrain` by default, where it has them.
    epsilon, delta, p, bound, relative, nonlinearity, intercept, simultaneous
        As for `pyattr.verify`.
    method : {"gap", "paper"}
    attempts : int
        Sessions of the same claim that share `delta`; this one has an equal part of it.
    design : ClusterDesign, optional
        Of the gap method; chosen from a pilot if not given.
    budget : int, optional
        Most trainings of a challenge. With the paper's method, of the fresh subsets as well, and 96 by
        default: its plan is in ``verdict.details["n_planned"]``.
    clip : float, optional
        b, rounded to float32 and into [2^-40, 2^40]. f is clipped to [-b, b] by definition, by both
        sides. If not given, far outside the pilot's outputs (gap) or 1.25 times the largest of them
        (paper), where a smaller one needs fewer spot checks.
    tolerance : float
        Largest difference between equivalent outputs; 0 asks for equal bytes.
    calibration : Calibration, optional
        What the tolerance rests on, for the manifest (`pyattr.protocol.calibration`).
    spot_check_share : float
        Share of delta for corrupted outputs that spot checks miss.
    sampling : {"uniform", "weighted"}
        Choose spot checks uniformly, or by how much each output could hide: fewer of them, and a random
        number (gap method).
    subject : Subject, optional
        What `retrain` is, for the manifest.
    prover_key, key : str, optional
        Public keys of the prover and of this side, where messages are signed.
    secret : bytes, optional
        All randomness of this side: 32 bytes from the operating system's generator, by default. Given again
        after a crash, with the messages so far, it leads to the same bytes. A prover that knows it can cheat.
    progress : callable, optional
        Called as ``progress(done, planned)`` after each block of own trainings.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self,
        retrain: Retrain,
        *,
        n_train: int | None = None,
        n_targets: int | None = None,
        epsilon: float = 0.05,
        delta: float = 0.05,
        attempts: int = 1,
        p: float = 0.5,
        method: Literal["gap", "paper"] = "gap",
        design: ClusterDesign | None = None,
        budget: int | None = None,
        clip: float | None = None,
        tolerance: float = 0.0,
        calibration: Calibration | None = None,
        spot_check_share: float = 0.2,
        sampling: Literal["uniform", "weighted"] = "uniform",
        bound: str = "chi2",
        relative: bool = True,
        nonlinearity: float = 0.02,
        intercept: str = "refit",
        simultaneous: bool = False,
        subject: Subject | None = None,
        prover_key: str = "",
        key: str = "",
        secret: bytes | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._secrets = VerifierSecrets.of(check_secret(secret))
        check_count("attempts", attempts, 1)
        criterion = Criterion(
            epsilon,
            delta / attempts,
            p,
            bound,
            relative,
            nonlinearity,
            intercept,
            simultaneous=simultaneous,
        )
        self._terms = terms = Terms(
            criterion,
            agreed_size("n_train", n_train, retrain),
            agreed_size("n_targets", n_targets, retrain),
            self._secrets.pilot,
            self._secrets.fresh,
            None if budget is None else check_count("budget", budget, 1),
            tolerance,
            spot_check_share,
            sampling,
            calibration.n_checks if calibration is not None and tolerance > 0.0 else None,
        )
        b = None if clip is None else as_clip(check_positive("clip", clip))
        self._evaluate = Evaluator(retrain, terms.n_targets, b, progress)
        self._method = _method(method, self._evaluate, terms, design)
        self._manifest: Manifest | None = None
        self._said = {
            "subject": Subject() if subject is None else subject,
            "delta": float(delta),
            "attempts": attempts,
            "design_agreed": design is not None,
            "prover": prover_key,
            "verifier": key,
            "calibration": calibration,
            "clip_agreed": b is not None,
        }
        self._session = Session(Role.VERIFIER)
        self._committed, self._root = "", ""
        self._asked: Asked | None = None
        self._scores: LinearScores | None = None
        self._verdict: Verdict | None = None
        self._rejected: Rejected | None = None

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        retrain: Retrain,
        *,
        secret: bytes,
        progress: Progress | None = None,
    ) -> Verifier:
        """A verifier that goes on with a session, or makes it again for an audit.

        Parameters
        ----------
        manifest : Manifest
            Of the invitation.
        retrain : callable
        secret : bytes
        progress : callable, optional

        Returns
        -------
        Verifier
            Whose `start` gives the same invitation.
        """
        words: dict[str, Any] = {
            name: getattr(manifest, name)
            for name in manifest.__struct_fields__
            if name not in _OTHERWISE
        }
        given = design_of(manifest.design, manifest.p) if manifest.design_agreed else None
        return cls(
            retrain,
            **words,
            design=given if isinstance(given, ClusterDesign) else None,
            clip=manifest.clip if manifest.clip_agreed else None,
            prover_key=manifest.prover,
            key=manifest.verifier,
            secret=secret,
            progress=progress,
        )

    @property
    def state(self) -> State:
        """How far the session is."""
        return self._session.state

    @property
    def session(self) -> str:
        """Session id; "" until the commitment."""
        return self._session.name

    @property
    def manifest(self) -> Manifest:
        """The terms, once `start` has fixed them.

        Raises
        ------
        RuntimeError
            If it has not run.
        """
        if self._manifest is None:
            raise RuntimeError(f"manifest: expected start to have run, got {self.state}")
        return self._manifest

    @property
    def verdict(self) -> Verdict:
        """The verdict, once the session is over.

        Raises
        ------
        RuntimeError
            If it is not over, or ended by an error of this side.
        """
        if self._verdict is None:
            raise RuntimeError(
                f"verdict: expected the session to be over, got {self._session.state}"
            )
        return self._verdict

    @property
    def outcome(self) -> Outcome:
        """The verdict's outcome; ABORT as long as there is none."""
        return Outcome.ABORT if self._verdict is None else self._verdict.outcome

    def accepted(self) -> Accepted:
        """What was verified, or an exception: a result that cannot be taken for another.

        Returns
        -------
        Accepted

        Raises
        ------
        Rejected
            If the outcome is not ACCEPT; it names the check that failed, "gap" where all did pass.
        RuntimeError
            As from `verdict`.
        """
        verdict = self.verdict
        if verdict.outcome is Outcome.ACCEPT and self._scores is not None:
            messages = self._session.messages
            return Accepted(self._scores, verdict, self.manifest, self.session, messages)
        if self._rejected is not None:
            raise self._rejected
        raise Rejected("gap", f"{verdict.outcome}: {verdict.reason}", "ACCEPT")

    def start(self) -> bytes:
        """Train the pilot, and return the first message: the invitation (step 1).

        Raises
        ------
        RuntimeError
            If the session has begun.
        """
        self._session.require(State.START)
        try:
            design = parameters_of(self._method.choose_design())
            name, clip = self._method.name, self._method.clip
            self._manifest = self._terms.stated(name, clip, design=design, **self._said)
            message = Invitation(
                manifest=self._manifest,
                randomness=sealed("randomness", self._secrets.randomness),
                checks=sealed("check key", self._secrets.check_key),
            )
            return self._send(message)
        except BaseException:
            self._session.kill()
            raise

    def receive(self, data: bytes) -> tuple[bytes, ...]:
        """Take the prover's next message.

        Parameters
        ----------
        data : bytes

        Returns
        -------
        tuple of bytes
            The messages to send: the challenge after the commitment, none after the root of the outputs, the
            decision after the outputs.

        Raises
        ------
        ProtocolError
            If the message is wrong in form or out of order. The session is dead then, with the verdict
            ABORT. A message that is wrong in substance ends the session with ABORT and raises nothing.
        RuntimeError
            If the session has not begun, is over or dead.
        TypeError
            If `data` is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"data: expected bytes, got {type(data).__name__}")
        self._session.require(State.INVITED, State.CHALLENGED, State.ANSWERED)
        try:
            layout = self._expected_tensors()
            message, rest = decode_header(data, DECODER, frame_size(layout))
            self._session.receive(message)
            tensors = decode_tensors(rest, layout)
            self._session.record(message, data)
            return self._take(message, tensors)
        except ProtocolError as error:
            self._session.kill()
            self._rejected = Rejected("form", str(error), "a message of this session")
            self._verdict = self._method.failed(self._rejected)
            raise
        except BaseException:
            self._session.kill()
            raise

    def largest_message(self) -> int:
        """Most bytes that the prover's next message can have: what a transport needs to allow."""
        return frame_size(self._expected_tensors())

    def _take(self, message: Message, tensors: dict[str, Tensor]) -> tuple[bytes, ...]:
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

    def _expected_tensors(self) -> Layout:
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
            judged = self._method.judge(scores, outputs, self._asked)
            verdict = self._method.complete(judged)
            self._verdict = replace(verdict, p=self._terms.criterion.p, judged=scores)
            self._scores = scores
        except Rejected as rejected:
            self._rejected = rejected
            self._verdict = self._method.failed(rejected)
        decision = Decision(
            session=self._session.name,
            parent=self._session.parent,
            outcome=self._verdict.outcome.value,
        )
        return self._send(decision)

    def _check_opening(self, message: Outputs, tensors: dict[str, Tensor]) -> None:
        """Step 4: the attribution is the one committed to before the challenge."""
        names = attribution_layout(self._terms.n_train, self._terms.n_targets)
        check_opening(message.salt, {name: tensors[name] for name in names}, self._committed)


def _method(name: str, evaluate: Evaluator, terms: Terms, design: ClusterDesign | None) -> Method:
    if name == "gap":
        return GapMethod(evaluate, terms, design)
    if name != "paper":
        raise bad_value("method", "'gap' or 'paper'", repr(name))
    if design is not None:
        raise bad_value("design", "None with the paper's method", design)
    return PaperMethod(evaluate, terms)
