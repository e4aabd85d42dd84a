"""The linear function under test, seen through what verification needs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.kernels import packed_matmul
from pyattr.masks import Masks

__all__ = ["HasScores", "LinearScores"]

Array = npt.NDArray[np.float64]

LARGEST = 1e30  # squares of predictions stay finite in float64, their sums in float32


class HasScores(Protocol):
    """Anything with scores and an intercept, such as `pyattr.Attribution`."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(n_train, n_targets) float32, 0/1 coding."""

    @property
    def intercept(self) -> npt.NDArray[np.float32]:
        """(n_targets,) float32."""


@dataclass(frozen=True)
class LinearScores:
    """``g(x) = intercept + Σ_i scores_i x_i`` for every target.

    Parameters
    ----------
    scores : (n_train, n_targets) float32
    intercept : (n_targets,) float32
    """

    scores: npt.NDArray[np.float32]
    intercept: npt.NDArray[np.float32]

    @classmethod
    def of(cls, attribution: HasScores) -> LinearScores:
        """Take scores and intercept of an attribution, checked.

        Raises
        ------
        ValueError
            If shapes disagree or a value is not finite.
        """
        if not (hasattr(attribution, "scores") and hasattr(attribution, "intercept")):
            got = type(attribution).__name__
            raise bad_value("attribution", "scores and intercept, as pyattr.Attribution has", got)
        scores = np.ascontiguousarray(attribution.scores, dtype=np.float32)
        intercept = np.ascontiguousarray(attribution.intercept, dtype=np.float32)
        if scores.ndim != 2 or scores.size == 0:
            raise bad_value("attribution.scores", "shape (n_train, n_targets)", scores.shape)
        if intercept.shape != scores.shape[1:]:
            raise bad_value("attribution.intercept", f"shape {scores.shape[1:]}", intercept.shape)
        if not (np.isfinite(scores).all() and np.isfinite(intercept).all()):
            raise bad_value("attribution", "finite scores and intercept", "NaN or infinity")
        size = float(np.abs(scores).sum(axis=0, dtype=np.float64).max())
        if size > LARGEST:
            raise bad_value(
                "attribution.scores", f"absolute values that sum to at most {LARGEST:g}", size
            )
        return cls(scores, intercept)

    @property
    def n_train(self) -> int:
        """Number of examples (or groups) that masks choose from."""
        return int(self.scores.shape[0])

    @property
    def n_targets(self) -> int:
        """Number of outputs per model."""
        return int(self.scores.shape[1])

    def linear(self, masks: Masks) -> Array:
        """``Σ_i scores_i x_i`` on every mask, without the intercept, (n_masks, n_targets) float64."""
        return packed_matmul(masks.packed, self.scores).astype(np.float64)

    def predict(self, masks: Masks) -> Array:
        """Predictions on every mask, (n_masks, n_targets) float64."""
        return self.linear(masks) + self.intercept

    def linear_mean(self, p: float) -> Array:
        """Mean of `linear` over masks drawn with probability p, (n_targets,) float64."""
        total: Array = self.scores.sum(axis=0, dtype=np.float64)
        return p * total

    def variance(self, p: float) -> Array:
        """Var g over masks drawn with probability p, (n_targets,) float64."""
        weight: Array = np.sum(np.square(self.scores, dtype=np.float64), axis=0)
        return p * (1.0 - p) * weight
