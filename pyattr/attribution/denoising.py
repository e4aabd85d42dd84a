"""Posterior of scores seen one by one in normal noise, under a scale mixture of normals.

The mathematics of ``csrc/scale_mixture.hpp``: component k has posterior mean q_k r, variance q_k v
and a weight proportional to ``π_k √(v / (v + d τ_k²)) exp(q_k r² / 2v)``, q_k = τ_k² / (v + d τ_k²).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Denoised", "denoise"]

Float64 = NDArray[np.float64]


class Denoised(NamedTuple):
    """Posterior of the scores of some targets.

    Parameters
    ----------
    mean, variance : (n_train, n_targets) float64
    proportions : (n_targets, n_components) float64
        Mean share of each component over the scores: EM's next proportions of the prior.
    """

    mean: Float64
    variance: Float64
    proportions: Float64


def denoise(
    evidence: Float64, diagonal: Float64, noise: Float64, variances: Float64, proportions: Float64
) -> Denoised:
    """Posterior of scores w with evidence r = d w + normal noise of variance d v.

    Parameters
    ----------
    evidence : (n_train, n_targets) float64
    diagonal : (n_train,) float64
        d.
    noise : (n_targets,) float64
        v.
    variances, proportions : (n_targets, n_components) float64
        Of the prior; the variances rise.

    Returns
    -------
    Denoised
    """
    d = diagonal[:, np.newaxis]
    half = np.square(evidence) / (2.0 * noise)
    gains = [tau2 / (noise + d * tau2) for tau2 in variances.T]
    weights, total, first, second = [], 0.0, 0.0, 0.0
    for tau2, share, gain in zip(variances.T, proportions.T, gains, strict=True):
        # Relative to the widest component, whose exponent is the largest.
        weight = share * np.exp(half * (gain - gains[-1])) / np.sqrt(1.0 + d * (tau2 / noise))
        weights.append(weight)
        total = total + weight
        first = first + weight * gain
        second = second + weight * gain * gain
    first, second = first / total, second / total
    between = np.square(evidence) * np.maximum(second - first * first, 0.0)
    shares = np.stack([(weight / total).mean(axis=0) for weight in weights], axis=1)
    return Denoised(first * evidence, first * noise + between, shares)
