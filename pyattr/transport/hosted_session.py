"""One session of a host: the files that hold what was said, and the thread that answers its challenge."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from pyattr.errors import ProtocolError
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.protocol.challenges import design_of
from pyattr.protocol.encoding import decode_header
from pyattr.protocol.messages import DECODER, Challenge
from pyattr.protocol.signing import unseal
from pyattr.transport.answers import REQUEST_CAP, Progress, State
from pyattr.transport.directory import (
    CHALLENGE,
    COMMITMENT,
    DECISION,
    INVITATION,
    OUTPUTS,
    SessionDirectory,
    SessionReader,
)
from pyattr.transport.durable import ConflictError
from pyattr.transport.prover_side import ProverSide
from pyattr.transport.terms import Terms

__all__ = ["HostedSession", "NotThereError", "StoppedError", "Trainer"]

_LOG: Final = logging.getLogger(__name__)


class NotThereError(LookupError):
    """There is no such session, or its message was not written yet."""


class StoppedError(RuntimeError):
    """The host is being stopped; the session goes on with the next one."""


class Trainer:
    """Trains for one session of a host at a time, until the host stops.

    Parameters
    ----------
    retrain : Retrain
    """

    def __init__(self, retrain: Retrain) -> None:
        self._retrain, self._lock, self._stopping = retrain, threading.Lock(), False

    def __call__(self, masks: Masks, seeds: npt.NDArray[np.uint64], /) -> npt.NDArray[np.float32]:
        """Train, after whoever is at it.

        Raises
        ------
        StoppedError
            If the host is being stopped.
        """
        with self._lock:
            if self._stopping:
                raise StoppedError("host: expected to go on, got stopped")
            return self._retrain(masks, seeds)

    def stop(self) -> None:
        """Refuse whatever is asked for from now on."""
        self._stopping = True


class HostedSession:
    """A session of a prover that answers requests, which may come from any thread.

    Parameters
    ----------
    path : Path
        Its directory.
    claim : str
        What it is about.
    terms : Terms
    trainer : Trainer
    report : callable
        Called with a line for the operator whenever something happens.

    Attributes
    ----------
    heard : float
        When it was asked for something last, by the monotonic clock.
    """

    def __init__(
        self,
        path: Path,
        claim: str,
        terms: Terms,
        trainer: Trainer,
        report: Callable[[str], None],
    ) -> None:
        self.claim, self.heard = claim, time.monotonic()
        self._path, self._terms, self._trainer, self._report = path, terms, trainer, report
        self._name = f"session {path.name[:16]}"
        self._lock = threading.Lock()  # one request at a time
        self._worker: threading.Thread | None = None
        self._side: ProverSide | None = None  # while the worker trains
        self._failed = False

    def begin(self, invitation: bytes) -> None:
        """Store an invitation, sealed, and commit to the scores."""
        with self._opened_side() as side:
            side.put(INVITATION, invitation)
            side.advance()
        self._report(f"{self._name}: begun")

    def commitment(self, invitation: bytes) -> bytes:
        """What was answered to the invitation, sealed.

        Raises
        ------
        ConflictError
            If the session has another invitation.
        """
        if not self._is_repeated(INVITATION, invitation):
            raise ProtocolError("invitation: expected it to be stored, got none")
        with self._reader() as reader:
            return reader.read_message(COMMITMENT, REQUEST_CAP)

    def challenge(self, sealed: bytes) -> None:
        """Take a challenge and train in the background; the same again lets a stopped training go on.

        Raises
        ------
        ProtocolError
            If it is refused.
        ConflictError
            If the session has another challenge.
        """
        with self._lock:
            if not self._is_repeated(CHALLENGE, sealed):
                self._put(CHALLENGE, sealed)
            self._start()

    def take_up(self) -> None:
        """Go on with trainings that another host left unfinished, if there are any."""
        with self._reader() as reader:
            unfinished = reader.has_message(CHALLENGE) and not reader.has_message(OUTPUTS)
        if unfinished:
            self._report(f"{self._name}: taken up again")
            self._start()

    def decide(self, sealed: bytes) -> None:
        """Take the decision.

        Raises
        ------
        NotThereError
            If the outputs were not sent yet.
        ProtocolError, ConflictError
            As `challenge`.
        """
        with self._lock:
            if self._is_repeated(DECISION, sealed):
                return
            with self._reader() as reader:
                if not reader.has_message(OUTPUTS):
                    raise NotThereError("outputs: expected them before a decision, got none yet")
            if self._worker is not None:  # it has nothing left to do
                self._worker.join()
            outcome = self._put(DECISION, sealed)
            self._report(f"{self._name}: closed with {outcome}")

    def progress(self) -> Progress:
        """How far it is."""
        with self._reader() as reader:
            stored = {n for n in (CHALLENGE, OUTPUTS, DECISION) if reader.has_message(n)}
            if CHALLENGE not in stored:
                return Progress(state="committed", done=0, planned=0)
            planned = self._planned(reader)
        if OUTPUTS in stored:
            state: State = "closed" if DECISION in stored else "answered"
            return Progress(state=state, done=planned, planned=planned)
        side, failed = self._side, self._failed
        done = 0 if side is None else min(side.n_done, planned)
        return Progress(state="failed" if failed else "training", done=done, planned=planned)

    @contextmanager
    def opened_message(self, number: int) -> Iterator[tuple[BinaryIO, int]]:
        """Open a message of the prover.

        Yields
        ------
        file : binary file
        size : int
            In bytes.

        Raises
        ------
        NotThereError
            If there is none.
        """
        with self._reader() as reader:
            if not reader.has_message(number):
                raise NotThereError("message: expected it to be written, got none yet")
            with reader.opened_message(number) as file:
                yield file, os.fstat(file.fileno()).st_size

    @property
    def is_closed(self) -> bool:
        """Whether the verifier has decided."""
        with self._reader() as reader:
            return reader.has_message(DECISION)

    def wait(self, seconds: float) -> None:
        """Wait a little for trainings under way."""
        if self._worker is not None:
            self._worker.join(seconds)

    def _reader(self) -> SessionReader:
        return SessionReader(self._path)

    @contextmanager
    def _opened_side(self) -> Iterator[ProverSide]:
        terms = self._terms
        with SessionDirectory(self._path, "prover", create=True) as directory:
            yield ProverSide(
                directory, self._trainer, terms.key, terms.verifier, terms.prover, terms.subject
            )

    def _is_repeated(self, number: int, sealed: bytes) -> bool:
        """Whether the very message is stored; another one in its place is a conflict."""
        with self._reader() as reader:
            if not reader.has_message(number):
                return False
            if reader.read_message(number, REQUEST_CAP) == sealed:
                return True
        raise ConflictError("message: expected the one that was sent before, got another")

    def _planned(self, reader: SessionReader) -> int:
        """Trainings that the stored challenge asks for."""
        data = unseal(reader.read_message(CHALLENGE, REQUEST_CAP), self._terms.verifier)
        message, _ = decode_header(data, DECODER, len(data))
        if not isinstance(message, Challenge):
            raise ProtocolError(f"message: expected a Challenge, got a {type(message).__name__}")
        return design_of(message.design, self._terms.p).n_evaluations

    def _put(self, number: int, sealed: bytes) -> str:
        """Store a message that the prover agrees with; returns the outcome that it then knows."""
        with self._opened_side() as side:
            outcome = side.check(number, sealed)
            side.put(number, sealed)
        return outcome

    def _start(self) -> None:
        """Answer a stored challenge in the background, if that is not done or under way."""
        with self._reader() as reader:
            if reader.has_message(OUTPUTS):
                return
        if self._worker is not None and self._worker.is_alive():
            return
        self._failed = False
        # A daemon: an interpreter that ends does not wait for a training.
        self._worker = threading.Thread(target=self._answer, daemon=True)
        self._worker.start()

    def _answer(self) -> None:
        try:
            with self._opened_side() as side:
                self._side = side
                side.advance(DECISION)
                self._report(f"{self._name}: answered with {side.n_done} trainings")
        except StoppedError:
            self._report(f"{self._name}: stopped, to be taken up again")
        except Exception as error:  # of anyone's training code; the verifier is told that it failed
            self._failed = True
            self._report(f"{self._name}: training failed, {type(error).__name__}: {error}")
            _LOG.error("%s: training failed", self._name, exc_info=True)
        finally:
            self._side = None
