"""The verifier of an interactive session: bytes in, bytes out, a verdict at the end.

Algorithm 1 of Karchmer, Pawelczyk, Neel 2025, with the holes of its text closed (method.md, section
3.1) and, by default, gap estimation in place of its residual estimation (section 3.2):

1. Receive the commitment to scores and intercept. From here on the prover is bound: scores that fit
   the challenge itself would show no error however wrong they are.
2. Train a pilot, fix b and choose a design.
3. Send the challenge, E in the paper: a design and a seed.
4. Receive all outputs and the opening together. Check the opening against the commitment, and that
   scores and outputs are numbers in range.
5. Judge by the outputs. Where that leads to acceptance, find which sets of corrupted outputs it would
   survive (`pyattr.verification.corruption`).
6. Draw the spot checks, C in the paper, by the operating system's generator: only now, so that
   nothing the prover did can depend on them. So many that any other set is missed with probability at
   most δ_s. Retrain them and compare; on a difference retrain once more.
7. Send the outcome, and nothing that it rests on.
"""

from __future__ import annotations

import secrets
from typing import Final, Literal

from pyattr.errors import ProtocolError, Rejected, bad_value, check_count, check_positive
from pyattr.interface import Retrain
from pyattr.protocol.arrays import as_clip
from pyattr.protocol.challenges import parameters_of
from pyattr.protocol.encoding import (
    Layout,
    Tensor,
    decode_header,
    decode_tensors,
    encode,
    frame_size,
)
from pyattr.protocol.gap_session import GapMethod
from pyattr.protocol.messages import (
    DECODER,
    Challenge,
    Commitment,
    Decision,
    Response,
    attribution_layout,
    response_layout,
)
from pyattr.protocol.method import DrawChecks, Method, Secrets, Terms, agreed_size
from pyattr.protocol.paper_session import PaperMethod
from pyattr.protocol.response import check_opening, read_outputs, read_scores
from pyattr.protocol.session import Role, Session, State
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.evaluate import Evaluator, Progress
from pyattr.verification.judge import Criterion
from pyattr.verification.spot_check import draw_checks as draw_secretly
from pyattr.verification.verdict import Outcome, Verdict

__all__ = ["Verifier"]

NONCE_BYTES: Final = 32


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
    seed : int, optional
        Makes challenge and own trainings repeatable, for tests and demonstrations: a prover that knows
        it can cheat. Nonces and spot checks always come from the operating system.
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
    spot_check_share : float
        Share of delta for corrupted outputs that spot checks miss.
    sampling : {"uniform", "weighted"}
        Choose spot checks uniformly, or by how much each output could hide: fewer of them, and a random
        number (gap method).
    draw_checks : callable
        ``(n_outputs, n_checked) -> rows``; anything but the default is for tests.
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
        p: float = 0.5,
        method: Literal["gap", "paper"] = "gap",
        seed: int | None = None,
        design: ClusterDesign | None = None,
        budget: int | None = None,
        clip: float | None = None,
        tolerance: float = 0.0,
        spot_check_share: float = 0.2,
        sampling: Literal["uniform", "weighted"] = "uniform",
        bound: str = "chi2",
        relative: bool = True,
        nonlinearity: float = 0.02,
        intercept: str = "refit",
        simultaneous: bool = False,
        draw_checks: DrawChecks = draw_secretly,
        progress: Progress | None = None,
    ) -> None:
        self._terms = terms = Terms(
            Criterion(
                epsilon,
                delta,
                p,
                bound,
                relative,
                nonlinearity,
                intercept,
                simultaneous=simultaneous,
            ),
            agreed_size("n_train", n_train, retrain),
            agreed_size("n_targets", n_targets, retrain),
            Secrets.draw(seed),
            None if budget is None else check_count("budget", budget, 1),
            tolerance,
            spot_check_share,
            draw_checks,
            sampling,
        )
        b = None if clip is None else as_clip(check_positive("clip", clip))
        self._evaluate = Evaluator(retrain, terms.n_targets, b, progress)
        self._method = _method(method, self._evaluate, terms, design)
        self._session = Session(Role.VERIFIER)
        self._committed = ""
        self._verdict: Verdict | None = None

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

    def receive(self, data: bytes) -> bytes:
        """Take the prover's next message and return the answer to it.

        Parameters
        ----------
        data : bytes

        Returns
        -------
        bytes

        Raises
        ------
        ProtocolError
            If the message is wrong in form or out of order. The session is dead then, with the verdict
            ABORT. A message that is wrong in substance ends the session with ABORT and raises nothing.
        RuntimeError
            If the session is over or dead.
        TypeError
            If `data` is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"data: expected bytes, got {type(data).__name__}")
        self._session.require(State.START, State.CHALLENGED)
        try:
            layout = self._expected_tensors()
            message, rest = decode_header(data, DECODER, frame_size(layout))
            self._session.receive(message)
            tensors = decode_tensors(rest, layout)
            self._session.record(message, data)
            if isinstance(message, Commitment):
                return self._challenge(message)
            if isinstance(message, Response):
                return self._decide(message, tensors)
            raise ProtocolError(f"message: expected one of a prover, got {message!r}")
        except ProtocolError as error:
            self._session.kill()
            form = Rejected("form", str(error), "a message of this session")
            self._verdict = self._method.failed(form)
            raise
        except BaseException:
            self._session.kill()
            raise

    def _expected_tensors(self) -> Layout:
        if self._method.design is None:
            return {}
        n_outputs = self._method.design.n_evaluations
        return response_layout(n_outputs, self._terms.n_train, self._terms.n_targets)

    def _send(self, message: Challenge | Decision) -> bytes:
        data = encode(message)
        self._session.record(message, data)
        return data

    def _challenge(self, commitment: Commitment) -> bytes:
        """Steps 1 to 3."""
        terms = self._terms
        own = (terms.n_train, terms.n_targets)
        if (commitment.n_train, commitment.n_targets) != own:
            got = (commitment.n_train, commitment.n_targets)
            raise ProtocolError(f"n_train, n_targets: expected {own}, got {got}")
        self._committed = commitment.digest
        design = self._method.choose_design()
        nonce = secrets.token_bytes(NONCE_BYTES).hex()
        challenge = Challenge(
            session=self._session.name_with(nonce),
            parent=self._session.parent,
            nonce=nonce,
            design=parameters_of(design),
            p=terms.criterion.p,
            clip=self._method.clip,
            seed=f"{terms.seeds.challenge:016x}",
        )
        return self._send(challenge)

    def _decide(self, response: Response, tensors: dict[str, Tensor]) -> bytes:
        """Steps 4 to 7."""
        try:
            self._check_opening(response, tensors)
            scores = read_scores(tensors, self._method.clip)
            outputs = read_outputs(tensors, self._method.clip)
            self._verdict = self._method.complete(self._method.judge(scores, outputs))
        except Rejected as rejected:
            self._verdict = self._method.failed(rejected)
        decision = Decision(
            session=self._session.name,
            parent=self._session.parent,
            outcome=self._verdict.outcome.value,
        )
        return self._send(decision)

    def _check_opening(self, response: Response, tensors: dict[str, Tensor]) -> None:
        """Step 4: the attribution is the one committed to before the challenge."""
        names = attribution_layout(self._terms.n_train, self._terms.n_targets)
        check_opening(response.salt, {name: tensors[name] for name in names}, self._committed)


def _method(name: str, evaluate: Evaluator, terms: Terms, design: ClusterDesign | None) -> Method:
    if name == "gap":
        return GapMethod(evaluate, terms, design)
    if name != "paper":
        raise bad_value("method", "'gap' or 'paper'", repr(name))
    if design is not None:
        raise bad_value("design", "None with the paper's method", design)
    return PaperMethod(evaluate, terms)
