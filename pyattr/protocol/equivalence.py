"""Whether two parties' trainings of the same rows gave the same outputs (CheckEquiv).

On one platform class outputs are equal to the byte; elsewhere they may differ by a tolerance that
both sides calibrated beforehand (`pyattr.protocol.calibration`). The tolerance must be far below the
spread over seeds, or a spot check means nothing; and differences within it must not lie on one side
(`pyattr.protocol.drift`).

Zero has two spellings in float32. By definition f has one: `canonical` is applied to every output
by whoever trained it, and a -0 on the wire is refused.

References
----------
Karchmer, Pawelczyk, Neel 2025, Algorithm 1 (CheckEquiv); method.md, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyattr.masks import Masks
from pyattr.verification.evaluate import Evaluator

__all__ = ["SpotCheck", "canonical", "differs", "retrain_and_compare"]

Array = npt.NDArray[np.float32]
Marks = npt.NDArray[np.bool_]


def canonical(outputs: Array) -> Array:
    """Outputs with every -0 written as 0."""
    return np.add(outputs, np.float32(0.0))


def differs(theirs: Array, ours: Array, tolerance: float) -> Marks:
    """Mark the rows that are not equivalent.

    Parameters
    ----------
    theirs, ours : (n, n_targets) float32
    tolerance : float
        Largest difference of an output; 0 asks for equal bytes.

    Returns
    -------
    (n,) bool
    """
    if tolerance == 0.0:
        same = np.ascontiguousarray(theirs).view(np.uint32) == np.ascontiguousarray(ours).view(
            np.uint32
        )
    else:
        same = np.abs(theirs.astype(np.float64) - ours) <= tolerance  # false for NaN
    marks: Marks = ~same.all(axis=1)
    return marks


@dataclass(frozen=True)
class SpotCheck:
    """What retraining some rows showed.

    A row that differs is trained again before anyone is accused.

    Parameters
    ----------
    n_checked : int
    ours : (n_checked, n_targets) float32
        Local outputs of all rows: of the second run where the first was a fault.
    suspects : (n_suspects,) int64
        Places, among the checked rows, that differed at first.
    theirs, first, second : (n_suspects, n_targets) float32
        The peer's outputs there, and those of both local runs.
    accused : (n_suspects,) bool
        Both local runs agree, and not with the peer.
    unsteady : (n_suspects,) bool
        The local runs agree neither with the peer nor with each other: no ground to accuse or accept.
    """

    n_checked: int
    ours: Array
    suspects: npt.NDArray[np.int64]
    theirs: Array
    first: Array
    second: Array
    accused: Marks
    unsteady: Marks

    @property
    def n_faults(self) -> int:
        """Rows where the first local run was wrong: the second agrees with the peer."""
        return int(np.sum(~self.accused & ~self.unsteady))


def retrain_and_compare(
    evaluate: Evaluator,
    masks: Masks,
    seeds: npt.NDArray[np.uint64],
    theirs: Array,
    tolerance: float,
) -> SpotCheck:
    """Train rows and compare them with a peer's outputs.

    Parameters
    ----------
    evaluate : Evaluator
    masks : Masks
        n rows.
    seeds : (n,) uint64
    theirs : (n, n_targets) float32
    tolerance : float
    """
    ours = canonical(evaluate(masks, seeds))
    suspects = np.flatnonzero(differs(theirs, ours, tolerance))
    first, claimed = ours[suspects], theirs[suspects]
    repeat = suspects.size > 0
    second = canonical(evaluate(masks[suspects], seeds[suspects])) if repeat else first
    again = differs(claimed, second, tolerance)
    steady = ~differs(first, second, tolerance)
    settled = ours.copy()
    settled[suspects] = np.where(again[:, None], first, second)
    return SpotCheck(
        len(masks), settled, suspects, claimed, first, second, again & steady, again & ~steady
    )
