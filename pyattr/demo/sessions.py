"""The interactive part of the demo: a prover that does its work, and three that save it."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from pyattr.demo.cases import Case, CaseProgress, Judged, Metered, Terms
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.protocol import Prover, Verifier, run
from pyattr.protocol.arrays import attribution_tensors
from pyattr.protocol.encoding import decode_header, decode_tensors, encode, tensor_bytes
from pyattr.protocol.hashing import tensors_hash
from pyattr.protocol.messages import DECODER, outputs_layout
from pyattr.protocol.randomness import secret_of
from pyattr.protocol.session import State
from pyattr.retraining.ensemble import Ensemble
from pyattr.verification import Verdict
from pyattr.verification.cheats import (
    AnswersFromScores,
    FitsAfterChallenge,
    HalvedScores,
    TrainsFraction,
)
from pyattr.verification.judge import Criterion
from pyattr.verification.naive import judge_naive
from pyattr.verification.scores import HasScores, LinearScores

__all__ = ["judge_sessions"]

# A challenge costs the prover; twice the trainings of a verifier that makes its own need half the checks.
CHALLENGE_SIZE = 2
_SECRET = secret_of(0)  # of every prover: the demo is to show the same whenever it runs
Rows = npt.NDArray[np.float32]
Seeds = npt.NDArray[np.uint64]


class _Recorder:
    """A prover's `retrain` that keeps what it was asked and what it answered.

    Parameters
    ----------
    answer : Retrain
    """

    def __init__(self, answer: Retrain) -> None:
        self._answer = answer
        self._masks: list[Masks] = []
        self._outputs: list[Rows] = []

    def __call__(self, masks: Masks, seeds: Seeds, /) -> Rows:
        """Answer, and remember; see `Retrain`."""
        outputs = self._answer(masks, seeds).astype(np.float32, copy=False)
        self._masks.append(masks)
        self._outputs.append(outputs)
        return outputs

    @property
    def record(self) -> tuple[Masks, Rows]:
        """All rows of the challenge and the answers."""
        return Masks.concatenate(self._masks), np.concatenate(self._outputs)


class _FitsLate(Prover):
    """Commits to zeros, trains the challenge, and opens scores that were fitted to it.

    Parameters
    ----------
    recorder : _Recorder
        Trains, and keeps the challenge.
    n_train, n_targets : int
    """

    def __init__(self, recorder: _Recorder, n_train: int, n_targets: int) -> None:
        zeros = np.zeros((n_train, n_targets), np.float32)
        super().__init__(recorder, LinearScores(zeros, zeros[0]), secret=_SECRET)
        self._recorder, self._shape = recorder, (n_train, n_targets)
        self.published: LinearScores | None = None

    def receive(self, data: bytes) -> tuple[bytes, ...]:
        """Take the verifier's next message; see `Prover.receive`."""
        if self.published is not None:
            return ()  # the decision, about outputs that the honest half never sent
        answers = super().receive(data)
        if self.state is not State.OPENED:
            return answers
        masks, outputs = self._recorder.record
        self.published = FitsAfterChallenge().refit(masks, outputs)
        root, opened = answers
        message, rest = decode_header(opened, DECODER, len(opened))
        tensors = decode_tensors(rest, outputs_layout(len(outputs), *self._shape))
        tensors |= attribution_tensors(self.published)
        bound = tensors_hash(tensor_bytes(tensors))
        return root, encode(msgspec.structs.replace(message, tensors=bound), tensors)


def judge_sessions(
    ensemble: Ensemble,
    honest: HasScores,
    n_prover: int,
    terms: Terms,
    progress: CaseProgress,
) -> list[Judged]:
    """Run the interactive protocol with the honest prover and with three that save work.

    Nothing is remembered between sessions, nor between the two sides: a spot check trains again.

    Parameters
    ----------
    ensemble : Ensemble
    honest : HasScores
    n_prover : int
        Models behind the honest scores.
    terms : Terms
    progress : callable

    Returns
    -------
    list of Judged
    """
    halved = HalvedScores()(honest)
    cases: list[tuple[Case, HasScores | None]] = [
        (Case("session_honest", "honest", "honest", True), honest),
        (Case("session_half", "trains half the challenge", "lie", True), honest),
        (Case("session_scores", "halves, answers from scores", "lie", True), halved),
        (Case("session_late", "fits after the challenge", "lie", True), None),
    ]
    judged = []
    for done, (case, published) in enumerate(cases):
        progress(done, len(cases))
        behind = 0 if published is None else n_prover
        judged.append(_judge_session(ensemble, case, published, behind, terms))
    progress(len(cases), len(cases))
    return judged


def _answers(case: Case, retrain: Retrain, published: HasScores | None) -> Retrain:
    """How the prover of a session answers."""
    if case.key == "session_half" and published is not None:
        return TrainsFraction(retrain, published)
    if case.key == "session_scores" and published is not None:
        return AnswersFromScores(published)
    return retrain


class _Session(NamedTuple):
    """What is left of a session."""

    verdict: Verdict
    published: LinearScores
    asked: Masks
    answered: Rows
    n_prover: int  # models that the prover trained in it
    seconds: float


def _run_session(
    ensemble: Ensemble,
    case: Case,
    published: HasScores | None,
    terms: Terms,
    method: Literal["gap", "paper"],
) -> _Session:
    """Let one prover meet one verifier; scores of None are fitted after the challenge."""
    own, started = Metered(ensemble), time.perf_counter()
    recorder = _Recorder(_answers(case, own, published))
    late = _FitsLate(recorder, own.n_train, own.n_targets)
    prover = late if published is None else Prover(recorder, published, secret=_SECRET)
    verifier = Verifier(
        Metered(ensemble),
        epsilon=terms.epsilon,
        delta=terms.delta,
        method=method,
        secret=secret_of(terms.seed),
        budget=CHALLENGE_SIZE * terms.budget if method == "gap" else None,
    )
    verdict = run(prover, verifier)
    seconds = time.perf_counter() - started
    opened = late.published if published is None else LinearScores.of(published)
    if opened is None:
        raise RuntimeError("session: expected a response, got none")
    return _Session(verdict, opened, *recorder.record, own.n_trained, seconds)


def _judge_session(
    ensemble: Ensemble, case: Case, published: HasScores | None, n_behind: int, terms: Terms
) -> Judged:
    """Judge one prover by the gap method, by the paper's, and naively by its own answers."""
    gap = _run_session(ensemble, case, published, terms, "gap")
    paper = _run_session(ensemble, case, published, terms, "paper")
    criterion = Criterion(terms.epsilon, terms.delta)
    naive = judge_naive(criterion, gap.asked, gap.answered, gap.published, terms.threshold)
    return Judged(
        case,
        gap.published,
        naive=naive,
        paper=paper.verdict,
        gap=gap.verdict,
        n_prover=n_behind + gap.n_prover,
        seconds={"gap": gap.seconds, "paper": paper.seconds},
    )
