"""What each cluster of a gap estimate says about the gap and about Var f.

Why odd pairs in clusters: see `pyattr.verification.gap`; the designs: `cluster_design`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyattr.verification.cluster_design import LEAST_CLUSTERS, ClusterDesign, Leak, highest_rho
from pyattr.verification.interval import Interval, Levels
from pyattr.verification.near_normal import MeanSquares, t_interval
from pyattr.verification.output_variance import VarianceParts, divide, regression_variance
from pyattr.verification.scores import LinearScores

__all__ = ["LEAST_CLUSTERS", "ClusterDesign", "ClusterTerms", "Leak", "highest_rho"]

Array = npt.NDArray[np.float64]


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
    largest_square : (C, n_targets) float64, optional
        Where terms were replaced by their worst case for the gap: what `output_square` may be at most.
    """

    design: ClusterDesign
    between: Array
    scatter: Array
    output_square: Array
    predicted_square: Array
    offset: Array
    kurtosis: Array
    largest_square: Array | None = None

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
        # Not scaled up for the mean's own error, which odd pairs do not have: too small errs safely.
        centred = (output - output.mean(axis=(0, 1, 2))) ** 2
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
    def rho(self) -> float:
        """Factor of the gap in ``E U``."""
        return self.design.rho

    @property
    def effect_squares(self) -> Array:
        """``L · ō_c²`` of every cluster, (C, n_targets)."""
        return self.between

    @property
    def independent_products(self) -> Array:
        """``U_c`` again: nothing in it depends on other clusters."""
        return self.products

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
        Var f then, and its error is taken to go fully against that of the gap (`variance`). Payments rest
        on an upper limit of Var f, which corruption lowers: there each output may truly be 2b off the mean.

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
        hit = largest(highest - self.between, n_corrupted)
        shift = 2.0 * clip * n_corrupted / design.n_evaluations
        squares = np.maximum(np.sqrt(self.output_square) - shift, 0.0) ** 2
        most = 4.0 * clip**2 * design.n_clusters / design.n_evaluations
        raised = np.where(largest(self.output_square, n_corrupted), most, 0.0)
        raised *= n_corrupted / min(n_corrupted, design.n_clusters)
        return replace(
            self,
            between=np.where(hit, highest, self.between),
            scatter=np.where(largest(self.scatter, n_corrupted), 0.0, self.scatter),
            output_square=np.where(largest(squares, n_corrupted), 0.0, squares),
            largest_square=self.output_square + raised,
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
        output, most = (
            None if square is None else np.maximum(np.sqrt(square) - 2.0 * tolerance, 0.0) ** 2
            for square in (self.output_square, self.largest_square)
        )
        assert output is not None
        return replace(
            self,
            between=leaves * mean**2,
            scatter=scatter**2,
            output_square=output,
            largest_square=most,
        )

    def variance(self, variance_predicted: Array, levels: Levels) -> tuple[Interval, Array]:
        """Var f, and the correlation of its estimate with that of the gap.

        Parameters
        ----------
        variance_predicted : (n_targets,) float64
            Var g over masks.
        levels : Levels
        """
        if self.largest_square is not None:
            least, most = (t_interval(s, levels) for s in (self.output_square, self.largest_square))
            limits = Interval(least.estimate, least.lower, most.upper)
            return limits, np.full(self.kurtosis.shape, -1.0)
        return regression_variance(
            self.output_square, self.predicted_square, variance_predicted, self.products, levels
        )

    def variance_parts(self) -> VarianceParts:
        """Squared standard error of the estimate of ``E U / ρ``, near-normal residuals assumed.

        With θ the variance of the clusters' effect, ``2θ²/C`` is there however many leaves are trained;
        the rest falls as they grow in number.
        """
        squares, design = self.squares, self.design
        freedom = max(design.n_clusters * (design.n_leaves - 1), 1)
        total = squares.between**2 / design.n_clusters + squares.within**2 / freedom
        total *= 2.0 / design.n_leaves**2
        effect = np.minimum(2.0 * squares.estimate**2 / design.n_clusters, total)
        unit = design.rho**2
        return VarianceParts(effect / unit, (total - effect) / unit)


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
    excess: Array = np.where(second > 0.0, divide(fourth, second**2) - 3.0, 0.0)
    return excess
