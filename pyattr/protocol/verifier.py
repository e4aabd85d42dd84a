"""The verifier of an interactive session: bytes in, bytes out, a verdict at the end."""

from __future__ import annotations

from typing import Literal

from pyattr.errors import ProtocolError, Rejected, bad_value, check_count, check_positive
from pyattr.interface import Retrain
from pyattr.protocol.accepted import Accepted
from pyattr.protocol.arrays import as_clip
from pyattr.protocol.encoding import decode_header, decode_tensors, frame_size
from pyattr.protocol.gap_session import GapMethod
from pyattr.protocol.manifest import Manifest, Subject
from pyattr.protocol.messages import DECODER
from pyattr.protocol.method import Method
from pyattr.protocol.paper_session import PaperMethod
from pyattr.protocol.randomness import VerifierSecrets, check_secret
from pyattr.protocol.session import Role, Session, State
from pyattr.protocol.terms import Terms, agreed_size, arguments_of
from pyattr.protocol.tolerance import Calibration
from pyattr.protocol.verifier_steps import VerifierSteps
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.evaluate import Evaluator, Progress
from pyattr.verification.judge import Criterion
from pyattr.verification.verdict import Outcome, Verdict

__all__ = ["Verifier"]


class Verifier:
    """Checks a prover's attribution over one session; `pyattr.protocol.verifier_steps` has the steps.

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
        secrets = VerifierSecrets.of(check_secret(secret))
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
        terms = Terms(
            criterion,
            agreed_size("n_train", n_train, retrain),
            agreed_size("n_targets", n_targets, retrain),
            secrets.pilot,
            secrets.fresh,
            None if budget is None else check_count("budget", budget, 1),
            tolerance,
            spot_check_share,
            sampling,
            calibration.n_checks if calibration is not None and tolerance > 0.0 else None,
        )
        b = None if clip is None else as_clip(check_positive("clip", clip))
        evaluate = Evaluator(retrain, terms.n_targets, b, progress)
        said = {
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
        made = _method(method, evaluate, terms, design)
        self._steps = VerifierSteps(self._session, secrets, terms, made, said)

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
        words = arguments_of(manifest)
        return cls(retrain, **words, secret=secret, progress=progress)

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
        if self._steps.manifest is None:
            raise RuntimeError(f"manifest: expected start to have run, got {self.state}")
        return self._steps.manifest

    @property
    def verdict(self) -> Verdict:
        """The verdict, once the session is over.

        Raises
        ------
        RuntimeError
            If it is not over, or ended by an error of this side.
        """
        if self._steps.verdict is None:
            raise RuntimeError(f"verdict: expected the session to be over, got {self.state}")
        return self._steps.verdict

    @property
    def outcome(self) -> Outcome:
        """The verdict's outcome; ABORT as long as there is none."""
        return Outcome.ABORT if self._steps.verdict is None else self._steps.verdict.outcome

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
        if verdict.outcome is Outcome.ACCEPT and verdict.judged is not None:
            messages = self._session.messages
            return Accepted(verdict.judged, verdict, self.manifest, self.session, messages)
        if self._steps.rejected is not None:
            raise self._steps.rejected
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
            return self._steps.invite()
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
            layout = self._steps.expected_tensors()
            message, rest = decode_header(data, DECODER, frame_size(layout))
            self._session.receive(message)
            tensors = decode_tensors(rest, layout)
            self._session.record(message, data)
            return self._steps.take(message, tensors)
        except ProtocolError as error:
            self._session.kill()
            self._steps.fail(Rejected("form", str(error), "a message of this session"))
            raise
        except BaseException:
            self._session.kill()
            raise

    def largest_message(self) -> int:
        """Most bytes that the prover's next message can have: what a transport needs to allow."""
        return frame_size(self._steps.expected_tensors())


def _method(name: str, evaluate: Evaluator, terms: Terms, design: ClusterDesign | None) -> Method:
    if name == "gap":
        return GapMethod(evaluate, terms, design)
    if name != "paper":
        raise bad_value("method", "'gap' or 'paper'", repr(name))
    if design is not None:
        raise bad_value("design", "None with the paper's method", design)
    return PaperMethod(evaluate, terms)
