"""One side of a session in its directory: signed messages, resumed wherever it stopped.

A side is made again from its secret whenever a process starts, and is given the messages that the
directory holds: what it sent before it sends again, byte for byte, and trainings it has paid for come
from its journal. So every step can be interrupted anywhere and repeated. What a side is bound to is on
the disk before anyone can see it: its secret first, then each message before it is handed on, and a
session's share of δ before the challenge is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from pyattr.interface import Retrain
from pyattr.protocol.audit import manifest_of
from pyattr.protocol.encoding import frame_size
from pyattr.protocol.journal import Journal
from pyattr.protocol.keys import PublicKey, SigningKey
from pyattr.protocol.manifest import Manifest, Subject, subject_digest
from pyattr.protocol.prover import Prover
from pyattr.protocol.session import State
from pyattr.protocol.signing import seal, sealed_size, unseal
from pyattr.protocol.verifier import Verifier
from pyattr.transport.directory import INVITATION, MESSAGES, SessionDirectory
from pyattr.transport.secret_file import kept_secret

__all__ = ["Side", "stated_manifest"]

JOURNAL_CAP: Final = 2**36


class Side(ABC):
    """What both sides do alike.

    Parameters
    ----------
    directory : SessionDirectory
        Of this side, locked.
    retrain : Retrain
    key : SigningKey
        Of this side.
    peer : PublicKey
        Whose messages count.
    subject : Subject
        What `retrain` is: trainings of anything else in the directory are refused.
    """

    own: ClassVar[tuple[int, ...]]
    """Numbers of the messages that this side sends."""

    def __init__(
        self,
        directory: SessionDirectory,
        retrain: Retrain,
        key: SigningKey,
        peer: PublicKey,
        subject: Subject,
    ) -> None:
        self.directory, self.key, self.peer = directory, key, peer
        self._secret = kept_secret(directory)
        self._blocks = directory.read_blocks(directory.role, JOURNAL_CAP)
        self._subject = subject_digest(subject)
        self._journal = Journal(
            retrain, self._blocks, directory.append_block, subject=self._subject
        )
        self._done = 0  # messages that this object has sent or received

    @property
    @abstractmethod
    def end(self) -> Prover | Verifier:
        """Prover or verifier, whichever this side is."""

    @property
    def state(self) -> State:
        """How far the session is, as far as this object has followed it."""
        return self.end.state

    @property
    def n_done(self) -> int:
        """Rows that were trained for this session so far, before this object was made as well."""
        return self._journal.n_replayed + self._journal.n_trained

    @abstractmethod
    def most_bytes(self) -> int:
        """Largest size of the peer's next message, sealed."""

    def awaited(self) -> int | None:
        """Number of the peer's message that comes next; None at the end."""
        return next((n for n in range(self._done, len(MESSAGES)) if n not in self.own), None)

    def put(self, number: int, sealed: bytes) -> None:
        """Store a message of the peer, once its signature holds.

        Raises
        ------
        ProtocolError
            If it is not signed by the peer.
        ConflictError
            If another message is there.
        """
        unseal(sealed, self.peer)
        self.directory.write_message(number, sealed)

    def message(self, number: int) -> bytes:
        """A message of this side, sealed.

        Raises
        ------
        FileNotFoundError
            If it was not sent yet.
        """
        return self.directory.read_message(number, JOURNAL_CAP)

    def advance(self, stop: int = len(MESSAGES)) -> int:
        """Go on as far as the messages in the directory lead, and write those that follow.

        Parameters
        ----------
        stop : int
            Message of the peer that is not read any more.

        Returns
        -------
        int
            Messages of the session so far.

        Raises
        ------
        ProtocolError
            If a message of the peer is not what it should be.
        """
        while (number := self.awaited()) is not None and number < stop:
            if not self.directory.has_message(number):
                break
            sealed = self.directory.read_message(number, self.most_bytes())
            answers = self._take(number, unseal(sealed, self.peer))
            self._done = number + 1
            for answer in answers:
                self._send(answer)
        return self._done

    def _take(self, number: int, data: bytes) -> tuple[bytes, ...]:
        return self.end.receive(data)

    def _send(self, data: bytes) -> None:
        sealed = seal(data, self.key)
        if not self.directory.has_message(self._done):
            self._before(self._done)
        self.directory.write_message(self._done, sealed)
        self._done += 1

    def _before(self, number: int) -> None:  # noqa: B027 - a prover has nothing to do
        """Put on the disk what has to be there before a message is."""


def stated_manifest(directory: SessionDirectory, verifier: PublicKey) -> Manifest | None:
    """The manifest of a verifier's invitation, if there is one."""
    if not directory.has_message(INVITATION):
        return None
    sealed = directory.read_message(INVITATION, sealed_size(frame_size({})))
    return manifest_of(unseal(sealed, verifier))
