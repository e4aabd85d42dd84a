"""Cluster designs: which masks and seeds a gap estimate is made from.

Why odd pairs in clusters: see `pyattr.verification.gap`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_count, check_probability
from pyattr.masks import Masks, sample_masks, sample_seeds

__all__ = ["LEAST_CLUSTERS", "ClusterDesign", "Leak", "highest_rho"]

Array = npt.NDArray[np.float64]

LEAST_CLUSTERS = 4


@dataclass(frozen=True)
class Leak:
    """Largest coefficients of B_k above degree 1 in what a design estimates; none is negative.

    Parameters
    ----------
    even, odd : float
        Over even and over odd degrees.
    """

    even: float
    odd: float


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
    def leak(self) -> Leak:
        """What weight above degree 1 adds to the estimate: ``ρ^{k-1} B_k`` at odd k, nothing at even."""
        return Leak(even=0.0, odd=self.rho**2)

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
