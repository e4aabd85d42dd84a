"""Finished trainings, kept so that none is ever repeated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyattr.masks import Masks

__all__ = ["Trainings"]

Seeds = npt.NDArray[np.uint64]
Outputs = npt.NDArray[np.float32]


class Trainings:
    """Outputs by mask and seed.

    Examples
    --------
    >>> import numpy as np
    >>> from pyattr.masks import sample_masks, sample_seeds
    >>> masks, seeds, kept = sample_masks(3, 10), sample_seeds(3), Trainings()
    >>> kept.add(masks[:2], seeds[:2], np.array([[1.0], [2.0]], np.float32))
    >>> kept.missing(masks, seeds)
    array([2])
    """

    def __init__(self) -> None:
        self._outputs: dict[bytes, Outputs] = {}

    def __len__(self) -> int:
        """Number of trainings kept."""
        return len(self._outputs)

    def add(self, masks: Masks, seeds: Seeds, outputs: Outputs) -> None:
        """Keep the outputs, (n, n_targets), of n trainings."""
        self._outputs.update(zip(_keys(masks, seeds), outputs, strict=True))

    def missing(self, masks: Masks, seeds: Seeds) -> npt.NDArray[np.int64]:
        """Rows that are not kept, each once where rows repeat."""
        rows: dict[bytes, int] = {}
        for row, key in enumerate(_keys(masks, seeds)):
            if key not in self._outputs:
                rows.setdefault(key, row)
        return np.array(list(rows.values()), dtype=np.int64)

    def outputs(self, masks: Masks, seeds: Seeds) -> Outputs:
        """Outputs of all rows, (n, n_targets) float32; none may be missing."""
        return np.stack([self._outputs[key] for key in _keys(masks, seeds)])


def _keys(masks: Masks, seeds: Seeds) -> list[bytes]:
    """What tells one training from another."""
    packed, words = masks.packed, np.ascontiguousarray(seeds, dtype="<u8")
    return [row.tobytes() + seed.tobytes() for row, seed in zip(packed, words, strict=True)]
