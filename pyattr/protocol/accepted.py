"""The result of a session that ended in acceptance: a type that nothing else has."""

from __future__ import annotations

from dataclasses import dataclass

from pyattr.protocol.manifest import Manifest
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Verdict

__all__ = ["Accepted"]


@dataclass(frozen=True)
class Accepted:
    """What a verifier has in hand after a session that ended in acceptance.

    Parameters
    ----------
    scores : LinearScores
        The attribution that was verified: the one that the prover was bound to.
    verdict : Verdict
    manifest : Manifest
        The terms that it was accepted under.
    session : str
        Session id.
    messages : tuple of bytes
        All six. With the secret and the trainings of this side they are the evidence that
        `pyattr.protocol.audit` makes the decision from again.
    """

    scores: LinearScores
    verdict: Verdict
    manifest: Manifest
    session: str
    messages: tuple[bytes, ...]
