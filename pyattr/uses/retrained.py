"""Checking a selection by training on it, beside random subsets of the same size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.errors import bad_value, check_count, check_probability
from pyattr.interface import Retrain
from pyattr.masks import Masks, sample_seeds
from pyattr.uses.basis import percent
from pyattr.uses.selection import Selection
from pyattr.uses.values import Array, weighted_sum

__all__ = ["Measured", "measure_selection"]

Progress = Callable[[int, int], None]

_BLOCK = 64  # rows between two reports of progress


@dataclass(frozen=True)
class Measured:
    """What models trained on a selection gain over models trained on random subsets.

    Parameters
    ----------
    gain : float
        Mean weighted output of the models on the selection less that of those on random subsets.
    lower, upper : float
        Confidence limits of the expected gain (Welch's t).
    confidence : float
    predicted : float
        `Selection.predicted_gain`.
    share_beaten : float
        Share of the random models whose weighted output is below the selection's mean.
    gain_of_targets : (n_targets,) float64
        The gain at each target, unweighted.
    selected : (n_repeats,) float64
        Weighted outputs of models on the selection, a seed each.
    random : (n_random,) float64
        Of models on random subsets, a subset and a seed each.
    """

    gain: float
    lower: float
    upper: float
    confidence: float
    predicted: float
    share_beaten: float
    gain_of_targets: Array
    selected: Array
    random: Array

    def __repr__(self) -> str:
        return (
            f"Measured(gain {self.gain:.4g} in [{self.lower:.4g}, {self.upper:.4g}] at "
            f"{percent(self.confidence)}, predicted {self.predicted:.4g})"
        )


def measure_selection(
    retrain: Retrain,
    selection: Selection,
    *,
    n_repeats: int = 8,
    n_random: int = 64,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measured:
    """Train models on a selection and on random subsets of as many examples or sellers.

    Parameters
    ----------
    retrain : callable
        ``retrain(masks, seeds) -> (n, n_targets)``, with masks over the examples of the scores.
    selection : Selection
    n_repeats : int
        Models on the selection, a seed each; at least 2.
    n_random : int
        Random subsets, a model each; at least 2.
    confidence : float
        Of the limits.
    seed : int
        In [0, 2^64): of the random subsets and of all trainings.
    progress : callable, optional
        Called as ``progress(done, planned)``.

    Returns
    -------
    Measured

    Raises
    ------
    ValueError
        If an argument is out of range, or outputs are not as many as the weights, or not finite: the
        message names the first row that is not.

    Notes
    -----
    Means over seeds and over subsets are taken to be near normal. The limits are about this selection,
    this recipe and these targets; where the selection was made by the scores, nothing in them was fitted to
    these models. But it was made *for* these targets: where they are test points, what it gains on others is
    mostly less. Leave some out of the scores and measure there.
    """
    check_count("n_repeats", n_repeats, 2)
    check_count("n_random", n_random, 2)
    level = check_probability("confidence", confidence)
    choice_seed, run_seed = (int(part) for part in sample_seeds(2, seed))
    choices = _random_choices(selection, n_random, choice_seed)
    masks = Masks.concatenate([selection.mask()] * n_repeats + [selection.masks_of(choices)])
    n_targets = selection.basis.weights.size
    seeds = sample_seeds(len(masks), run_seed)
    outputs = _trained(retrain, masks, seeds, n_repeats, n_targets, progress)
    weighted = weighted_sum(outputs, selection.basis.weights)
    selected, random = weighted[:n_repeats], weighted[n_repeats:]
    gain, lower, upper = _welch(selected, random, level)
    return Measured(
        gain=gain,
        lower=lower,
        upper=upper,
        confidence=level,
        predicted=selection.predicted_gain,
        share_beaten=float(np.mean(random < selected.mean())),
        gain_of_targets=outputs[:n_repeats].mean(axis=0, dtype=np.float64)
        - outputs[n_repeats:].mean(axis=0, dtype=np.float64),
        selected=selected,
        random=random,
    )


def _random_choices(selection: Selection, n_random: int, seed: int) -> npt.NDArray[np.int64]:
    """Uniform choices of as many sellers, (n_random, n_selected)."""
    generator = np.random.Generator(np.random.Philox(seed))
    n, count = len(selection.sellers), len(selection.chosen)
    return np.stack([generator.choice(n, count, replace=False) for _ in range(n_random)])


def _trained(
    retrain: Retrain,
    masks: Masks,
    seeds: npt.NDArray[np.uint64],
    n_repeats: int,
    n_targets: int,
    progress: Progress | None,
) -> npt.NDArray[np.floating]:
    """Outputs of all models, the first `n_repeats` of them on the selection."""
    parts = []
    for first in range(0, len(masks), _BLOCK):
        rows = slice(first, first + _BLOCK)
        # A copy: the function may fill the same array again at its next call.
        outputs = np.array(retrain(masks[rows], seeds[rows]))
        shape = masks[rows].n_masks, n_targets
        if outputs.shape != shape or outputs.dtype.kind not in "biuf":
            got = f"{outputs.shape} {outputs.dtype}"
            raise bad_value("retrain", f"real outputs of shape {shape}", got)
        wrong = np.argwhere(~np.isfinite(outputs))
        if wrong.size:
            row, target = (int(index) for index in wrong[0])
            place = first + row
            subset = "the selection" if place < n_repeats else "a random choice"
            got = f"{outputs[row, target]} in row {place}, target {target}: a model on {subset}"
            raise bad_value("retrain", "finite outputs", f"{got}, seed {seeds[place]}")
        parts.append(outputs)
        if progress is not None:
            progress(min(first + _BLOCK, len(masks)), len(masks))
    return np.concatenate(parts)


def _welch(selected: Array, random: Array, confidence: float) -> tuple[float, float, float]:
    """Difference of means with two-sided limits (Welch 1947); exact where neither varies."""
    parts = np.array([selected.var(ddof=1) / selected.size, random.var(ddof=1) / random.size])
    gain = float(selected.mean() - random.mean())
    square = float(parts.sum())
    if square == 0.0:
        return gain, gain, gain
    freedom = square**2 / float(np.sum(parts**2 / [selected.size - 1, random.size - 1]))
    reach = float(stats.t.ppf((1.0 + confidence) / 2.0, freedom)) * np.sqrt(square)
    return gain, gain - reach, gain + reach
