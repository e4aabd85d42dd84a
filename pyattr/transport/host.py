"""Many sessions of one prover, each in a directory of its own below one state directory.

The name of a session's directory is the digest of its invitation, so the same invitation leads to the
same session whatever crashed in between. What a session has said is in its files alone: a host that
starts again answers every request as the one before it, and goes on with the trainings it finds
unfinished. Methods may be called from any thread; they wait for the disk but never for trainings.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from pyattr.errors import ProtocolError
from pyattr.protocol.audit import manifest_of
from pyattr.protocol.hashing import message_hash
from pyattr.protocol.signing import unseal
from pyattr.transport import durable
from pyattr.transport.answers import REQUEST_CAP, Progress
from pyattr.transport.directory import COMMITMENT, INVITATION, SessionReader
from pyattr.transport.hosted_session import HostedSession, NotThereError, Trainer
from pyattr.transport.terms import Quotas, Terms

__all__ = ["ClaimSpentError", "Host", "TooManyError"]

_PLACE: Final = re.compile(r"[0-9a-f]{64}")
_STOP_SECONDS: Final = 10.0


class TooManyError(RuntimeError):
    """As many sessions are open as may be."""


class ClaimSpentError(RuntimeError):
    """There were as many sessions about a claim as may be."""


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
        self._sessions: dict[str, HostedSession] = {}
        self._trainer, self._lock = Trainer(terms.retrain), threading.Lock()
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
                session = self._hosted(place, claim)
                session.begin(sealed)
                self._sessions[place] = session
        return place, session.commitment(sealed)

    def challenge(self, place: str, sealed: bytes) -> None:
        """Take a challenge, as `HostedSession.challenge`.

        Raises
        ------
        NotThereError
            If there is no such session.
        """
        self._session(place).challenge(sealed)

    def decide(self, place: str, sealed: bytes) -> None:
        """Take the decision, as `HostedSession.decide`.

        Raises
        ------
        NotThereError
            If there is no such session, or its outputs were not sent yet.
        """
        self._session(place).decide(sealed)

    def progress(self, place: str) -> Progress:
        """How far a session is.

        Raises
        ------
        NotThereError
            If there is none.
        """
        return self._session(place).progress()

    @contextmanager
    def opened_message(self, place: str, number: int) -> Iterator[tuple[BinaryIO, int]]:
        """Open a message of the prover, as `HostedSession.opened_message`.

        Raises
        ------
        NotThereError
            If there is no such session or message.
        """
        with self._session(place).opened_message(number) as opened:
            yield opened

    def stop(self) -> None:
        """Let trainings stop after the block they are at, wait a little for that, and let others in."""
        self._trainer.stop()
        until = time.monotonic() + _STOP_SECONDS
        for session in self._sessions.values():
            session.wait(max(0.0, until - time.monotonic()))
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
            try:
                manifest = manifest_of(unseal(sealed, self.terms.verifier))
            except ProtocolError:
                self._report(f"session {place[:16]}: of another verifier, left alone")
                continue
            session = self._sessions[place] = self._hosted(place, manifest.claim())
            session.take_up()

    def _hosted(self, place: str, claim: str) -> HostedSession:
        return HostedSession(self.root / place, claim, self.terms, self._trainer, self._report)

    def _session(self, place: str) -> HostedSession:
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
        if sum(not session.is_closed for session in recent) >= most.open_sessions:
            raise TooManyError(
                f"sessions: expected at most {most.open_sessions} to be open, got another"
            )
