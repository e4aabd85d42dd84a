"""What quanda's metrics are called with.

quanda has test examples in rows, the other way round than here: explanations are
(test_samples, dataset_size) torch tensors, and subsets lists of indices.

Checked against the source of quanda 0.5.0 (``explainers/base.py``,
``metrics/ground_truth/linear_datamodeling.py``), not run with it: it cannot be imported without
torchvision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyattr.attribution import Attribution
from pyattr.masks import Masks
from pyattr.optional import optional_module

if TYPE_CHECKING:
    import torch

__all__ = ["quanda_explanations", "quanda_subsets"]


def quanda_explanations(attribution: Attribution, targets: slice | None = None) -> torch.Tensor:
    """Make ``explanations`` for the ``update`` of a metric.

    Parameters
    ----------
    attribution : Attribution
    targets : slice, optional
        Those of the batch; all if not given.

    Returns
    -------
    (n_targets, n_train) float32 tensor
        In C order.

    Raises
    ------
    RuntimeError
        If torch is missing; the message says which line installs it.
    """
    columns = attribution.scores[:, targets or slice(None)]
    rows = np.array(columns.T, order="C")
    tensor: torch.Tensor = optional_module("torch", "torch").from_numpy(rows)
    return tensor


def quanda_subsets(masks: Masks) -> list[list[int]]:
    """Make ``subset_ids`` of ``LinearDatamodelingMetric``.

    Parameters
    ----------
    masks : Masks

    Returns
    -------
    list of list of int
        Indices of the examples of each subset, rising.
    """
    return [np.flatnonzero(mask.unpack()[0]).tolist() for mask in masks]
