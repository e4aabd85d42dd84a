"""The side of a prover: it refuses what was not agreed before that is stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from pyattr.errors import ProtocolError
from pyattr.interface import Retrain
from pyattr.protocol.encoding import frame_size
from pyattr.protocol.journal import Journal, NotRecordedError
from pyattr.protocol.keys import PublicKey, SigningKey
from pyattr.protocol.manifest import Subject
from pyattr.protocol.prover import Prover
from pyattr.protocol.signing import sealed_size, unseal
from pyattr.transport.directory import COMMITMENT, MESSAGES, OUTPUTS, ROOT, SessionDirectory
from pyattr.transport.side import Side, stated_manifest
from pyattr.verification.verdict import Outcome

__all__ = ["ProverSide"]

MakeProver = Callable[[Retrain, bytes], Prover]
"""``make(retrain, secret)``: a prover with the attribution and the terms that it agrees to."""


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
        known = stated_manifest(
            directory, peer
        )  # trainings of a session are about what its manifest says
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
