"""The messages of a session, and what each may contain.

====================  ========  ========================================================  ==================
message               sent by   says                                                      tensors
====================  ========  ========================================================  ==================
`Invitation`          verifier  manifest; digests of its randomness and its check key     none
`Commitment`          prover    digest of scores and intercept; its randomness            none
`Challenge`           verifier  design and seed; opens its randomness                     none
`OutputsCommitment`   prover    Merkle root of all outputs                                none
`Outputs`             prover    opens both commitments                                    all
`Decision`            verifier  one of three words, and nothing that it rests on          none
====================  ========  ========================================================  ==================

Numbers of 64 bits and digests are hexadecimal of fixed length: JSON readers disagree about integers
above 2^53. All bounds are checked by msgspec while it decodes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from pyattr.protocol.encoding import Layout
from pyattr.protocol.manifest import Manifest
from pyattr.protocol.words import ClusterParameters, Hex64, Hex256, ResidualParameters, Strict

__all__ = [
    "DECODER",
    "KINDS",
    "LEAVES",
    "Challenge",
    "Commitment",
    "Decision",
    "Invitation",
    "Message",
    "Outputs",
    "OutputsCommitment",
    "attribution_layout",
    "n_leaves",
    "outputs_layout",
    "rows_per_leaf",
]

LEAVES: Final = 2**16
"""Most leaves of the outputs' Merkle tree."""


class Invitation(Strict, tag="invitation", frozen=True, kw_only=True):
    """Opens a session, and binds the verifier before it knows anything of the prover.

    Parameters
    ----------
    manifest : Manifest
    randomness : str
        Digest of the verifier's part of the challenge's seed.
    checks : str
        Digest of the key that the spot checks follow from.
    """

    sender: ClassVar[str] = "verifier"

    manifest: Manifest
    randomness: Hex256
    checks: Hex256


class Commitment(Strict, tag="commitment", frozen=True, kw_only=True):
    """Binds the prover to its scores before it sees a challenge.

    Parameters
    ----------
    parent : str
        Digest of the invitation.
    randomness : str
        The prover's part of the challenge's seed.
    digest : str
        `hashing.commit` of scores and intercept.
    """

    sender: ClassVar[str] = "prover"

    parent: Hex256
    randomness: Hex256
    digest: Hex256


class Challenge(Strict, tag="challenge", frozen=True, kw_only=True):
    """Says what to train: a few hundred bytes whatever the numbers of trainings and examples.

    Parameters
    ----------
    session : str
        `hashing.session_id`.
    parent : str
        Digest of the message before.
    randomness : str
        The verifier's part of the seed, which its digest was sent of.
    design : ClusterParameters or ResidualParameters
        Of the gap method and of the paper's.
    seed : str
        All masks and training seeds follow from it; it follows from the randomness of both.
    """

    sender: ClassVar[str] = "verifier"

    session: Hex256
    parent: Hex256
    randomness: Hex256
    design: ClusterParameters | ResidualParameters
    seed: Hex64


class OutputsCommitment(Strict, tag="outputs-commitment", frozen=True, kw_only=True):
    """Binds the prover to all outputs before anything about the spot checks can be seen.

    Parameters
    ----------
    session, parent : str
    root : str
        `merkle.root` over the rows of the outputs.
    n_leaves : int
        Of the tree: `n_leaves` of the challenge's rows.
    """

    sender: ClassVar[str] = "prover"

    session: Hex256
    parent: Hex256
    root: Hex256
    n_leaves: Annotated[int, Meta(ge=1, le=LEAVES)]


class Outputs(Strict, tag="outputs", frozen=True, kw_only=True):
    """All outputs at once, and the openings of both commitments.

    Parameters
    ----------
    session, parent : str
    salt : str
        Of the commitment to the scores.
    leaf_key : str
        The salts of the tree's leaves follow from it.
    tensors : str
        Digest of the tensors as they stand behind this header: what is signed covers them too.
    """

    sender: ClassVar[str] = "prover"

    session: Hex256
    parent: Hex256
    salt: Hex256
    leaf_key: Hex256
    tensors: Hex256


class Decision(Strict, tag="decision", frozen=True, kw_only=True):
    """How the session ended; reasons and figures stay with the verifier."""

    sender: ClassVar[str] = "verifier"

    session: Hex256
    parent: Hex256
    outcome: Literal["ACCEPT", "ABORT", "INCONCLUSIVE"]


Message = Invitation | Commitment | Challenge | OutputsCommitment | Outputs | Decision
KINDS: Final[tuple[type[Message], ...]] = (
    Invitation,
    Commitment,
    Challenge,
    OutputsCommitment,
    Outputs,
    Decision,
)
"""All kinds, in the order of a session."""
DECODER: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(Message)


def attribution_layout(n_train: int, n_targets: int) -> Layout:
    """Tensors that the commitment is about."""
    return {"scores": ("F32", (n_train, n_targets)), "intercept": ("F32", (n_targets,))}


def outputs_layout(n_outputs: int, n_train: int, n_targets: int) -> Layout:
    """Tensors of `Outputs`: those of all rows of the challenge, and the attribution."""
    outputs = {"outputs": ("F32", (n_outputs, n_targets))}
    return {**attribution_layout(n_train, n_targets), **outputs}


def rows_per_leaf(n_outputs: int) -> int:
    """Rows of the outputs under one leaf of their tree: one, unless there are more than `LEAVES`."""
    return -(-n_outputs // LEAVES)


def n_leaves(n_outputs: int) -> int:
    """Leaves of the tree over the outputs of so many trainings."""
    return -(-n_outputs // rows_per_leaf(n_outputs))
