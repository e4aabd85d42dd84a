"""Many sessions of one prover, each in a directory of its own below one state directory.

The name of a session's directory is the digest of its invitation, so the same invitation leads to the
same session whatever crashed in between. What a session has said is in its files alone: a host that
starts again answers every request as the one before it, and goes on with the trainings it finds
unfinished. Methods may be called from any thread; they wait for the disk but never for trainings.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from pyattr.errors import ProtocolError
from pyattr.masks import Masks
from pyattr.protocol.audit import manifest_of
from pyattr.protocol.challenges import design_of
from pyattr.protocol.encoding import decode_header
from pyattr.protocol.hashing import message_hash
from pyattr.protocol.messages import DECODER, Challenge
from pyattr.protocol.signing import unseal
from pyattr.transport import durable
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
from pyattr.transport.prover_side import ProverSide
from pyattr.transport.terms import Quotas, Terms

__all__ = [
    "ClaimSpentError",
    "Host",
    "NotThereError",
    "StoppedError",
    "TooManyError",
]

_LOG: Final = logging.getLogger(__name__)
_PLACE: Final = re.compile(r"[0-9a-f]{64}")
_STOP_SECONDS: Final = 10.0


class NotThereError(LookupError):
    """There is no such session, or its message was not written yet."""


class TooManyError(RuntimeError):
    """As many sessions are open as may be."""


class ClaimSpentError(RuntimeError):
    """There were as many sessions about a claim as may be."""


class StoppedError(RuntimeError):
    """The host is being stopped; the session goes on with the next one."""


@dataclass
class _Session:
    """What is known of a session besides its files."""

    place: str
    claim: str
    heard: float
    lock: threading.Lock = field(default_factory=threading.Lock)  # one request at a time
    worker: threading.Thread | None = None
    side: ProverSide | None = None  # while its worker trains
    failed: bool = False


class Host:
    """Answers for a prover.

    Parameters
    ----------
    root : Path
        State directory, made if it is not there, for the owner alone. One process at a time.
    terms : Terms
    quotas : Quotas
    report : callable, optional
        Called with a line for the operator whenever something happens, from any thread.

    Raises
    ------
    BusyError
        If another process uses the directory.
    ValueError
        If the terms are no prover's.
    """

    def __init__(
        self,
        root: Path,
        terms: Terms,
        quotas: Quotas | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        terms.prover(terms.retrain)  # refuses terms that are none
        self.root, self.terms, self.quotas, self._report = root, terms, quotas or Quotas(), report
        self._sessions: dict[str, _Session] = {}
        self._lock, self._training = threading.Lock(), threading.Lock()
        self._stopping = False
        durable.make_directories(root.absolute())
        with durable.opened(root) as directory:
            self._held = durable.take_lock(directory, "lock")
        try:
            self._find()
        except BaseException:
            self.stop()
            raise

    def invite(self, sealed: bytes) -> tuple[str, bytes]:
        """Take an invitation; the same again gets the same answer.

        Returns
        -------
        place : str
            Name of the session, 64 hexadecimal digits.
        commitment : bytes
            Sealed.

        Raises
        ------
        ProtocolError
            If it is refused.
        TooManyError, ClaimSpentError
            If the quotas do not allow another session.
        ConflictError
            If the session has another invitation.
        """
        data = unseal(sealed, self.terms.verifier)
        place = message_hash(data)
        with self._lock:
            session = self._sessions.get(place)
            if session is None:
                self.terms.prover(self.terms.retrain).receive(data)
                claim = manifest_of(data).claim()
                self._check_quotas(claim)
                self._commit(place, sealed)
                session = self._sessions[place] = _Session(place, claim, time.monotonic())
                self._report(f"session {place[:16]}: begun")
        if not self._is_repeated(session, INVITATION, sealed):
            raise ProtocolError("invitation: expected it to be stored, got none")
        with self._reader(session) as reader:
            return place, reader.read_message(COMMITMENT, REQUEST_CAP)

    def challenge(self, place: str, sealed: bytes) -> None:
        """Take a challenge and train in the background; the same again lets a stopped training go on.

        Raises
        ------
        NotThereError
            If there is no such session.
        ProtocolError
            If it is refused.
        ConflictError
            If the session has another challenge.
        """
        session = self._session(place)
        with session.lock:
            if not self._is_repeated(session, CHALLENGE, sealed):
                self._put(session, CHALLENGE, sealed)
            self._start(session)

    def decide(self, place: str, sealed: bytes) -> None:
        """Take the decision.

        Raises
        ------
        NotThereError
            If there is no such session, or its outputs were not sent yet.
        ProtocolError, ConflictError
            As `challenge`.
        """
        session = self._session(place)
        with session.lock:
            if self._is_repeated(session, DECISION, sealed):
                return
            with self._reader(session) as reader:
                if not reader.has_message(OUTPUTS):
                    raise NotThereError("outputs: expected them before a decision, got none yet")
            if session.worker is not None:  # it has nothing left to do
                session.worker.join()
            outcome = self._put(session, DECISION, sealed)
            self._report(f"session {place[:16]}: closed with {outcome}")

    def progress(self, place: str) -> Progress:
        """How far a session is.

        Raises
        ------
        NotThereError
            If there is none.
        """
        session = self._session(place)
        with self._reader(session) as reader:
            stored = {n for n in (CHALLENGE, OUTPUTS, DECISION) if reader.has_message(n)}
            if CHALLENGE not in stored:
                return Progress(state="committed", done=0, planned=0)
            planned = self._planned(reader)
        if OUTPUTS in stored:
            state: State = "closed" if DECISION in stored else "answered"
            return Progress(state=state, done=planned, planned=planned)
        side, failed = session.side, session.failed
        done = 0 if side is None else min(side.n_done, planned)
        return Progress(state="failed" if failed else "training", done=done, planned=planned)

    @contextmanager
    def opened_message(self, place: str, number: int) -> Iterator[tuple[BinaryIO, int]]:
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
        session = self._session(place)
        with self._reader(session) as reader:
            if not reader.has_message(number):
                raise NotThereError("message: expected it to be written, got none yet")
            with reader.opened_message(number) as file:
                yield file, os.fstat(file.fileno()).st_size

    def stop(self) -> None:
        """Let trainings stop after the block they are at, wait a little for that, and let others in."""
        self._stopping = True
        until = time.monotonic() + _STOP_SECONDS
        for session in self._sessions.values():
            if session.worker is not None:
                session.worker.join(max(0.0, until - time.monotonic()))
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _find(self) -> None:
        """Take up the sessions that the state directory holds."""
        for place in sorted(folder.name for folder in self.root.iterdir()):
            if not _PLACE.fullmatch(place):
                continue
            with SessionReader(self.root / place) as reader:
                if not reader.has_message(COMMITMENT):
                    continue  # nobody was told of it: the invitation comes again
                sealed = reader.read_message(INVITATION, REQUEST_CAP)
                unfinished = reader.has_message(CHALLENGE) and not reader.has_message(OUTPUTS)
            try:
                manifest = manifest_of(unseal(sealed, self.terms.verifier))
            except ProtocolError:
                self._report(f"session {place[:16]}: of another verifier, left alone")
                continue
            session = _Session(place, manifest.claim(), time.monotonic())
            self._sessions[place] = session
            if unfinished:
                self._report(f"session {place[:16]}: taken up again")
                self._start(session)

    def _session(self, place: str) -> _Session:
        session = self._sessions.get(place)
        if session is None:
            raise NotThereError("session: expected the name of one that was begun, got another")
        session.heard = time.monotonic()
        return session

    def _check_quotas(self, claim: str) -> None:
        now, most = time.monotonic(), self.quotas
        if Counter(s.claim for s in self._sessions.values())[claim] >= most.per_claim:
            raise ClaimSpentError(
                f"sessions: expected at most {most.per_claim} of one claim, got another"
            )
        recent = [s for s in self._sessions.values() if now - s.heard < most.idle_seconds]
        if sum(not self._is_closed(session) for session in recent) >= most.open_sessions:
            raise TooManyError(
                f"sessions: expected at most {most.open_sessions} to be open, got another"
            )

    def _is_closed(self, session: _Session) -> bool:
        with self._reader(session) as reader:
            return reader.has_message(DECISION)

    def _is_repeated(self, session: _Session, number: int, sealed: bytes) -> bool:
        """Whether the very message is stored; another one in its place is a conflict."""
        with self._reader(session) as reader:
            if not reader.has_message(number):
                return False
            if reader.read_message(number, REQUEST_CAP) == sealed:
                return True
        raise durable.ConflictError("message: expected the one that was sent before, got another")

    def _reader(self, session: _Session) -> SessionReader:
        return SessionReader(self.root / session.place)

    @contextmanager
    def _side(self, place: str) -> Iterator[ProverSide]:
        terms = self.terms
        with SessionDirectory(self.root / place, "prover", create=True) as directory:
            yield ProverSide(
                directory, self._train, terms.key, terms.verifier, terms.prover, terms.subject
            )

    def _planned(self, reader: SessionReader) -> int:
        """Trainings that the stored challenge asks for."""
        data = unseal(reader.read_message(CHALLENGE, REQUEST_CAP), self.terms.verifier)
        message, _ = decode_header(data, DECODER, len(data))
        if not isinstance(message, Challenge):
            raise ProtocolError(f"message: expected a Challenge, got a {type(message).__name__}")
        return design_of(message.design, self.terms.p).n_evaluations

    def _commit(self, place: str, sealed: bytes) -> None:
        with self._side(place) as side:
            side.put(INVITATION, sealed)
            side.advance()

    def _put(self, session: _Session, number: int, sealed: bytes) -> str:
        """Store a message that the prover agrees with; returns the outcome that it then knows."""
        with self._side(session.place) as side:
            outcome = side.check(number, sealed)
            side.put(number, sealed)
        return outcome

    def _start(self, session: _Session) -> None:
        """Answer a stored challenge in the background, if that is not done or under way."""
        with self._reader(session) as reader:
            if reader.has_message(OUTPUTS):
                return
        if session.worker is not None and session.worker.is_alive():
            return
        session.failed = False
        # A daemon: an interpreter that ends does not wait for a training.
        session.worker = threading.Thread(target=self._answer, args=(session,), daemon=True)
        session.worker.start()

    def _answer(self, session: _Session) -> None:
        name = f"session {session.place[:16]}"
        try:
            with self._side(session.place) as side:
                session.side = side
                side.advance(DECISION)
                self._report(f"{name}: answered with {side.n_done} trainings")
        except StoppedError:
            self._report(f"{name}: stopped, to be taken up again")
        except Exception as error:  # of anyone's training code; the verifier is told that it failed
            session.failed = True
            self._report(f"{name}: training failed, {type(error).__name__}: {error}")
            _LOG.error("%s: training failed", name, exc_info=True)
        finally:
            session.side = None

    def _train(self, masks: Masks, seeds: npt.NDArray[np.uint64], /) -> npt.NDArray[np.float32]:
        """Train for one session at a time."""
        with self._training:
            if self._stopping:
                raise StoppedError("host: expected to go on, got stopped")
            return self.terms.retrain(masks, seeds)
