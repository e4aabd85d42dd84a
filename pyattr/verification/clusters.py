"""Cluster designs: which masks and seeds a gap estimate is made from, and what each cluster says.

Why odd pairs in clusters: see `pyattr.verification.gap`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_count, check_probability
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.verification.bounds import Interval, Levels, MeanSquares, t_interval
from pyattr.verification.scores import LinearScores

__all__ = ["LEAST_CLUSTERS", "ClusterDesign", "ClusterTerms", "highest_rho"]

Array = npt.NDArray[np.float64]

LEAST_CLUSTERS = 4
# Below this many clusters a fitted slope would eat the degrees of freedom that the limits need.
REGRESSION_CLUSTERS = 8


def highest_rho(p: float) -> float:
    """Largest ρ at which odd pairs exist: ``min(p/(1-p), (1-p)/p)²``, which is 1 at p = 1/2."""
    return min(p / (1.0 - p), (1.0 - p) / p) ** 2


@dataclass(frozen=True)
class ClusterDesign:
    """Which masks and seeds a gap estimate is made from.

    Rows come in the order (cluster, leaf, sign): row ``2 (c L + l)`` is the positive and the next the
    negative mask of leaf l in cluster c. Both are trained with the leaf's seed; leaves have independent
    ones. Given the centre, leaves are then independent and alike, which is all that the estimate asks
    for, and what a seed does to both masks of a pair cancels in their difference: two thirds of the seed
    variance, for small networks.

    Parameters
    ----------
    n_clusters : int
        C, at least 4: fewer say nothing about the spread of Var f.
    n_leaves : int
        L, pairs per cluster, at least 1; 1 needs ``rho = 1``.
    p : float
        Probability that an example is in a mask.
    rho : float
        Correlation between two leaves, in (0, `highest_rho`].

    Raises
    ------
    ValueError
        If no such design exists.
    """

    n_clusters: int
    n_leaves: int = 1
    p: float = 0.5
    rho: float = 1.0

    def __post_init__(self) -> None:
        check_count("n_clusters", self.n_clusters, LEAST_CLUSTERS)
        check_count("n_leaves", self.n_leaves, 1)
        top = highest_rho(check_probability("p", self.p))
        if not 0.0 < self.rho <= top:
            raise bad_value("rho", f"a correlation in (0, {top:.4g}] for p = {self.p}", self.rho)
        if self.n_leaves == 1 and self.rho != 1.0:
            raise bad_value("n_leaves", f"at least 2 for rho = {self.rho:.4g}", 1)

    @property
    def n_evaluations(self) -> int:
        """Number of trainings: two a leaf."""
        return 2 * self.n_clusters * self.n_leaves

    def draw(
        self, seed: int, n_train: int, first: int = 0, stop: int | None = None
    ) -> tuple[Masks, npt.NDArray[np.uint64]]:
        """Derive masks and seeds of the design, or of some of its clusters, from one seed.

        Leaf l of cluster c depends on (seed, c, l) alone: clusters drawn in parts, or with more leaves,
        are those of the whole design.

        Parameters
        ----------
        seed : int
            In [0, 2^64).
        n_train : int
        first, stop : int
            Clusters ``first`` to ``stop - 1``; all by default.

        Returns
        -------
        masks : Masks
            2L rows a cluster.
        seeds : (n_masks,) uint64
            Independent between leaves, equal within a pair.
        """
        n = (self.n_clusters if stop is None else stop) - first
        centre_seed, *side_seeds, run_seed = (int(s) for s in sample_seeds(4, seed))
        centres = sample_masks(n, n_train, self.p, centre_seed, first_row=first)
        # One stream a leaf, one row a cluster.
        plus_seeds, minus_seeds = (sample_seeds(self.n_leaves, s).tolist() for s in side_seeds)
        runs = [
            sample_seeds(n, s, first_row=first)
            for s in sample_seeds(self.n_leaves, run_seed).tolist()
        ]
        root, sides = math.sqrt(self.rho), []
        for plus_seed, minus_seed in zip(plus_seeds, minus_seeds, strict=True):
            plus = centres.correlate(root, self.p, plus_seed, first) if root < 1.0 else centres
            sides += [
                plus,
                plus.complement()
                if self.p == 0.5
                else centres.correlate(-root, self.p, minus_seed, first),
            ]
        order = np.arange(len(sides) * n).reshape(len(sides), n).T.ravel()
        return Masks.concatenate(sides)[order], np.repeat(np.stack(runs, axis=1).ravel(), 2)

    def by_leaf(self, values: npt.NDArray[np.floating]) -> Array:
        """View (n_evaluations, n_targets) values as (C, L, 2, n_targets) float64."""
        shape = (self.n_clusters, self.n_leaves, 2, values.shape[-1])
        return np.asarray(values, dtype=np.float64).reshape(shape)


@dataclass(frozen=True)
class ClusterTerms:
    """What each cluster contributes to the estimates; rows are independent.

    Parameters
    ----------
    design : ClusterDesign
    between : (C, n_targets) float64
        ``L · ō_c²``, whose mean is ``MSB``.
    scatter : (C, n_targets) float64
        ``Σ_l (o_cl - ō_c)²``.
    output_square, predicted_square : (C, n_targets) float64
        Means over the cluster of ``(f - f̄)²`` and ``(g - E g)²``: their means estimate Var f and Var g.
    offset : (C, n_targets) float64
        Mean residual of the cluster: the intercept's error.
    kurtosis : (n_targets,) float64
        Excess kurtosis of the odd residuals.
    corrupted : bool
        Whether some terms were replaced by their worst case.
    """

    design: ClusterDesign
    between: Array
    scatter: Array
    output_square: Array
    predicted_square: Array
    offset: Array
    kurtosis: Array
    corrupted: bool = False

    @classmethod
    def of(
        cls,
        design: ClusterDesign,
        outputs: npt.NDArray[np.floating],
        scores: LinearScores,
        linear: Array,
    ) -> ClusterTerms:
        """From the outputs of all rows in design order.

        Parameters
        ----------
        design : ClusterDesign
        outputs : (n_evaluations, n_targets) float
        scores : LinearScores
        linear : (n_evaluations, n_targets) float64
            ``scores.linear(masks)``. The intercept stays out of every difference: a huge one would
            erase the outputs it is subtracted from.
        """
        output, prediction = design.by_leaf(outputs), design.by_leaf(linear)
        odd = (output[:, :, 0] - output[:, :, 1]) - (prediction[:, :, 0] - prediction[:, :, 1])
        odd /= 2.0
        leaf_mean = odd.mean(axis=1)
        unbiased = design.n_evaluations / (design.n_evaluations - 1.0)
        centred = (output - output.mean(axis=(0, 1, 2))) ** 2 * unbiased
        return cls(
            design,
            between=design.n_leaves * leaf_mean**2,
            scatter=np.sum((odd - leaf_mean[:, None]) ** 2, axis=1),
            output_square=centred.mean(axis=(1, 2)),
            predicted_square=np.mean((prediction - scores.linear_mean(design.p)) ** 2, axis=(1, 2)),
            offset=(output - prediction).mean(axis=(1, 2)) - scores.intercept,
            kurtosis=excess_kurtosis(odd),
        )

    @property
    def products(self) -> Array:
        """``U_c`` of every cluster, (C, n_targets)."""
        n_leaves = self.design.n_leaves
        if n_leaves == 1:
            return self.between
        return (self.between - self.scatter / (n_leaves - 1)) / n_leaves

    @property
    def squares(self) -> MeanSquares:
        """Mean squares over all clusters."""
        n_clusters, n_leaves = self.design.n_clusters, self.design.n_leaves
        within = self.scatter.sum(axis=0) / (n_clusters * max(n_leaves - 1, 1))
        return MeanSquares(self.between.mean(axis=0), within, n_clusters, n_leaves)

    def worst_case(self, linear: Array, clip: float, n_corrupted: int) -> ClusterTerms:
        """The terms after the corruption that hides the most has been undone.

        A corrupted output truly lies anywhere in [-b, b]. One corrupted output is credited with its
        whole cluster: odd residuals as large as ``b + |g_odd|``, no scatter, and no share in Var f; and
        the mean about which outputs are squared may be off by ``2 b w / n``. Nothing is regressed out of
        Var f then, and its error is taken to go fully against that of the gap (`variance`).

        Parameters
        ----------
        linear : (n_evaluations, n_targets) float64
            As for `of`.
        clip : float
            b.
        n_corrupted : int
        """
        design = self.design
        prediction = design.by_leaf(linear)
        odd = np.abs(prediction[:, :, 0] - prediction[:, :, 1]) / 2.0
        highest = np.maximum(design.n_leaves * (clip + odd.max(axis=1)) ** 2, self.between)
        hit = largest(highest - self.between + self.scatter, n_corrupted)
        shift = 2.0 * clip * n_corrupted / design.n_evaluations
        squares = np.maximum(np.sqrt(self.output_square) - shift, 0.0) ** 2
        return replace(
            self,
            between=np.where(hit, highest, self.between),
            scatter=np.where(hit, 0.0, self.scatter),
            output_square=np.where(largest(squares, n_corrupted), 0.0, squares),
            corrupted=True,
        )

    def drifted(self, tolerance: float) -> ClusterTerms:
        """The terms if every output had drifted by up to `tolerance`, row by row, as it suits a liar.

        For a positive tolerance the largest gap and the smallest Var f that the true outputs may have,
        for a negative one the smallest and the largest. An odd residual moves by at most the tolerance,
        a cluster's mean too, the norm of its scatter by √L times that, and an output about the mean of
        all by twice that.
        """
        leaves = self.design.n_leaves
        mean = np.maximum(np.sqrt(self.between / leaves) + tolerance, 0.0)
        scatter = np.maximum(np.sqrt(self.scatter) - tolerance * math.sqrt(leaves), 0.0)
        output = np.maximum(np.sqrt(self.output_square) - 2.0 * tolerance, 0.0)
        return replace(self, between=leaves * mean**2, scatter=scatter**2, output_square=output**2)

    def variance(self, variance_predicted: Array, levels: Levels) -> tuple[Interval, Array]:
        """Var f by the regression estimator, and its correlation with the gap estimate.

        Var g follows from the scores, so the part of the sampling error of ``mean (f - f̄)²`` that goes
        with that of ``mean (g - E g)²`` is removed: for good scores nearly all of it. Student t over
        clusters, one degree of freedom given to the slope.

        Parameters
        ----------
        variance_predicted : (n_targets,) float64
            Var g over masks.
        levels : Levels

        Returns
        -------
        interval : Interval
        correlation : (n_targets,) float64
            Between the cluster terms of this estimate and ``U_c``, not above 0: the case in which both
            err towards acceptance at once.

        References
        ----------
        Cochran 1977, *Sampling Techniques*, chapter 7 (regression estimators).
        """
        if self.corrupted or self.design.n_clusters < REGRESSION_CLUSTERS:
            return t_interval(self.output_square, levels), np.full(self.kurtosis.shape, -1.0)
        known = self.predicted_square - self.predicted_square.mean(axis=0)
        slope = _divide(np.sum(known * self.output_square, axis=0), np.sum(known**2, axis=0))
        terms = self.output_square - slope * (self.predicted_square - variance_predicted)
        left, right = terms - terms.mean(axis=0), self.products - self.products.mean(axis=0)
        size = np.sqrt(np.sum(left**2, axis=0) * np.sum(right**2, axis=0))
        correlation = np.minimum(_divide(np.sum(left * right, axis=0), size), 0.0)
        return t_interval(terms, levels, n_fitted=2), correlation


def _divide(top: Array, bottom: Array) -> Array:
    """Ratio, and 0 where the bottom is 0."""
    ratio: Array = np.where(bottom > 0.0, top / np.where(bottom > 0.0, bottom, 1.0), 0.0)
    return ratio


def largest(values: Array, count: int) -> npt.NDArray[np.bool_]:
    """Mark the `count` largest entries of every column."""
    marked = np.zeros(values.shape, dtype=np.bool_)
    count = min(count, values.shape[0])
    if count:
        np.put_along_axis(marked, np.argsort(-values, axis=0)[:count], True, axis=0)
    return marked


def excess_kurtosis(odd: Array) -> Array:
    """Kurtosis minus 3 about the known mean 0, per target; 0 where all values are 0."""
    flat = odd.reshape(-1, odd.shape[-1])
    second = np.mean(flat**2, axis=0)
    fourth = np.mean(flat**4, axis=0)
    excess: Array = np.where(second > 0.0, _divide(fourth, second**2) - 3.0, 0.0)
    return excess
