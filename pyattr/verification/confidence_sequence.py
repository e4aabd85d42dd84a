"""Betting confidence sequences: limits of a mean that hold at every sample size at once.

Independent values ``X_i`` in [0, 1] have mean μ. For a candidate m a gambler with capital 1 stakes
``λ_i(m) ≥ 0`` on values above m:

    K_n(m) = Π_{i≤n} (1 + λ_i(m) (X_i - m)),      0 ≤ λ_i(m) ≤ c/m,  c < 1.

*Proof note.* The stake λ_i depends on X_1 … X_{i-1} alone, so K_n(μ) is a martingale from 1, and never
negative because ``λ_i(m) (X_i - m) ≥ -c``. By Ville's inequality ``P(sup_n K_n(μ) ≥ 1/α) ≤ α``: whoever
rejects every m whose capital has ever reached 1/α rejects μ with probability at most α, however often
and for whatever reason they look. Stakes have the form ``min(λ_i, c/m)`` with λ_i free of m, so every
factor falls as m rises: the rejected m are an interval from 0, whose end is the lower limit and is
found by bisection, not on a grid. The upper limit is one minus the lower limit of ``1 - X``.
Conditions: values in [0, 1], each with conditional mean μ given the earlier ones; nothing else.
Tests: ``tests/verification/test_confidence_sequence.py``.

The stakes are ``λ_i = √(2 ln(1/α) / (σ̂²_{i-1} i ln(1+i)))`` ("predictable plug-in"), or with
``n`` in the place of ``i ln(1+i)`` where a sample size n is aimed at; σ̂² is the variance of the values so
far, with no prior: the range of [0, 1] may be far wider than the values are, and a prior variance of
1/4 would keep the lower limit at 0 for thousands of them.

No package is used: ``confseq``, by the authors of the method, was last released in January 2023, has no
wheel for Python 3.11 and later, and depends on matplotlib, pandas and pytest.

References
----------
Waudby-Smith, Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86,
Theorem 3 and sections 4.1-4.4 · Ville 1939.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_count, check_probability

__all__ = ["betting_lower", "betting_upper"]

Array = npt.NDArray[np.float64]

# Largest share of the capital that one value can cost. An upper limit is sought where values are small
# against their range, and then a value near 1 is rare: nearly everything can be staked.
_LOWER_SHARE = 0.5
_UPPER_SHARE = 0.9
_HALVINGS = 52
_AT_ONCE = 1 << 22  # numbers in one pass
_LEAST_VARIANCE = 1e-30


def betting_lower(
    values: npt.ArrayLike, alpha: float, *, at: list[int] | None = None, horizon: int | None = None
) -> Array:
    """Lower limits of the mean of values in [0, 1], valid at all times together.

    Parameters
    ----------
    values : (n,) or (n, n_targets) array_like of float
        In [0, 1], in the order in which they were drawn; rows independent.
    alpha : float
        Probability that a limit is ever above the mean, for each target.
    at : list of int, optional
        Sample sizes (from 1 to n, ascending) whose limits are returned; n alone by default. Limits
        never fall.
    horizon : int, optional
        Sample size at which the limit should be sharpest. Limits hold at all times whatever it is,
        but it must not depend on the values.

    Returns
    -------
    (len(at), n_targets) float64, without the last axis for one-dimensional values

    Raises
    ------
    ValueError
        If a value is outside [0, 1] or an argument out of range.
    """
    x, times = _checked(values, alpha, at)
    return _limits(x, alpha, times, horizon, _LOWER_SHARE).reshape(
        len(times), *np.shape(values)[1:]
    )


def betting_upper(
    values: npt.ArrayLike, alpha: float, *, at: list[int] | None = None, horizon: int | None = None
) -> Array:
    """Upper limits of the mean of values in [0, 1], valid at all times together.

    Parameters
    ----------
    values : (n,) or (n, n_targets) array_like of float
    alpha : float
        Probability that a limit is ever below the mean, for each target.
    at : list of int, optional
        As for `betting_lower`. Limits never rise.
    horizon : int, optional

    Returns
    -------
    (len(at), n_targets) float64, without the last axis for one-dimensional values

    Raises
    ------
    ValueError
        If a value is outside [0, 1] or an argument out of range.
    """
    x, times = _checked(values, alpha, at)
    limits = _limits(1.0 - x, alpha, times, horizon, _UPPER_SHARE)
    return (1.0 - limits).reshape(len(times), *np.shape(values)[1:])


def _checked(values: npt.ArrayLike, alpha: float, at: list[int] | None) -> tuple[Array, list[int]]:
    """Values as (n, n_targets), and the times asked for."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim not in (1, 2) or x.shape[0] == 0:
        raise bad_value("values", "shape (n,) or (n, n_targets) with n at least 1", x.shape)
    if not ((x >= 0.0) & (x <= 1.0)).all():
        raise bad_value("values", "numbers in [0, 1]", f"{x.min()} to {x.max()}")
    check_probability("alpha", alpha)
    n = x.shape[0]
    times = [n] if at is None else [check_count("at", t, 1) for t in at]
    if not times or times != sorted(times) or times[-1] > n:
        raise bad_value("at", f"ascending sample sizes from 1 to {n}", at)
    return x.reshape(n, -1), times


def _stakes(x: Array, alpha: float, horizon: int | None) -> Array:
    """λ_i for every value, from the values before it; nothing is staked on the first two."""
    n = x.shape[0]
    shifted = x - x[0]  # against cancellation: the variance is that of the first value on
    count = np.arange(1.0, n)[:, np.newaxis]
    mean = np.cumsum(shifted[:-1], axis=0) / count
    variance = np.cumsum(shifted[:-1] ** 2, axis=0) / count - mean**2
    steps = np.arange(2.0, n + 1.0)
    size = steps * np.log1p(steps) if horizon is None else np.full(n - 1, float(horizon))
    stakes = np.zeros_like(x)
    scale = np.maximum(variance, _LEAST_VARIANCE) * size[:, np.newaxis]
    stakes[1:] = np.sqrt(2.0 * math.log(1.0 / alpha) / scale)
    stakes[1:2] = 0.0
    return stakes


def _limits(x: Array, alpha: float, times: list[int], horizon: int | None, share: float) -> Array:
    """Largest m whose capital had reached 1/α by each of the times, (len(times), n_targets)."""
    if horizon is not None:
        check_count("horizon", horizon, 1)
    limits = np.empty((len(times), x.shape[1]))
    step = max(1, _AT_ONCE // x.shape[0])
    for first in range(0, x.shape[1], step):
        part = np.ascontiguousarray(x[:, first : first + step])
        stakes = _stakes(part, alpha, horizon)
        reached = np.zeros(part.shape[1])
        for row, time in enumerate(times):
            now, staked = part[:time], stakes[:time]
            reached = _bisect(now, staked, math.log(1.0 / alpha), share, reached)
            limits[row, first : first + step] = reached
    return limits


def _bisect(x: Array, stakes: Array, goal: float, share: float, rejected: Array) -> Array:
    """Push the end of the rejected interval up as far as the values allow; the rejected side is kept."""
    low, high = rejected, np.ones_like(rejected)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        factors = np.minimum(stakes, share / middle) * (x - middle)
        best = np.cumsum(np.log1p(factors), axis=0).max(axis=0)
        low, high = np.where(best >= goal, middle, low), np.where(best >= goal, high, middle)
    return low
