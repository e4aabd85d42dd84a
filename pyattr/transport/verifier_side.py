"""The side of a verifier: it spends a share of a claim's δ on each session, before its challenge is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyattr.errors import ProtocolError
from pyattr.interface import Retrain
from pyattr.protocol.keys import PublicKey, SigningKey
from pyattr.protocol.manifest import Manifest, Subject
from pyattr.protocol.signing import sealed_size
from pyattr.protocol.verifier import Verifier
from pyattr.transport.directory import (
    CHALLENGE,
    COMMITMENT,
    DECISION,
    INVITATION,
    MESSAGES,
    SessionDirectory,
)
from pyattr.transport.ledger import Ledger
from pyattr.transport.side import Side, stated_manifest
from pyattr.verification.evaluate import Progress

__all__ = ["VerifierSide"]


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


def _begun(directory: SessionDirectory, key: SigningKey, peer: PublicKey) -> Manifest | None:
    """The manifest of a verifier's own invitation, if it was sent."""
    manifest = stated_manifest(directory, key.public)
    if manifest is None:
        return None
    if (manifest.prover, manifest.verifier) != (peer.hex, key.public.hex):
        got = (manifest.prover, manifest.verifier)
        raise ProtocolError(f"manifest: expected the keys of this session, got {got}")
    return manifest
