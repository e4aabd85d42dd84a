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

# Masks trained under two seeds each: four tell whether seeds matter. If they do, how much is worth
# knowing better, because the size of the design is proportional to it: of pairs, as a design has them.
FIRST_MASKS = 4
MORE_PAIRS = 6
PILOT_TRAININGS = 2 * FIRST_MASKS
SEEDS_MATTER = 0.01  # seed variance relative to the spread of the pilot's outputs


@dataclass(frozen=True)
class Pilot:
    """What a pilot saw.

    Parameters
    ----------
    masks : Masks
    outputs : (n_pilot, n_targets) float64
    odd_scatter : (n_targets,) float64
        Variance over seeds of half the difference of a mask's and its complement's outputs; only
        for p = 1/2.
    n_free : int
        Degrees of freedom of `odd_scatter`.
    """

    masks: Masks
    outputs: Array
    odd_scatter: Array
    n_free: int

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
        scatter, unit, n_free = self.odd_scatter, self.spread, self.n_free
        if scores is not None:
            # Whichever is larger, so that scores near zero do not make the noise look overwhelming.
            unit = np.maximum(unit, scores.variance(p) + scatter)
        if p != 0.5:
            predicted = 0.0 if scores is None else scores.predict(self.masks)
            scatter = (self.outputs - predicted).var(axis=0, ddof=1) / 2.0
            n_free = len(self.masks) - 1
        share = float(np.max(scatter / np.where(unit > 0.0, unit, np.inf)))
        # The largest of many estimates errs upwards; a single one is raised to its upper 80% limit.
        quantile = float(stats.chi2.ppf(0.2 ** (1.0 / self.outputs.shape[1]), n_free))
        return min(share * max(1.0, n_free / quantile), 0.5)


def run_pilot(
    evaluate: Evaluator, n_train: int, p: float, seed: int, most: int | None = None
) -> Pilot:
    """Train 8 models, and 24 more if they depend on their seeds.

    Parameters
    ----------
    evaluate : Evaluator
    n_train : int
    p : float
    seed : int
    most : int, optional
        Most trainings to spend.
    """
    mask_seed, run_seed = (int(s) for s in sample_seeds(2, seed))
    masks = sample_masks(FIRST_MASKS, n_train, p, mask_seed)[np.repeat(np.arange(FIRST_MASKS), 2)]
    outputs = evaluate(masks, sample_seeds(len(masks), run_seed)).astype(np.float64)
    variance = np.mean((outputs[0::2] - outputs[1::2]) ** 2, axis=0) / 2.0
    # Half of it scatters in a pair whose two seed effects have nothing in common.
    pilot = Pilot(masks, outputs, variance / 2.0, FIRST_MASKS)
    matters = bool(np.any(variance > SEEDS_MATTER * np.where(variance > 0.0, pilot.spread, np.inf)))
    if not matters or (most is not None and most < len(masks) + 4 * MORE_PAIRS):
        return pilot
    plus = sample_masks(2 * MORE_PAIRS, n_train, p, mask_seed, first_row=FIRST_MASKS)
    seeds = sample_seeds(2 * MORE_PAIRS, run_seed, first_row=len(masks))
    if p == 0.5:
        plus = plus[np.repeat(np.arange(MORE_PAIRS), 2)]
        minus = plus.complement()
    else:
        minus = sample_masks(len(plus), n_train, p, mask_seed, first_row=FIRST_MASKS + len(plus))
    both = Masks.concatenate([plus, minus])
    more = evaluate(both, np.tile(seeds, 2)).astype(np.float64)
    odd = (more[: len(plus)] - more[len(plus) :]) / 2.0
    return Pilot(
        Masks.concatenate([masks, both]),
        np.concatenate([outputs, more]),
        np.mean((odd[0::2] - odd[1::2]) ** 2, axis=0) / 2.0,
        MORE_PAIRS,
    )
