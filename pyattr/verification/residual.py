"""Residual estimation: the error that no linear function can remove, from correlated pairs.

The best linear predictor of f errs by ``B_{≥2} = h(1) - B_0 - B_1`` where ``h(ρ) = Σ_k ρ^k B_k`` is
the noise stability of f (h(1) = E f² counts the seed variance with it). h is estimated at 0, ρ, 2ρ
from pairs of correlated masks with independent seeds, and a polynomial of degree 2 with non-negative
coefficients is fitted to the three values.

Accuracy, with f centred at a constant c fixed beforehand and ``|f - c| ≤ b``:

- Degrees above 2 bias the fitted B_1 by ``Σ_{k≥3} B_k ρ^{k-1} (4 - 2^k) / 2``, between ``-2ρ² V`` and 0
  for ρ ≤ 1/3, with V ≤ b² the variance of f.
- The fit projects onto a convex cone, which moves no two inputs apart; so errors of at most r in the
  three values move B_1 by at most ``√26/(2ρ) · √3 r`` and B_0 by at most ``√3 r`` (the norms of the
  rows of the inverse Vandermonde matrix).
- Each value is a mean of independent products within ±b²: Hoeffding gives r.

With ρ = Θ(√ε) this is n = O(1/ε³). The constants make it millions of trainings on a real model: the
method is the published baseline, and `gap` is what to use.

References
----------
Saunshi, Gupta, Braverman, Arora 2022, section 4 (residual estimation); Karchmer, Pawelczyk, Neel
2025, Algorithm 1. The constants above are this project's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from pyattr.errors import bad_value, check_count, check_probability
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.verification.bounds import hoeffding_radius

__all__ = [
    "PaperPlan",
    "ResidualDesign",
    "ResidualSums",
    "output_influence",
    "plan_paper",
    "residual_radius",
]

Array = npt.NDArray[np.float64]

N_LEVELS = 3
# Five means carry the confidence: h at three rates, h(1), and the error on fresh subsets.
N_MEANS = 5


@dataclass(frozen=True)
class ResidualDesign:
    """Pairs of masks at correlations 0, ρ and 2ρ; rows 2j and 2j+1 make pair j.

    Parameters
    ----------
    n_pairs : int
        Pairs at each of the three rates; no mask is used in two pairs.
    rho : float
        In (0, 1/3].
    p : float
        Probability that an example is in a mask.
    """

    n_pairs: int
    rho: float
    p: float = 0.5

    def __post_init__(self) -> None:
        check_count("n_pairs", self.n_pairs, 1)
        check_probability("p", self.p)
        if not 0.0 < self.rho <= 1.0 / 3.0:
            raise bad_value("rho", "a correlation in (0, 1/3]", self.rho)

    @property
    def n_evaluations(self) -> int:
        """Number of trainings."""
        return 2 * N_LEVELS * self.n_pairs

    def draw(
        self, seed: int, n_train: int, start: int = 0, stop: int | None = None
    ) -> tuple[Masks, npt.NDArray[np.uint64]]:
        """Derive rows `start` to `stop` (both even) of the design from one seed.

        Returns
        -------
        masks : Masks
        seeds : (stop - start,) uint64
        """
        stop = self.n_evaluations if stop is None else stop
        mask_seed, partner_seed, run_seed = (int(s) for s in sample_seeds(3, seed))
        first, last = start // 2, stop // 2
        left = sample_masks(last - first, n_train, self.p, mask_seed, first_row=first)
        right = []
        for level in range(N_LEVELS):
            a = min(max(level * self.n_pairs, first), last)
            b = min(max((level + 1) * self.n_pairs, first), last)
            part = left[a - first : b - first]
            right.append(part.correlate(level * self.rho, self.p, partner_seed, first_row=a))
        order = np.arange(2 * len(left)).reshape(2, -1).T.ravel()
        masks = Masks.concatenate([left, *right])[order]
        return masks, sample_seeds(stop - start, run_seed, first_row=start)


class ResidualSums:
    """Running sums of the products that residual estimation needs; fed in any number of blocks.

    Parameters
    ----------
    design : ResidualDesign
    centre : (n_targets,) float64
        Subtracted from every output before products are taken.
    """

    def __init__(self, design: ResidualDesign, centre: Array) -> None:
        self.design = design
        self.centre = centre
        self._products = np.zeros((N_LEVELS, centre.size))
        self._squares = np.zeros(centre.size)

    def add(self, outputs: npt.NDArray[np.floating], start: int) -> None:
        """Add the outputs of rows from `start` (even) on."""
        centred = np.asarray(outputs, dtype=np.float64) - self.centre
        left, right = centred[0::2], centred[1::2]
        level = (start // 2 + np.arange(len(left))) // self.design.n_pairs
        for k in range(N_LEVELS):
            self._products[k] += np.sum((left * right)[level == k], axis=0)
        self._squares += 0.5 * np.sum(left**2 + right**2, axis=0)

    def stability(self) -> Array:
        """Estimates of h at 0, ρ, 2ρ and 1: (4, n_targets)."""
        n = self.design.n_pairs
        return np.vstack([self._products / n, self._squares / (N_LEVELS * n)])

    def variance(self) -> Array:
        """Estimate of Var f: ``h(1) - h(0)``, (n_targets,)."""
        stability = self.stability()
        spread: Array = stability[-1] - stability[0]
        return spread

    def weights(self) -> Array:
        """Non-negative estimates of B_0, B_1, B_2 about the centre: (3, n_targets)."""
        rates = self.design.rho * np.arange(N_LEVELS)
        vandermonde = np.vander(rates, N_LEVELS, increasing=True)
        fitted = [nnls(vandermonde, column)[0] for column in self.stability()[:N_LEVELS].T]
        return np.asarray(fitted, dtype=np.float64).T.reshape(N_LEVELS, -1)

    def residual(self) -> Array:
        """Estimate of ``B_{≥2}`` (and seed variance): ``h(1) - B_0 - B_1``, (n_targets,)."""
        weights = self.weights()
        estimate: Array = self.stability()[-1] - weights[0] - weights[1]
        return estimate


def _amplification(rho: float) -> float:
    """How much an error in the values of h grows on its way into ``B_0 + B_1``."""
    return math.sqrt(3.0) * (1.0 + math.sqrt(26.0) / (2.0 * rho))


def residual_radius(design: ResidualDesign, half_width: float, alpha: float) -> float:
    """Accuracy of `ResidualSums.residual`, failing with probability at most 4 alpha.

    Parameters
    ----------
    design : ResidualDesign
    half_width : float
        Bound of ``|f - centre|``.
    alpha : float
        Level of each of the four means.
    """
    square = half_width**2
    values = hoeffding_radius(design.n_pairs, square, alpha)
    total = hoeffding_radius(N_LEVELS * design.n_pairs, square / 2.0, alpha)
    return total + _amplification(design.rho) * values + 2.0 * design.rho**2 * square


def output_influence(design: ResidualDesign, half_width: float) -> float:
    """How far one corrupted output can move `ResidualSums.residual`; w of them move it w times that.

    The output is in one product, at one level, and in the sum of squares. The product stays within
    ±b'², so that level's mean moves by at most ``2b'²/n_pairs``, and the vector of the three values by
    that much in length (where w outputs fall on several levels, by less than the sum). The fit moves
    no two inputs apart, so B_0 + B_1 moves by at most ``1 + √26/(2ρ)`` times it. The mean square moves
    by at most ``b'²/(6 n_pairs)``.

    Parameters
    ----------
    design : ResidualDesign
    half_width : float
        b', bound of ``|f - centre|``.
    """
    value = 2.0 * half_width**2 / design.n_pairs
    square = half_width**2 / (2.0 * N_LEVELS * design.n_pairs)
    # `_amplification` is for three values each off by r, a vector of length √3 r.
    return _amplification(design.rho) / math.sqrt(N_LEVELS) * value + square


@dataclass(frozen=True)
class PaperPlan:
    """Sample sizes of the paper's protocols.

    Parameters
    ----------
    design : ResidualDesign
    n_fresh : int
        Fresh subsets for the mean squared error.
    """

    design: ResidualDesign
    n_fresh: int

    @property
    def n_trainings(self) -> int:
        """Trainings of both estimates together."""
        return self.design.n_evaluations + self.n_fresh


def plan_paper(
    epsilon: float, alpha: float, half_width: float, error_width: float, p: float
) -> PaperPlan:
    """Sample sizes at which ``MSE ≤ B̂_{≥2} + ε/2`` decides correctly.

    Both estimates are accurate to ε/4 then: an optimal attribution is accepted, and an accepted one
    has a gap of at most ε.

    Parameters
    ----------
    epsilon : float
        In squared output units.
    alpha : float
        Level of each of the five means.
    half_width, error_width : float
        Bounds of ``|f - centre|`` and of ``|f - g|``.
    p : float
    """
    square = half_width**2
    # A third of the residual's share goes to the bias, which falls as ρ² where noise grows as 1/ρ.
    rho = min(math.sqrt(epsilon / (24.0 * square)), 1.0 / 3.0)
    budget = epsilon / 4.0 - 2.0 * rho**2 * square
    share = hoeffding_radius(N_LEVELS, square / 2.0, alpha) + _amplification(
        rho
    ) * hoeffding_radius(1, square, alpha)
    n_pairs = math.ceil((share / budget) ** 2)
    n_fresh = math.ceil((hoeffding_radius(1, error_width**2 / 2.0, alpha) / (epsilon / 4.0)) ** 2)
    return PaperPlan(ResidualDesign(n_pairs, rho, p), n_fresh)
