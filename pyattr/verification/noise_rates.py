"""Noise rates and weights that single out the linear weight, for any p, by linear programming.

With h(ρ) = Σ_k ρ^k B_k the noise stability of a residual, ``Σ_j w_j h(ρ_j) = Σ_k c_k B_k`` where
``c_k = Σ_j w_j ρ_j^k``. Rates from ``-min(p/(1-p), (1-p)/p)`` to 1 exist. The programme is

    minimise ‖w‖₁   subject to   c_0 = 0,  c_1 = 1,  0 ≤ c_k ≤ leak (even k),  0 ≤ c_k ≤ 1 (odd k > 1).

‖w‖₁² is the factor by which the sampling variance grows when each rate gets its share |w_j| of the pairs.

*Soundness note.* No c_k is negative, so ``Σ_j w_j h(ρ_j) ≥ B_1`` whatever the weights B_k are: nothing has
to be assumed about f, and nothing covered in the upper limit. What is left above degree 1, at most
``leak`` times the even and ``c_odd`` times the odd weight, is borne by completeness, and taken off the
lower limit before anyone is accused. The programme has constraints for k up to 160 and some above;
`NoiseRates` checks all k: once the largest |ρ_j| outweighs the rest it stays so, since the others decay
faster.
Test: ``tests/verification/test_noise_rates.py``.

At p = 1/2 and leak 0 the solution is the complement, ``(h(1) - h(-1))/2``; between, with λ the most
negative rate's size, ``(h(ρ) - h(-λ))/(ρ+λ)`` with ρ = λ + leak; near p = 0 and 1, where signed pairs alone
would cost 1/λ, three to five rates.

References
----------
The signed rates and the programme are this project's own; linear programming: HiGHS (Huangfu, Hall
2018), through ``scipy.optimize.linprog``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from pyattr.errors import bad_value, check_probability

__all__ = ["NoiseRates", "lowest_rate", "solve_noise_rates"]

Array = npt.NDArray[np.float64]

# Degrees constrained in the programme; all are checked afterwards.
_DEGREES = np.unique(np.r_[0:161, np.geomspace(161, 2000, 24).astype(int)])
_MOST_DEGREES = 4096
_GRID = 97
_MERGE = (0.04, 0.015, 0.0)
_SMALL = 0.01  # of ‖w‖₁: rates with less are dropped
_MORE = 1.1
_ROUNDING = 1e-9


def lowest_rate(p: float) -> float:
    """Most negative correlation of two masks: ``-min(p/(1-p), (1-p)/p)``."""
    return -min(p / (1.0 - p), (1.0 - p) / p)


@dataclass(frozen=True)
class NoiseRates:
    """Weights ``w_j`` on rates ``ρ_j``.

    Parameters
    ----------
    rates, weights : tuple of float

    Raises
    ------
    ValueError
        If ``c_0 ≠ 0``, ``c_1 ≠ 1`` or some ``c_k`` above is negative: what they estimate could then be below
        the gap.
    """

    rates: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.rates) != len(self.weights) or not self.rates:
            got = f"{len(self.rates)} and {len(self.weights)}"
            raise bad_value("rates, weights", "as many of one as of the other", got)
        if not all(-1.0 <= rate <= 1.0 for rate in self.rates):
            raise bad_value("rates", "correlations in [-1, 1]", self.rates)
        if abs(self.coefficient(0)) > 1e-6 or abs(self.coefficient(1) - 1.0) > 1e-6:
            got = f"{self.coefficient(0):.3g} and {self.coefficient(1):.3g}"
            raise bad_value("weights", "coefficients 0 and 1 at degrees 0 and 1", got)
        lowest = float(self._coefficients().min())
        if lowest < -_ROUNDING * self.cost:
            raise bad_value("weights", "no negative coefficient above degree 1", lowest)

    @property
    def cost(self) -> float:
        """‖w‖₁: factor of the standard error."""
        return float(np.abs(self.weights).sum())

    def coefficient(self, degree: int) -> float:
        """``c_k = Σ_j w_j ρ_j^k``."""
        return float(np.asarray(self.weights) @ np.asarray(self.rates) ** degree)

    def leak(self, parity: int) -> float:
        """Largest coefficient at degrees above 1 of one parity, 0 (even) or 1 (odd)."""
        found = self._coefficients()[parity::2]
        return float(max(found.max(), 0.0))

    def _coefficients(self) -> Array:
        """``c_2, c_3, …`` up to where the largest |ρ_j| alone decides the sign and the size falls."""
        rates, weights = np.asarray(self.rates), np.asarray(self.weights)
        powers = rates[np.newaxis] ** np.arange(2, _MOST_DEGREES)[:, np.newaxis]
        top = np.abs(rates) >= np.abs(rates).max() - 1e-12
        rest = np.abs(powers[:, ~top]) @ np.abs(weights[~top])
        largest = np.abs(rates).max() ** np.arange(2, _MOST_DEGREES)
        decided = rest <= 1e-12 * largest * self.cost
        stop = int(np.argmax(decided)) + 2 if decided.any() else _MOST_DEGREES
        found: Array = powers[: stop + stop % 2] @ weights
        return found


@lru_cache(maxsize=256)
def solve_noise_rates(p: float, leak: float = 0.1) -> NoiseRates:
    """The cheapest rates and weights for masks with probability p.

    Parameters
    ----------
    p : float
        Strictly between 0 and 1.
    leak : float
        Most of the even weight above degree 1 that may be left in the estimate, from 0.02 to 1.

    Returns
    -------
    NoiseRates

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> found = solve_noise_rates(0.3, leak=0.1)
    >>> [round(rate, 2) for rate in found.rates], round(found.cost, 2)
    ([-0.43, 0.53], 2.09)
    """
    check_probability("p", p)
    if not 0.02 <= leak <= 1.0:
        raise bad_value("leak", "a share of the even weight in [0.02, 1]", leak)
    low = lowest_rate(p)
    grid = np.unique(np.r_[np.linspace(low, 1.0, _GRID), low, 0.0, min(1.0, leak - low), 1.0])
    weights = _programme(grid, leak)
    if weights is None:
        raise bad_value("p", "a probability at which noise rates exist", p)
    rates, weights = _thinned(grid, weights, leak)
    return NoiseRates(tuple(map(float, rates)), tuple(map(float, weights)))


def _thinned(grid: Array, weights: Array, leak: float) -> tuple[Array, Array]:
    """Fewer rates, for a leak of up to a quarter and a cost of up to a tenth more."""
    for distance in _MERGE:
        rates = _merged(grid, weights, distance)
        for wider in (1.0, 1.1, 1.25):
            again = _programme(rates, leak * wider)
            if again is not None and np.abs(again).sum() <= _MORE * np.abs(weights).sum():
                return _nonzero(rates, again)
    return _nonzero(grid, weights)


def _nonzero(rates: Array, weights: Array) -> tuple[Array, Array]:
    kept = np.abs(weights) > _ROUNDING
    return rates[kept], weights[kept]


def _programme(rates: Array, leak: float) -> Array | None:
    """Weights of the linear programme on given rates, None if there are none."""
    powers = rates[np.newaxis] ** _DEGREES[:, np.newaxis]
    split = np.hstack([powers, -powers])  # w = w⁺ - w⁻
    above = split[2:]
    most = np.where(_DEGREES[2:] % 2 == 0, leak, 1.0)
    found = linprog(
        np.ones(2 * rates.size),
        A_ub=np.vstack([above, -above]),
        b_ub=np.concatenate([most, np.zeros(most.size)]),
        A_eq=split[:2],
        b_eq=[0.0, 1.0],
        method="highs",
    )
    return found.x[: rates.size] - found.x[rates.size :] if found.success else None


def _merged(rates: Array, weights: Array, distance: float) -> Array:
    """Neighbouring rates of one sign as one, without those of hardly any weight."""
    kept = np.flatnonzero(np.abs(weights) > _SMALL * np.abs(weights).sum())
    groups: list[list[int]] = []
    for j in kept.tolist():
        last = groups[-1][-1] if groups else j
        if groups and rates[j] - rates[last] <= distance and weights[j] * weights[last] > 0.0:
            groups[-1].append(j)
        else:
            groups.append([j])
    means = [np.average(rates[group], weights=np.abs(weights[group])) for group in groups]
    return np.clip(means, rates[0], 1.0)  # rounding must not take a rate out of its range
