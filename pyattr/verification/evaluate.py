"""Calling `retrain` and checking what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_positive
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.verification.trainings import Trainings

__all__ = ["Evaluator", "Progress", "Recorded", "check_outputs"]

Progress = Callable[[int, int], None]
"""Called with the number of trainings done and the number planned."""

_BLOCK_BYTES = 1 << 26


def check_outputs(
    outputs: npt.ArrayLike, n_masks: int, n_targets: int, name: str = "outputs"
) -> npt.NDArray[np.float32]:
    """Return outputs as (n_masks, n_targets) float32 after checking shape and finiteness.

    Always a copy: a function that fills the same array at each call would change what was kept of it.

    Raises
    ------
    ValueError
        If the shape is another, or a value is NaN or infinite (the first is named).
    """
    array = np.asarray(outputs)
    if array.ndim == 1 and n_targets == 1:
        array = array[:, None]
    if array.shape != (n_masks, n_targets):
        raise bad_value(name, f"shape ({n_masks}, {n_targets})", f"shape {np.shape(outputs)}")
    if array.dtype.kind != "f":
        raise bad_value(name, "a floating dtype", array.dtype)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
        array = np.array(array, dtype=np.float32, order="C")
    finite = np.isfinite(array)
    if not finite.all():
        row, target = (int(i) for i in np.argwhere(~finite)[0])
        raise bad_value(
            name, "finite float32 values", f"{array[row, target]} in row {row}, target {target}"
        )
    return array


@dataclass
class Evaluator:
    """Runs trainings in blocks of bounded memory, clips their outputs and counts them.

    Parameters
    ----------
    retrain : Retrain
    n_targets : int
    clip : float, optional
        b: outputs are clipped to [-b, b], which is part of the definition of f.
    progress : Progress, optional
    trainings : Trainings, optional
        Keeps every output; no row is then trained twice. By default none is kept.
    """

    retrain: Retrain
    n_targets: int
    clip: float | None = None
    progress: Progress | None = None
    trainings: Trainings | None = None
    n_trained: int = 0
    n_planned: int = 0
    clipped: npt.NDArray[np.int64] = field(init=False)  # outputs of each target, (n_targets,)

    def __post_init__(self) -> None:
        if self.clip is not None:
            check_positive("clip", self.clip)
        self.clipped = np.zeros(self.n_targets, dtype=np.int64)

    @property
    def n_clipped(self) -> int:
        """Outputs clipped so far."""
        return int(self.clipped.sum())

    @property
    def clipped_shares(self) -> npt.NDArray[np.float64]:
        """Share of every target's outputs that were clipped, (n_targets,)."""
        return self.clipped / max(1, self.n_trained)

    @property
    def block(self) -> int:
        """Rows trained in one call; even, so that pairs stay together."""
        return max(64, min(1 << 16, _BLOCK_BYTES // (4 * self.n_targets))) & ~1

    def __call__(self, masks: Masks, seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """Outputs of all rows, (n, n_targets) float32, clipped."""
        step = self.block
        parts = [
            self._run(masks[a : a + step], seeds[a : a + step]) for a in range(0, len(masks), step)
        ]
        return np.concatenate(parts)

    def _run(self, masks: Masks, seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        kept = self.trainings
        if kept is None:
            outputs = self._train(masks, seeds)
        else:
            rows = kept.missing(masks, seeds)
            if len(rows):
                kept.add(masks[rows], seeds[rows], self._train(masks[rows], seeds[rows]))
            outputs = kept.outputs(masks, seeds)
        return outputs if self.clip is None else np.clip(outputs, -self.clip, self.clip)

    def _train(self, masks: Masks, seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """Outputs before clipping."""
        # A copy, since some count their seeds up in place, and a spot check trains by the same ones again.
        outputs = check_outputs(self.retrain(masks, seeds.copy()), len(masks), self.n_targets)
        if self.clip is not None:
            self.clipped += np.sum(np.abs(outputs) > self.clip, axis=0)
        self.n_trained += len(masks)
        if self.progress is not None:
            self.progress(self.n_trained, max(self.n_planned, self.n_trained))
        return outputs


@dataclass
class Recorded:
    """A `Retrain` that answers from finished trainings and runs only the others.

    `pyattr.verify` adds one, ``error.completed``, to the exception of a training that fails: given in the
    place of `retrain`, with the same seed and other arguments, it goes on where the first call stopped.

    Parameters
    ----------
    retrain : Retrain
    trainings : Trainings, optional
        What is finished; whatever runs is added.

    Examples
    --------
    >>> from pyattr.masks import sample_masks, sample_seeds
    >>> recorded = Recorded(lambda masks, seeds: masks.sizes().astype(np.float32))
    >>> again = [recorded(sample_masks(3, 10), sample_seeds(3)) for _ in range(2)]
    >>> len(recorded.trainings)
    3
    """

    retrain: Retrain
    trainings: Trainings = field(default_factory=Trainings)

    def __call__(self, masks: Masks, seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """Outputs of all rows, (n, n_targets) float32."""
        rows = self.trainings.missing(masks, seeds)
        if len(rows):
            fresh = self.retrain(masks[rows], seeds[rows])
            n_targets = fresh.shape[1] if np.ndim(fresh) == 2 else 1
            checked = check_outputs(fresh, len(rows), n_targets)
            self.trainings.add(masks[rows], seeds[rows], checked)
        return self.trainings.outputs(masks, seeds)
