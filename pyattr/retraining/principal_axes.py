"""The principal axes of a pool, along which one preconditioner serves all of its subsets."""

from __future__ import annotations

import torch

__all__ = ["principal_axes"]


def principal_axes(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, orthonormal axes and second moments Σ_n (x_n - mean)² of the pool along them.

    Parameters
    ----------
    features : (n_examples, n_features) float32

    Returns
    -------
    mean : (n_features,) float64
    axes : (n_features, n_features) float64
        One axis a column; its largest coordinate is positive.
    spectrum : (n_features,) float64
        Rising, not negative; zero beyond the rank.
    """
    pool = features.double()
    mean = pool.mean(0)
    centred = pool - mean
    spectrum, axes = torch.linalg.eigh(centred.T @ centred)
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return mean, axes * torch.where(largest < 0, -1.0, 1.0), spectrum.clamp(min=0.0)
