"""What a prover says over HTTP besides sealed messages: small JSON objects, strict on both sides.

None of it counts as evidence: who lies here gains nothing, since the sealed messages decide.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from pyattr.protocol.encoding import frame_size
from pyattr.protocol.manifest import PROTOCOL, Subject
from pyattr.protocol.signing import sealed_size
from pyattr.protocol.words import Hex256, Share, Size

__all__ = ["JSON_CAP", "REQUEST_CAP", "SEALED", "Offer", "Progress", "Refusal", "State"]

SEALED: Final = "application/vnd.pyattr.sealed"
"""Media type of sealed messages; no web page can send it to another site unasked."""
REQUEST_CAP: Final = sealed_size(frame_size({}))
"""Most bytes of a request: a verifier's messages have no tensors."""
JSON_CAP: Final = 2**15
"""Most bytes of a JSON answer."""

State = Literal["committed", "training", "failed", "answered", "closed"]
_Count = Annotated[int, Meta(ge=0, le=2**40)]


class _Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all have in common."""


class Offer(_Answer, frozen=True, kw_only=True):
    """What a prover is ready to prove, for a verifier to compare with what was agreed.

    Parameters
    ----------
    protocol : str
    key, verifier : str
        Public keys: the prover's, and the only verifier's that it listens to.
    subject : Subject
    n_train, n_targets : int
    p : float
    clip : float or None
        b, a float32; None if the verifier's is taken.
    tolerance : float
        τ, as agreed.
    max_trainings : int
        Of one challenge.
    """

    protocol: Literal["pyattr/session/2"] = PROTOCOL
    key: Hex256
    verifier: Hex256
    subject: Subject
    n_train: Size
    n_targets: Size
    p: Share
    clip: Annotated[float, Meta(gt=0.0)] | None
    tolerance: Annotated[float, Meta(ge=0.0)]
    max_trainings: Annotated[int, Meta(ge=1, le=2**40)]


class Progress(_Answer, frozen=True, kw_only=True):
    """How far a session is.

    Parameters
    ----------
    state : {"committed", "training", "failed", "answered", "closed"}
        "failed": the training stopped; the same challenge again lets it go on.
    done, planned : int
        Trainings; 0 where they are not known, before a challenge.
    """

    state: State
    done: _Count
    planned: _Count


class Refusal(_Answer, frozen=True, kw_only=True):
    """Why a request was refused.

    Parameters
    ----------
    error : str
        A sentence.
    """

    error: Annotated[str, Meta(min_length=1, max_length=2000)]
