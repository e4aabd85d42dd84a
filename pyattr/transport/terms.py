"""What a prover agrees to for all its sessions, and how much may be asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyattr.errors import check_count, check_positive
from pyattr.interface import Retrain
from pyattr.protocol.arrays import as_clip
from pyattr.protocol.keys import PublicKey, SigningKey
from pyattr.protocol.manifest import Subject
from pyattr.protocol.prover import Prover
from pyattr.transport.answers import Offer
from pyattr.verification.scores import HasScores, LinearScores

__all__ = ["Quotas", "Terms"]


@dataclass(frozen=True)
class Terms:
    """What a prover agrees to, for all its sessions.

    Parameters
    ----------
    retrain, attribution, p, clip, subject, tolerance, agreed, max_trainings, min_trainings
        As for `Prover`.
    key : SigningKey
    verifier : PublicKey
        The only one whose messages count.
    """

    retrain: Retrain
    attribution: HasScores
    key: SigningKey
    verifier: PublicKey
    p: float = 0.5
    clip: float | None = None
    subject: Subject = field(default_factory=Subject)
    tolerance: float = 0.0
    agreed: Mapping[str, Any] = field(default_factory=dict)
    max_trainings: int = 2**20
    min_trainings: int = 1

    def prover(self, retrain: Retrain, secret: bytes | None = None) -> Prover:
        """A prover for a session."""
        return Prover(
            retrain,
            self.attribution,
            p=self.p,
            clip=self.clip,
            subject=self.subject,
            tolerance=self.tolerance,
            agreed=self.agreed,
            key=self.key.public.hex,
            verifier_key=self.verifier.hex,
            max_trainings=self.max_trainings,
            min_trainings=self.min_trainings,
            secret=secret,
        )

    def offer(self) -> Offer:
        """What a verifier may know of it."""
        scores = LinearScores.of(self.attribution)
        return Offer(
            key=self.key.public.hex,
            verifier=self.verifier.hex,
            subject=self.subject,
            n_train=scores.n_train,
            n_targets=scores.n_targets,
            p=self.p,
            clip=None if self.clip is None else as_clip(self.clip),
            tolerance=self.tolerance,
            max_trainings=self.max_trainings,
        )


@dataclass(frozen=True)
class Quotas:
    """How much a verifier may ask for.

    Parameters
    ----------
    open_sessions : int
        Sessions without a decision, not counting those that nothing was heard of for `idle_seconds`.
    per_claim : int
        Sessions about one claim, ever.
    idle_seconds : float

    Raises
    ------
    ValueError
        If a number is below 1.
    """

    open_sessions: int = 4
    per_claim: int = 100
    idle_seconds: float = 7 * 24 * 3600.0

    def __post_init__(self) -> None:
        check_count("open_sessions", self.open_sessions, 1)
        check_count("per_claim", self.per_claim, 1)
        check_positive("idle_seconds", self.idle_seconds)
