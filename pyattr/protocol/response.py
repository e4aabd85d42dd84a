"""Whether what a prover opened is right in substance: each function checks one thing or raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from pyattr.errors import Rejected
from pyattr.protocol.arrays import from_tensor, outputs_root
from pyattr.protocol.encoding import Tensor
from pyattr.protocol.hashing import commit, equal
from pyattr.verification.scores import LinearScores

__all__ = ["check_opening", "check_root", "read_outputs", "read_scores"]

# Largest |g|, in units of b, that is looked at: everything computed from it stays finite.
SCORE_RANGE: Final = 1e9


def check_opening(salt: str, attribution: Mapping[str, Tensor], committed: str) -> None:
    """The attribution is the one that the prover was bound to.

    Raises
    ------
    Rejected
        "commitment"
    """
    opened = commit(bytes.fromhex(salt), attribution)
    if not equal(opened, committed):
        raise Rejected("commitment", opened, committed)


def check_root(
    outputs: npt.NDArray[np.float32], leaf_key: str, session: str, committed: str
) -> None:
    """The outputs are those that the prover was bound to.

    Raises
    ------
    Rejected
        "outputs commitment"
    """
    opened = outputs_root(outputs, bytes.fromhex(leaf_key), session)
    if not equal(opened, committed):
        raise Rejected("outputs commitment", opened, committed)


def read_scores(tensors: Mapping[str, Tensor], clip: float) -> LinearScores:
    """Scores and intercept: finite, and no prediction absurdly large.

    Raises
    ------
    Rejected
        "scores"
    """
    scores, intercept = from_tensor(tensors["scores"]), from_tensor(tensors["intercept"])
    if not (np.isfinite(scores).all() and np.isfinite(intercept).all()):
        raise Rejected("scores", "NaN or infinity", "finite numbers")
    reach = np.abs(scores).sum(axis=0, dtype=np.float64) + np.abs(intercept)
    if reach.max() > SCORE_RANGE * clip:
        raise Rejected("scores", float(reach.max()), SCORE_RANGE * clip)
    return LinearScores(scores, intercept)


def read_outputs(tensors: Mapping[str, Tensor], clip: float) -> npt.NDArray[np.float32]:
    """Outputs: numbers in [-b, b], each in its one spelling; (n_outputs, n_targets).

    Raises
    ------
    Rejected
        "outputs"
    """
    outputs = from_tensor(tensors["outputs"])
    if not np.isfinite(outputs).all():
        raise Rejected("outputs", "NaN or infinity", "finite numbers")
    highest = float(np.abs(outputs).max())
    if highest > clip:
        raise Rejected("outputs", highest, clip)
    if np.any(np.signbit(outputs) & (outputs == 0.0)):
        raise Rejected("outputs", "-0", "0, which is written one way")
    return outputs
