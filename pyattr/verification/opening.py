"""The first trainings of a verification: how much the seed matters, and hence which design to use.

They are clusters of the design itself, with two leaves: whatever number of leaves is chosen then, their rows
are rows of the design and are not trained again. With one leaf the second ones, 4 trainings, are lost.

*Why the same data may choose the design and enter the test.* The choice looks only at the scatter of
leaves within their cluster, ``d_c = o_c1 - o_c2``, and at the scores. In the one-way model that the chi2
and t bounds rest on, ``o_cl = μ_c + e_cl`` with μ_c normal and independent of the seeds' e_cl.

- *One leaf.* d_c is a function of the e alone. Whatever is known of them, ``o_c1 = μ_c + e_c1`` is a mixture
  of shifts of μ_c, and by Anderson's inequality no shift makes ``|μ_c|`` stochastically smaller: ``Σ o²`` is
  at least as large as ``Σ μ²``, which the limit is made for.
- *Several leaves.* With normal e the cluster means are independent of all d, so the size of the design tells
  nothing about them. The mean square within clusters does contain the d, as that of an internal pilot
  (Wittes and Brittain 1990) contains its own: a pilot that came out low means fewer clusters, among which it
  counts for more. The final mean square within is then too low on average, and it is *subtracted*: the gap
  comes out too high, on the safe side. The tests measure false acceptance with the design chosen
  this way.

The finite-sample bounds hold without that model, so with them the opening has masks and seeds of its own and
is discarded.

References
----------
Anderson 1955, "The integral of a symmetric unimodal function over a symmetric convex set", Corollary 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from pyattr.verification.clusters import LEAST_CLUSTERS, ClusterDesign, highest_rho
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.plan import SEEDS_MATTER
from pyattr.verification.scores import LinearScores

__all__ = ["OPENING_TRAININGS", "Opening", "open_clusters"]

LEAVES = 2
# Two clusters, 8 trainings, tell whether seeds matter; if they do, six say how much.
FIRST_CLUSTERS, MORE_CLUSTERS = 2, 6
OPENING_TRAININGS = 2 * LEAVES * FIRST_CLUSTERS
# Several targets: degrees of freedom that their mean counts for beside a target's own.
POOLED = 6
_TINY = 1e-300


@dataclass(frozen=True)
class Opening:
    """What the first trainings say.

    Parameters
    ----------
    n_clusters : int
        Clusters trained, with two leaves each.
    noise : float
        Variance of an odd residual within its cluster, relative to Var f: the upper 80% limit for one
        target, since a design for too little noise is the dearer mistake; for several the largest, drawn
        towards their mean.
    seed_variance : float
        Variance of single outputs within their cluster, relative to Var f, largest over targets. It shows
        earlier than `noise` whether seeds matter at all.
    """

    n_clusters: int
    noise: float
    seed_variance: float

    @property
    def n_trained(self) -> int:
        """Trainings made."""
        return 2 * LEAVES * self.n_clusters

    def seeds_matter(self, epsilon: float) -> bool:
        """Whether one leaf would carry too much seed variance for an ε relative to Var f."""
        return max(self.noise, self.seed_variance) > SEEDS_MATTER * epsilon

    def lost(self, design: ClusterDesign) -> int:
        """Trainings that the design cannot use."""
        return self.n_trained // 2 if design.n_leaves == 1 else 0


def open_clusters(
    evaluate: Evaluator,
    scores: LinearScores,
    p: float,
    seed: int,
    epsilon: float,
    most: int | None = None,
) -> Opening:
    """Train two clusters of two leaves, and four more if seeds matter.

    Parameters
    ----------
    evaluate : Evaluator
        Keeping its trainings, if the design is to use them.
    scores : LinearScores
    p : float
    seed : int
        Of the design.
    epsilon : float
        Relative to Var f.
    most : int, optional
        Trainings to spend at most, beyond the first 8.
    """
    first = _measure(evaluate, scores, p, seed, FIRST_CLUSTERS)
    if highest_rho(p) == 1.0 and not first.seeds_matter(epsilon):
        return first
    if most is not None and most < 2 * LEAVES * MORE_CLUSTERS:
        return first
    return _measure(evaluate, scores, p, seed, MORE_CLUSTERS)


def _measure(
    evaluate: Evaluator, scores: LinearScores, p: float, seed: int, n_clusters: int
) -> Opening:
    """Train clusters 0 to ``n_clusters - 1`` and measure their scatter."""
    design = ClusterDesign(max(n_clusters, LEAST_CLUSTERS), LEAVES, p, highest_rho(p))
    masks, seeds = design.draw(seed, scores.n_train, 0, n_clusters)
    shape = (n_clusters, LEAVES, 2, scores.n_targets)
    residual = (evaluate(masks, seeds) - scores.linear(masks)).reshape(shape)
    odd = (residual[:, :, 0] - residual[:, :, 1]) / 2.0
    scatter = np.mean((odd[:, 0] - odd[:, 1]) ** 2, axis=0) / 2.0
    # Not the spread of the outputs: it would tell of the residuals themselves.
    single = np.mean((residual[:, 0] - residual[:, 1]) ** 2, axis=(0, 1)) / 2.0
    unit = np.maximum(scores.variance(p) + scatter, _TINY)
    shares = scatter / unit
    if scores.n_targets == 1:
        raised = shares[0] * n_clusters / stats.chi2.ppf(0.2, n_clusters)
    else:  # the largest of many estimates errs upwards anyway
        raised = (n_clusters * shares.max() + POOLED * shares.mean()) / (n_clusters + POOLED)
    return Opening(n_clusters, min(float(raised), 0.5), float(np.max(single / unit)))
