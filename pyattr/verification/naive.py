"""The check that everybody does, and that a cheat passes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyattr.masks import Masks
from pyattr.verification.conclusion import VARIANCE_FLOOR
from pyattr.verification.criterion import Criterion
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Outcome, Verdict, overall

__all__ = ["NAIVE_SUBSETS", "NAIVE_THRESHOLD", "judge_naive"]

NAIVE_SUBSETS = 48
NAIVE_THRESHOLD = 0.75


def judge_naive(
    criterion: Criterion,
    masks: Masks,
    outputs: npt.NDArray[np.floating],
    scores: LinearScores,
    threshold: float,
) -> Verdict:
    """Accept if the error on fresh subsets is below a threshold: the check that a cheat passes.

    The verifier does not know how much of the output no linear function can explain, so its threshold
    has to be generous. Kept to show that it is fooled; it certifies nothing.

    Parameters
    ----------
    threshold : float
        Largest mean squared error accepted, relative to the variance of the outputs.
    """
    exact = np.asarray(outputs, dtype=np.float64)
    error = np.mean((exact - scores.predict(masks)) ** 2, axis=0)
    variance = exact.var(axis=0, ddof=1)
    relative = error / np.maximum(variance, VARIANCE_FLOOR)
    outcomes = [Outcome.ACCEPT if share <= threshold else Outcome.ABORT for share in relative]
    worst = int(np.argmax(relative))
    return Verdict(
        outcome=overall(outcomes),
        reason=(
            f"error {relative[worst]:.3g} Var f at the worst of {len(outcomes)} targets, threshold "
            f"{threshold:g}: says nothing about the gap"
        ),
        method="naive",
        bound="none",
        epsilon=criterion.epsilon,
        delta=criterion.delta,
        gap=np.full(len(outcomes), np.nan),
        gap_lower=np.zeros(len(outcomes)),
        gap_upper=np.full(len(outcomes), np.inf),
        outcomes=tuple(outcomes),
        details={"error": relative, "threshold": threshold, "variance": variance},
    )
