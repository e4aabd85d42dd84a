"""Spot checks: how many outputs to retrain, and which.

A prover returns n outputs and may have corrupted some. After all outputs have arrived the verifier
chooses some by random numbers that the prover cannot know, retrains them, and aborts on any that differ.
There are two ways to choose.

**Uniform**: k without replacement. With w corrupted outputs the chance that none of them is checked is

    C(n-w, k) / C(n, k)                                              (hypergeometric, exact).

*Proof note.* The prover fixes its answers before the choice is drawn, so the choice is independent
of them; the number of corrupted outputs among the checked ones is hypergeometric, whatever the prover
knows about the estimator. If more than w outputs are corrupted, the miss probability is no larger. What
w has to be is `fewest_hiding`: let the influence m_i of an output bound what corrupting it takes from a
sum whose corruption by less than the slack s cannot make an acceptance false. Any set that hides more has
``Σ m_i ≥ s``, hence at least as many members as it takes of the *largest* influences to reach s.

**Weighted**: output i on its own with probability ``π_i = 1 - δ_s^{u_i}``, where ``u_i = m_i / s``.

*Proof note.* The checks are independent of each other and of the answers, so a set W of corrupted outputs
is missed with probability

    Π_{i∈W} (1 - π_i) = δ_s^{Σ_W u_i} ≤ δ_s   whenever Σ_W m_i ≥ s,

with equality where the sum is s: no smaller probabilities of this form suffice. With equal influences it is
uniform sampling but for a random number of checks; with unequal ones it leaves out what could not matter.
With several targets ``u_i`` is the largest over them: a set that hides the slack of any one is caught.

Influences and slack of a gap estimate, with their own proof: `pyattr.verification.corruption`.
Tests: ``tests/verification/test_spot_check.py`` (counts, rates), ``test_corruption.py`` (a prover that
corrupts the worst outputs).

References
----------
Karchmer, Pawelczyk, Neel 2025, Algorithm 1 (spot checks); Hájek 1964 (Poisson sampling with unequal
probabilities).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_count, check_probability

__all__ = [
    "check_probabilities",
    "choose_rows",
    "choose_weighted",
    "fewest_hiding",
    "miss_probability",
    "n_checks",
]

Array = npt.NDArray[np.float64]

MANY = 100_000
ROUNDING = 1e-12  # relative, of a miss probability's logarithms


def miss_probability(n_outputs: int, n_corrupted: int, n_checked: int) -> float:
    """Chance that none of the corrupted outputs is among the checked ones: ``C(n-w,k)/C(n,k)``.

    As the product ``Π_i (1 - max(w,k) / (n-i))`` over ``i < min(w,k)``: no factorials that overflow. From
    100,000 factors on all are taken as large as the first, which errs on the safe side.
    """
    fewer, more = sorted((n_corrupted, n_checked))
    if fewer + more > n_outputs:
        return 0.0
    if fewer > MANY:
        return math.exp(fewer * math.log1p(-more / n_outputs))
    remaining = n_outputs - np.arange(fewer, dtype=np.float64)
    return float(np.exp(np.sum(np.log1p(-more / remaining))))


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
    # With `high` checks nothing can be missed, or C(n-w,k)/C(n,k) ≤ (1-k/n)^w is small enough.
    enough = math.ceil(-n_outputs * math.expm1(math.log(miss) / n_corrupted)) + 1
    low, high = 0, min(enough, n_outputs - n_corrupted + 1)
    while low < high:
        middle = (low + high) // 2
        if miss_probability(n_outputs, n_corrupted, middle) <= miss * (1.0 + ROUNDING):
            high = middle
        else:
            low = middle + 1
    return low


def choose_rows(uniforms: npt.NDArray[np.uint64], n_checked: int) -> npt.NDArray[np.int64]:
    """Choose which outputs to retrain: those with the smallest numbers.

    Parameters
    ----------
    uniforms : (n_outputs,) uint64
        Independent and uniform, and unknown to the prover until it is bound to its outputs. All sets of
        `n_checked` rows are then equally likely, but where two numbers are equal: with 100,000 outputs in
        one draw of 10^9.
    n_checked : int

    Returns
    -------
    (n_checked,) int64
        Sorted, without repetition.
    """
    chosen = np.argsort(uniforms, kind="stable")[:n_checked]
    return np.sort(chosen).astype(np.int64, copy=False)


def fewest_hiding(influence: Array, slack: Array) -> int:
    """Smallest number of corrupted outputs whose influences reach the slack of some target.

    Parameters
    ----------
    influence : (n, n_targets) float64
        What corrupting each output can take from the sum, not below 0.
    slack : (n_targets,) float64
        How much has to be taken before an acceptance may be false.

    Returns
    -------
    int
        0 where a slack is not above 0; n + 1 where even all outputs together do not reach any.

    Examples
    --------
    >>> fewest_hiding(np.array([[1.0], [3.0], [2.0]]), np.array([4.0]))
    2
    """
    if np.any(slack <= 0.0):
        return 0
    reached = np.cumsum(-np.sort(-influence, axis=0), axis=0)
    return int(np.min(np.sum(reached < slack, axis=0))) + 1


def check_probabilities(shares: Array, miss: float) -> Array:
    """Probability with which each output is to be checked: ``1 - miss^share``.

    Parameters
    ----------
    shares : (n,) float64
        Influence of each output over the slack, not below 0.
    miss : float
        Largest chance to miss a set of corrupted outputs whose shares sum to 1 or more.

    Returns
    -------
    (n,) float64
    """
    check_probability("miss", miss)
    if not (np.isfinite(shares).all() and np.all(shares >= 0.0)):
        raise bad_value("shares", "finite numbers of at least 0", shares)
    probabilities: Array = -np.expm1(np.log(miss) * shares)
    return probabilities


def choose_weighted(
    uniforms: npt.NDArray[np.uint64], probabilities: Array
) -> npt.NDArray[np.int64]:
    """Choose each output on its own with its probability.

    Parameters
    ----------
    uniforms : (n_outputs,) uint64
        As for `choose_rows`.
    probabilities : (n_outputs,) float64

    Returns
    -------
    (n_checked,) int64
        Sorted, without repetition; their number is random.
    """
    return np.flatnonzero(uniforms * 2.0**-64 <= probabilities).astype(np.int64, copy=False)
