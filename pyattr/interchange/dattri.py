"""What dattri's metrics are called with.

dattri has training examples in rows, as here, and torch tensors. Its ``lds`` takes subsets as a
rectangle of indices, and random subsets differ in size: the shorter are filled up with the index of a
row of zeros, which is put below the scores.

Tested with dattri 0.3.0 (``dattri.metric.lds``) where it is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution import Attribution
from pyattr.errors import bad_value
from pyattr.masks import Masks
from pyattr.optional import optional_module

if TYPE_CHECKING:
    import torch

__all__ = ["dattri_lds_arguments", "dattri_scores"]


def dattri_scores(attribution: Attribution) -> torch.Tensor:
    """Scores as dattri's attributors return them.

    Parameters
    ----------
    attribution : Attribution

    Returns
    -------
    (n_train, n_targets) float32 tensor
        A copy.

    Raises
    ------
    RuntimeError
        If torch is missing; the message says which line installs it.
    """
    tensor: torch.Tensor = optional_module("torch", "torch").tensor(attribution.scores)
    return tensor


def dattri_lds_arguments(
    attribution: Attribution, masks: Masks, outputs: NDArray[Any]
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Arguments of ``dattri.metric.lds(score, ground_truth)``.

    Parameters
    ----------
    attribution : Attribution
    masks : Masks
        n_masks subsets.
    outputs : (n_masks, n_targets) float
        Of models trained on them.

    Returns
    -------
    score : (n_train + 1, n_targets) float32 tensor
        The last row is zero.
    ground_truth : tuple of (n_masks, n_targets) float32 and (n_masks, largest size) int64 tensors
        Outputs, and indices of each subset, filled up with n_train.

    Raises
    ------
    ValueError
        If shapes do not fit.
    RuntimeError
        If torch is missing.
    """
    torch = optional_module("torch", "torch")
    n_train, n_targets = attribution.n_train, attribution.n_targets
    if masks.n_train != n_train:
        raise bad_value("masks", f"n_train = {n_train}", masks.n_train)
    if outputs.shape != (len(masks), n_targets):
        raise bad_value("outputs", f"shape ({len(masks)}, {n_targets})", outputs.shape)
    indices = np.full((len(masks), int(masks.sizes().max(initial=0))), n_train, np.int64)
    for row in range(len(masks)):
        chosen = np.flatnonzero(masks[row].unpack()[0])
        indices[row, : chosen.size] = chosen
    score = np.vstack([attribution.scores, np.zeros((1, n_targets), np.float32)])
    values = np.array(outputs, np.float32)
    return torch.from_numpy(score), (torch.from_numpy(values), torch.from_numpy(indices))
