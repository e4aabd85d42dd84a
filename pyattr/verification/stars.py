"""Star designs: a gap estimate at any p from noise rates that linear programming chose.

A star is a centre x ~ B_p, trained with one seed, and K partners, each correlated with the centre at one
of the rates ρ_j of `pyattr.verification.noise_rates` and trained with another seed, which the partners
of a star share. With r̄_j the mean residual of the partners at rate j,

    U = r(x) Σ_j w_j r̄_j,    E U = Σ_j w_j h(ρ_j) = B_1 + Σ_{k≥2} c_k B_k ≥ B_1.

*Soundness note.* Given x the partners are independent of the centre's seed, so each product has mean
``h(ρ_j)``; no c_k is negative (`NoiseRates`). The intercept cancels: ``Σ_j w_j = 0``, so a constant added
to r adds its multiple of ``Σ_j w_j r̄_j``, whose mean is 0. To keep that multiple small the centre's residual
is measured from the mean of all *other* stars, which is independent of the star: the estimate stays
unbiased. Finite-sample bounds need independent terms and measure it from the published intercept. A
seed shared among partners adds the same to each and cancels likewise. Test:
``tests/verification/test_stars.py``.

Where odd pairs in clusters exist at a rate that is worth having, they are cheaper: their products grow
with the square of the leaves. At p below 0.1 or above 0.9 stars are chosen.

References
----------
This project's own; noise stability: O'Donnell 2014, section 8.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_count, check_probability
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.verification.bounded import BoundedRange
from pyattr.verification.clusters import LEAST_CLUSTERS, Leak, excess_kurtosis
from pyattr.verification.interval import Interval, Levels
from pyattr.verification.noise_rates import NoiseRates, solve_noise_rates
from pyattr.verification.output_variance import VarianceParts, regression_variance
from pyattr.verification.scores import LinearScores

__all__ = ["StarDesign", "StarTerms", "star_range"]

Array = npt.NDArray[np.float64]

_LEAST_P = 1e-6


LEAST_STARS_AN_EXAMPLE = 12.8


@dataclass(frozen=True)
class StarDesign:
    """Which masks and seeds a star estimate is made from.

    Rows come by star: the centre, then its partners, rate by rate.

    Parameters
    ----------
    n_clusters : int
        Number of stars, at least 4.
    n_partners : int
        K, at least one for each rate.
    p : float
        Probability that an example is in a mask, within [1e-6, 1 - 1e-6].
    leak_even : float
        Most of the even weight that may be left in the estimate, see `solve_noise_rates`.

    Raises
    ------
    ValueError
        If no such design exists.
    """

    n_clusters: int
    n_partners: int = 8
    p: float = 0.1
    leak_even: float = 0.1

    def __post_init__(self) -> None:
        check_count("n_clusters", self.n_clusters, LEAST_CLUSTERS)
        if not _LEAST_P <= check_probability("p", self.p) <= 1.0 - _LEAST_P:
            raise bad_value("p", f"a probability in [{_LEAST_P:g}, 1 - {_LEAST_P:g}]", self.p)
        n_rates = len(self.noise_rates.rates)
        check_count("n_partners", self.n_partners, n_rates)

    @property
    def sees_examples(self) -> bool:
        """Whether every example is in, and out of, enough stars for its own score to be seen.

        A score that is wrong shows where its example is the rarer of in and out; an example that seldom is
        leaves terms that are nearly all small, which no sample shows to be skewed. One wrong score with a
        gap of 1.5 ε, level 0.05, was accepted in 0.43, 0.21, 0.07, 0.02 and 0.003 of sessions with 1.3,
        2.6, 5, 6.4 and 10 such stars, and in none of 200 from 12.8 on.
        """
        return self.n_clusters * min(self.p, 1.0 - self.p) >= LEAST_STARS_AN_EXAMPLE

    @property
    def noise_rates(self) -> NoiseRates:
        """Rates and weights."""
        return solve_noise_rates(self.p, self.leak_even)

    @property
    def leak(self) -> Leak:
        """What weight above degree 1 adds to the estimate."""
        return Leak(self.noise_rates.leak(0), self.noise_rates.leak(1))

    @property
    def counts(self) -> tuple[int, ...]:
        """Partners at each rate, in proportion to ``|w_j|`` as far as whole numbers go."""
        share = np.abs(self.noise_rates.weights) / self.noise_rates.cost
        counts = np.ones(share.size, dtype=np.int64)
        for _ in range(self.n_partners - share.size):
            # The next partner goes where Σ w_j²/n_j falls most.
            counts[np.argmax(share**2 / (counts * (counts + 1)))] += 1
        return tuple(counts.tolist())

    @property
    def n_evaluations(self) -> int:
        """Number of trainings."""
        return self.n_clusters * (1 + self.n_partners)

    def draw(self, seed: int, n_train: int) -> tuple[Masks, npt.NDArray[np.uint64]]:
        """Derive the masks and seeds of the whole design from one seed.

        Parameters
        ----------
        seed : int
            In [0, 2^64).
        n_train : int

        Returns
        -------
        masks : Masks
            ``n_evaluations`` rows.
        seeds : (n_evaluations,) uint64
            Two for each star.
        """
        centre_seed, run_seed, *rate_seeds = (
            int(s) for s in sample_seeds(2 + len(self.counts), seed)
        )
        centres = sample_masks(self.n_clusters, n_train, self.p, centre_seed)
        parts, position = [centres], [np.arange(self.n_clusters) * (1 + self.n_partners)]
        first = 1
        for rate, count, rate_seed in zip(
            self.noise_rates.rates, self.counts, rate_seeds, strict=True
        ):
            again = centres[np.repeat(np.arange(self.n_clusters), count)]
            parts.append(again.correlate(rate, self.p, rate_seed) if rate < 1.0 else again)
            position.append((position[0][:, np.newaxis] + first + np.arange(count)).ravel())
            first += count
        order = np.argsort(np.concatenate(position))
        seeds = sample_seeds(2 * self.n_clusters, run_seed).reshape(-1, 2)
        spread = np.repeat(seeds, [1, self.n_partners], axis=1)
        return Masks.concatenate(parts)[order], spread.ravel()

    def by_star(self, values: npt.NDArray[np.floating]) -> Array:
        """View (n_evaluations, n_targets) values as (C, 1 + K, n_targets) float64."""
        shape = (self.n_clusters, 1 + self.n_partners, values.shape[-1])
        return np.asarray(values, dtype=np.float64).reshape(shape)

    @property
    def partner_weights(self) -> Array:
        """Weight of each partner, ``w_j / n_j``, (K,) float64."""
        counts = np.asarray(self.counts)
        return np.repeat(np.asarray(self.noise_rates.weights) / counts, counts)


@dataclass(frozen=True)
class StarTerms:
    """What each star contributes to the estimates.

    Parameters
    ----------
    design : StarDesign
    products : (C, n_targets) float64
        ``U_c``, the centre's residual measured from the mean of the other stars.
    independent_products : (C, n_targets) float64
        The same, measured from the published intercept.
    centre_square, partner_square : (C, n_targets) float64
        Squares of the two factors.
    output_square, predicted_square, offset, kurtosis
        As for `ClusterTerms`; the kurtosis is that of ``Σ_j w_j r̄_j``.
    residual_square : (C, n_targets) float64
        Mean over the star of ``(r - r̄)²``.
    """

    design: StarDesign
    products: Array
    independent_products: Array
    centre_square: Array
    partner_square: Array
    output_square: Array
    predicted_square: Array
    offset: Array
    kurtosis: Array
    residual_square: Array
    rho: float = 1.0
    squares: None = None

    @classmethod
    def of(
        cls,
        design: StarDesign,
        outputs: npt.NDArray[np.floating],
        scores: LinearScores,
        linear: Array,
    ) -> StarTerms:
        """From the outputs of all rows in design order; arguments as for `ClusterTerms.of`."""
        output, prediction = design.by_star(outputs), design.by_star(linear)
        residual = output - prediction
        mean = residual.mean(axis=1)
        others = (mean.sum(axis=0) - mean) / (design.n_clusters - 1)
        difference = np.einsum("ckt,k->ct", residual[:, 1:], design.partner_weights)
        centred = residual[:, 0] - others
        unbiased = design.n_evaluations / (design.n_evaluations - 1.0)
        about = (output - output.mean(axis=(0, 1))) ** 2
        return cls(
            design,
            products=centred * difference,
            independent_products=(residual[:, 0] - scores.intercept) * difference,
            centre_square=centred**2,
            partner_square=difference**2,
            output_square=about.mean(axis=1),
            predicted_square=np.mean((prediction - scores.linear_mean(design.p)) ** 2, axis=1),
            offset=mean - scores.intercept,
            kurtosis=excess_kurtosis(difference),
            residual_square=np.mean((residual - mean.mean(axis=0)) ** 2, axis=1) * unbiased,
        )

    @property
    def effect_squares(self) -> Array:
        """Empty: stars have no mean square between clusters."""
        return np.empty((0, self.products.shape[1]))

    def variance(self, variance_predicted: Array, levels: Levels) -> tuple[Interval, Array]:
        """As `ClusterTerms.variance`."""
        return regression_variance(
            self.output_square, self.predicted_square, variance_predicted, self.products, levels
        )

    def variance_parts(self) -> VarianceParts:
        """Squared standard error: of independent factors (noise), and what goes beyond (effect)."""
        n = self.design.n_clusters
        total = self.products.var(axis=0, ddof=1) / n
        noise = self.centre_square.mean(axis=0) * self.partner_square.mean(axis=0) / n
        return VarianceParts(np.maximum(total - noise, 0.0), np.minimum(noise, total))


def star_range(
    design: StarDesign,
    outputs: npt.NDArray[np.floating],
    linear: Array,
    scores: LinearScores,
    clip: float,
) -> BoundedRange:
    """The range of the terms of stars.

    ``|r(x)| ≤ b + |E g| + |g - E g|``; and ``|Σ_j w_j r̄_j| ≤ ‖w‖₁ (b + max |g - E g|)``, since constants
    cancel.

    Parameters
    ----------
    design : StarDesign
    outputs, linear : (n_evaluations, n_targets) float
    scores : LinearScores
    clip : float
        b.
    """
    mean = scores.linear_mean(design.p)
    return BoundedRange.of(
        design.by_star(outputs),
        design.by_star(linear) - mean,
        scores,
        clip,
        rest=clip + np.abs(mean + scores.intercept),
        gain=design.noise_rates.cost,
    )
