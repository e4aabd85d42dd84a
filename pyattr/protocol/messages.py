"""The messages of a session, and what each may contain.

=============  ========  ==============================================================  ==============
message        sent by   says                                                            tensors
=============  ========  ==============================================================  ==============
`Commitment`   prover    digest of scores and intercept; sizes; nonce                     none
`Challenge`    verifier  method, design, p, clip and the seed that masks come from        none
`Response`     prover    salt that opens the commitment                                   all
`Decision`     verifier  one of three words, and nothing that it rests on                 none
=============  ========  ==============================================================  ==============

Numbers of 64 bits and digests are hexadecimal of fixed length: JSON readers disagree about integers
above 2^53. All bounds are checked by msgspec while it decodes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from pyattr.protocol.encoding import Layout

__all__ = [
    "CLIP_HIGHEST",
    "CLIP_LOWEST",
    "DECODER",
    "PROTOCOL",
    "Challenge",
    "ClusterParameters",
    "Commitment",
    "Decision",
    "Message",
    "ResidualParameters",
    "Response",
    "attribution_layout",
    "response_layout",
]

PROTOCOL: Final = "pyattr/interactive/1"

Hex64 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z", max_length=16)]
Hex256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", max_length=64)]
Size = Annotated[int, Meta(ge=1, le=2**31)]
Share = Annotated[float, Meta(gt=0.0, lt=1.0)]
# Squares and fourth powers of outputs in this range are finite.
CLIP_LOWEST: Final = 2.0**-40
CLIP_HIGHEST: Final = 2.0**40
Clip = Annotated[float, Meta(ge=CLIP_LOWEST, le=CLIP_HIGHEST)]


class _Header(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"
):
    """What all headers have in common: no field more, none missing."""


class Commitment(_Header, tag="commitment", frozen=True, kw_only=True):
    """Binds the prover to its scores before it sees a challenge.

    Parameters
    ----------
    protocol : str
        `PROTOCOL`.
    nonce : str
        32 random bytes: the prover's part of the session id.
    n_train, n_targets : int
    digest : str
        `hashing.commit` of scores and intercept.
    """

    sender: ClassVar[str] = "prover"

    protocol: Literal["pyattr/interactive/1"] = PROTOCOL
    nonce: Hex256
    n_train: Size
    n_targets: Size
    digest: Hex256


class ClusterParameters(_Header, tag="clusters", frozen=True, kw_only=True):
    """Of a `pyattr.verification.gap.ClusterDesign`."""

    n_clusters: Annotated[int, Meta(ge=2, le=2**24)]
    n_leaves: Annotated[int, Meta(ge=1, le=2**16)]
    rho: Annotated[float, Meta(gt=0.0, le=1.0)]


class ResidualParameters(_Header, tag="pairs", frozen=True, kw_only=True):
    """Of a `pyattr.verification.residual.ResidualDesign`."""

    n_pairs: Annotated[int, Meta(ge=1, le=2**28)]
    rho: Annotated[float, Meta(gt=0.0, le=1.0 / 3.0)]


class Challenge(_Header, tag="challenge", frozen=True, kw_only=True):
    """Says what to train: a few hundred bytes whatever the numbers of trainings and examples.

    Parameters
    ----------
    session : str
        `hashing.session_id`.
    parent : str
        Digest of the message before.
    nonce : str
        32 random bytes: the verifier's part of the session id.
    design : ClusterParameters or ResidualParameters
        Of the gap method and of the paper's.
    p : float
        Probability that an example is in a mask.
    clip : float
        b: from here on f is clipped to [-b, b] by definition. A float32.
    seed : str
        All masks and training seeds follow from it.
    """

    sender: ClassVar[str] = "verifier"

    session: Hex256
    parent: Hex256
    nonce: Hex256
    design: ClusterParameters | ResidualParameters
    p: Share
    clip: Clip
    seed: Hex64


class Response(_Header, tag="response", frozen=True, kw_only=True):
    """All outputs at once, and the opening of the commitment.

    Parameters
    ----------
    session, parent : str
    salt : str
        Of the commitment.
    """

    sender: ClassVar[str] = "prover"

    session: Hex256
    parent: Hex256
    salt: Hex256


class Decision(_Header, tag="decision", frozen=True, kw_only=True):
    """How the session ended; reasons and figures stay with the verifier."""

    sender: ClassVar[str] = "verifier"

    session: Hex256
    parent: Hex256
    outcome: Literal["ACCEPT", "ABORT", "INCONCLUSIVE"]


Message = Commitment | Challenge | Response | Decision
DECODER: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(Message)


def attribution_layout(n_train: int, n_targets: int) -> Layout:
    """Tensors that the commitment is about."""
    return {"scores": ("F32", (n_train, n_targets)), "intercept": ("F32", (n_targets,))}


def response_layout(n_outputs: int, n_train: int, n_targets: int) -> Layout:
    """Tensors of a `Response`: the outputs of all rows of the challenge, and the attribution."""
    outputs = {"outputs": ("F32", (n_outputs, n_targets))}
    return {**attribution_layout(n_train, n_targets), **outputs}
