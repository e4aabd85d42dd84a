"""One side of a session in its directory: signed messages, resumed wherever it stopped.

A side is made again from its secret whenever a process starts, and is given the messages that the
directory holds: what it sent before it sends again, byte for byte, and trainings it has paid for come
from its journal. So every step can be interrupted anywhere and repeated. What a side is bound to is on
the disk before anyone can see it: its secret first, then each message before it is handed on, and a
session's share of δ before the challenge is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final

import msgspec

from pyattr.errors import ProtocolError
from pyattr.interface import Retrain
from pyattr.protocol.audit import manifest_of
from pyattr.protocol.encoding import frame_size
from pyattr.protocol.journal import Journal, NotRecordedError
from pyattr.protocol.keys import PublicKey, SigningKey
from pyattr.protocol.manifest import Manifest, Subject, subject_digest
from pyattr.protocol.prover import Prover
from pyattr.protocol.randomness import SECRET_BYTES, fresh_secret
from pyattr.protocol.session import State
from pyattr.protocol.signing import seal, sealed_size, unseal
from pyattr.protocol.verifier import Verifier
from pyattr.transport.directory import MESSAGES, SessionDirectory
from pyattr.transport.ledger import Ledger
from pyattr.verification.evaluate import Progress
from pyattr.verification.verdict import Outcome

__all__ = ["ProverSide", "Side", "VerifierSide", "secret_from"]

MakeProver = Callable[[Retrain, bytes], Prover]
"""``make(retrain, secret)``: a prover with the attribution and the terms that it agrees to."""

JOURNAL_CAP: Final = 2**36
PRIVATE_CAP: Final = 1024
INVITATION, COMMITMENT, CHALLENGE, ROOT, OUTPUTS, DECISION = range(len(MESSAGES))


class _Private(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a side keeps to itself."""

    secret: str

    def __repr__(self) -> str:
        return "_Private()"


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
        self._secret = self._kept_secret()
        self._blocks = directory.read_blocks(directory.role, JOURNAL_CAP)
        self._subject = subject_digest(subject)
        self._journal = Journal(
            retrain, self._blocks, directory.append_block, subject=self._subject
        )
        self._done = 0  # messages that this object has sent or received

    def _kept_secret(self) -> bytes:
        """The secret of this side: on the disk before anything follows from it."""
        directory = self.directory
        try:
            content = directory.read_own_private(PRIVATE_CAP)
        except FileNotFoundError:
            secret = fresh_secret()
            directory.write_private(msgspec.json.encode(_Private(secret=secret.hex())))
            return secret
        return secret_from(content)

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


class ProverSide(Side):
    """A prover in its directory.

    Parameters
    ----------
    directory, retrain, key, peer, subject
        As for `Side`.
    make : callable
        ``make(retrain, secret) -> Prover``.
    """

    own = (COMMITMENT, ROOT, OUTPUTS)

    def __init__(
        self,
        directory: SessionDirectory,
        retrain: Retrain,
        key: SigningKey,
        peer: PublicKey,
        make: MakeProver,
        subject: Subject | None = None,
    ) -> None:
        known = _stated(directory, peer)  # trainings of a session are about what its manifest says
        about = subject if known is None else known.subject
        super().__init__(directory, retrain, key, peer, about or Subject())
        self._make = make
        self._prover = make(self._journal, self._secret)

    @property
    def end(self) -> Prover:
        """Prover or verifier, whichever this side is."""
        return self._prover

    def check(self, number: int, sealed: bytes) -> Outcome:
        """Refuse a message of the verifier before it is stored and spoils the session; train nothing.

        Returns
        -------
        Outcome
            What the prover takes the session's to be after the message.

        Raises
        ------
        ProtocolError
            If it is not the verifier's, is out of order, or asks for what was not agreed.
        """
        data = unseal(sealed, self.peer)
        following = sum(self.directory.has_message(n) for n in range(len(MESSAGES)))
        if number != following:
            raise ProtocolError(f"message: expected number {following}, got number {number}")
        trial = self._make(Journal(None, self._blocks, subject=self._subject), self._secret)
        for earlier in range(number):
            if earlier not in self.own:
                stored = self.directory.read_message(earlier, self.most_bytes())
                trial.receive(unseal(stored, self.peer))
        # A prover that asks for trainings has agreed to everything.
        with suppress(NotRecordedError):
            trial.receive(data)
        return trial.outcome

    def most_bytes(self) -> int:
        """Largest size of the verifier's next message: none has tensors."""
        return sealed_size(frame_size({}))


class VerifierSide(Side):
    """A verifier in its directory.

    Parameters
    ----------
    directory, retrain, key, peer
        As for `Side`.
    ledger : Ledger
        Where the sessions of a claim are counted.
    terms : mapping, optional
        Arguments of `Verifier` for a new session; a session that has begun has its manifest.
    progress : callable, optional
        Of own trainings.
    """

    own = (INVITATION, CHALLENGE, DECISION)

    def __init__(
        self,
        directory: SessionDirectory,
        retrain: Retrain,
        key: SigningKey,
        peer: PublicKey,
        ledger: Ledger,
        terms: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        known = _begun(directory, key, peer)
        subject = known.subject if known is not None else (terms or {}).get("subject")
        super().__init__(directory, retrain, key, peer, subject or Subject())
        self._ledger = ledger
        if known is not None:
            self._verifier = Verifier.of(
                known, self._journal, secret=self._secret, progress=progress
            )
        elif terms is None:
            raise FileNotFoundError(f"session: expected {MESSAGES[INVITATION]}, got no such file")
        else:
            self._verifier = Verifier(
                self._journal,
                **terms,
                prover_key=peer.hex,
                key=key.public.hex,
                secret=self._secret,
                progress=progress,
            )
        self._send(self._verifier.start())

    @property
    def end(self) -> Verifier:
        """Prover or verifier, whichever this side is."""
        return self._verifier

    def most_bytes(self) -> int:
        """Largest size of the prover's next message: it follows from the manifest and the challenge."""
        return sealed_size(self._verifier.largest_message())

    def _take(self, number: int, data: bytes) -> tuple[bytes, ...]:
        try:
            return super()._take(number, data)
        except (
            ProtocolError
        ):  # of one who signed it: the session has failed, and has spent its share
            if number > COMMITMENT:
                self._ledger.finish(self._verifier.session, self._verifier.outcome)
            raise

    def _before(self, number: int) -> None:
        manifest, name = self._verifier.manifest, self._verifier.session
        if number == CHALLENGE:
            self._ledger.begin(
                manifest.claim(), name, delta=manifest.delta, attempts=manifest.attempts
            )
        elif number == DECISION:
            self._ledger.finish(name, self._verifier.outcome)


def _stated(directory: SessionDirectory, verifier: PublicKey) -> Manifest | None:
    """The manifest of a verifier's invitation, if there is one."""
    if not directory.has_message(INVITATION):
        return None
    sealed = directory.read_message(INVITATION, sealed_size(frame_size({})))
    return manifest_of(unseal(sealed, verifier))


def _begun(directory: SessionDirectory, key: SigningKey, peer: PublicKey) -> Manifest | None:
    """The manifest of a verifier's own invitation, if it was sent."""
    manifest = _stated(directory, key.public)
    if manifest is None:
        return None
    if (manifest.prover, manifest.verifier) != (peer.hex, key.public.hex):
        got = (manifest.prover, manifest.verifier)
        raise ProtocolError(f"manifest: expected the keys of this session, got {got}")
    return manifest


def secret_from(content: bytes) -> bytes:
    """The secret in the private file of a side.

    Raises
    ------
    ProtocolError
        If there is none.
    """
    try:
        secret = bytes.fromhex(msgspec.json.decode(content, type=_Private).secret)
    except (msgspec.MsgspecError, ValueError):
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ProtocolError(f"private file: expected a secret of {SECRET_BYTES} bytes, got others")
    return secret
