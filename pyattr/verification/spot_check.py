"""Spot checks: how many outputs to retrain, and which.

A prover returns n outputs and may have corrupted some. The verifier retrains k of them, chosen
uniformly without replacement by the operating system's generator after all outputs have arrived, and
aborts on any that differ. With w corrupted outputs the chance that none of them is checked is

    C(n-w, k) / C(n, k)                                              (hypergeometric, exact).

*Proof note.* The prover fixes its answers before the choice is drawn, so the choice is independent
of them; the number of corrupted outputs among the checked ones is hypergeometric, whatever the prover
knows about the estimator. If more than w outputs are corrupted, the miss probability is no larger.
Hence with probability at least 1 - δ_s either the verifier aborts or at most `most_undetected`
outputs are corrupted, and the estimate is then bounded by its worst case over that many outputs,
each true value ranging over [-b, b] (`clusters.ClusterTerms.worst_case`).
Tests: ``tests/verification/test_spot_check.py``.

References
----------
Karchmer, Pawelczyk, Neel 2025, Algorithm 1 (spot checks); method.md section 3.2 (exact count).
"""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.errors import bad_value, check_count, check_probability

__all__ = ["draw_checks", "miss_probability", "most_undetected", "n_checks"]


def miss_probability(n_outputs: int, n_corrupted: int, n_checked: int) -> float:
    """Chance that none of the corrupted outputs is among the checked ones: ``C(n-w,k)/C(n,k)``."""
    return float(stats.hypergeom.pmf(0, n_outputs, n_corrupted, n_checked))


def n_checks(n_outputs: int, n_corrupted: int, miss: float) -> int:
    """Smallest number of checks that misses `n_corrupted` corrupted outputs with chance ≤ `miss`.

    Parameters
    ----------
    n_outputs : int
        Outputs received.
    n_corrupted : int
        Corrupted outputs to be noticed, from 1 to `n_outputs`.
    miss : float
        Strictly between 0 and 1.

    Examples
    --------
    >>> n_checks(1000, 100, 0.05), n_checks(1000, 50, 0.01), n_checks(1000, 10, 0.05)
    (29, 86, 258)
    """
    check_count("n_outputs", n_outputs, 1)
    check_probability("miss", miss)
    if not 1 <= n_corrupted <= n_outputs:
        raise bad_value("n_corrupted", f"a count from 1 to {n_outputs}", n_corrupted)
    low, high = 0, n_outputs - n_corrupted + 1  # with `high` checks nothing can be missed
    while low < high:
        middle = (low + high) // 2
        if miss_probability(n_outputs, n_corrupted, middle) <= miss:
            high = middle
        else:
            low = middle + 1
    return low


def most_undetected(n_outputs: int, n_checked: int, miss: float) -> int:
    """Largest number of corrupted outputs that `n_checked` checks miss with chance above `miss`."""
    low, high = 0, n_outputs - n_checked
    while low < high:
        middle = (low + high + 1) // 2
        if miss_probability(n_outputs, middle, n_checked) > miss:
            low = middle
        else:
            high = middle - 1
    return low


def draw_checks(n_outputs: int, n_checked: int) -> npt.NDArray[np.int64]:
    """Choose which outputs to retrain, by the operating system's generator.

    Never by a seeded generator: the choice must not be predictable from anything the prover sees.

    Returns
    -------
    (n_checked,) int64
        Sorted, without repetition.
    """
    chosen = secrets.SystemRandom().sample(range(n_outputs), n_checked)
    return np.sort(np.asarray(chosen, dtype=np.int64))
