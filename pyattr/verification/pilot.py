"""A few trainings that show how much the seed matters: the design rests on them, no conclusion does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.scores import LinearScores

__all__ = ["PILOT_TRAININGS", "Pilot", "run_pilot"]

Array = npt.NDArray[np.float64]

# Masks trained under two seeds each. Four tell whether seeds matter; if they do, how much is worth
# knowing better, because the size of the design is proportional to it.
FIRST_MASKS = 4
MORE_MASKS = 8
# Away from p = 1/2 the whole residual counts, whose variance so few masks may miss; and designs are large.
FAR_MASKS = 28
PILOT_TRAININGS = 2 * FIRST_MASKS
SEEDS_MATTER = 0.01  # seed variance relative to the spread of the pilot's outputs


@dataclass(frozen=True)
class Pilot:
    """What a pilot saw.

    Parameters
    ----------
    masks : Masks
        Each mask twice in a row.
    outputs : (n_pilot, n_targets) float64
    """

    masks: Masks
    outputs: Array

    @property
    def seed_variance(self) -> Array:
        """Variance over seeds of one output, (n_targets,)."""
        half: Array = np.mean((self.outputs[0::2] - self.outputs[1::2]) ** 2, axis=0) / 2.0
        return half

    @property
    def spread(self) -> Array:
        """Variance of all outputs, (n_targets,)."""
        variance: Array = self.outputs.var(axis=0)
        return variance

    def noise(self, p: float, scores: LinearScores | None = None) -> float:
        """Variance of one odd residual within its cluster, relative to Var f, largest over targets.

        At p = 1/2 an odd residual scatters through its seeds alone; elsewhere its even part does not
        cancel within a leaf, and the whole residual counts (all of f where the scores are not known).
        """
        scatter, unit = self.seed_variance, self.spread
        if scores is not None:
            # Whichever is larger, so that scores near zero do not make the noise look overwhelming.
            unit = np.maximum(unit, scores.variance(p) + scatter)
        if p != 0.5:
            predicted = 0.0 if scores is None else scores.predict(self.masks)
            scatter = (self.outputs - predicted).var(axis=0, ddof=1)
        share = float(np.max(scatter / np.where(unit > 0.0, unit, np.inf)))
        # The largest of many estimates errs upwards; a single one is raised to its upper 80% limit.
        n_masks, n_targets = len(self.masks) // 2, self.outputs.shape[1]
        quantile = float(stats.chi2.ppf(0.2 ** (1.0 / n_targets), n_masks))
        return min(share * max(1.0, n_masks / quantile), 1.0) / 2.0


def run_pilot(
    evaluate: Evaluator, n_train: int, p: float, seed: int, most: int | None = None
) -> Pilot:
    """Train 8 models, and 16 more if they depend on their seeds; 56 more for p other than 1/2.

    Parameters
    ----------
    evaluate : Evaluator
    n_train : int
    p : float
    seed : int
    most : int, optional
        Most trainings to spend.
    """
    pilot = _train(evaluate, n_train, p, seed, 0, FIRST_MASKS)
    unit = np.where(pilot.spread > 0.0, pilot.spread, np.inf)
    matters = bool(np.any(pilot.seed_variance > SEEDS_MATTER * unit))
    n_more = MORE_MASKS if p == 0.5 else FAR_MASKS
    enough = 2 * (FIRST_MASKS + n_more)
    if not (matters or p != 0.5) or (most is not None and most < enough):
        return pilot
    more = _train(evaluate, n_train, p, seed, FIRST_MASKS, n_more)
    masks = Masks.concatenate([pilot.masks, more.masks])
    return Pilot(masks, np.concatenate([pilot.outputs, more.outputs]))


def _train(
    evaluate: Evaluator, n_train: int, p: float, seed: int, first: int, n_masks: int
) -> Pilot:
    """Train masks `first` to ``first + n_masks`` of a pilot, under two seeds each."""
    mask_seed, run_seed = (int(s) for s in sample_seeds(2, seed))
    masks = sample_masks(n_masks, n_train, p, mask_seed, first_row=first)
    twice = masks[np.repeat(np.arange(n_masks), 2)]
    outputs = evaluate(twice, sample_seeds(2 * n_masks, run_seed, first_row=2 * first))
    return Pilot(twice, outputs.astype(np.float64))
