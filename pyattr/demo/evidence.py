"""How well the honest scores predict, and the training images behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution, held_out_r2, lds
from pyattr.datasets import Dataset
from pyattr.demo.cases import SELLER_NAMES
from pyattr.demo.results import plain
from pyattr.masks import Masks
from pyattr.reports.examples import influential, shown_targets

__all__ = ["examples", "quality"]


def quality(
    honest: Attribution, dataset: Dataset, masks: Masks, outputs: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """Predicted against true outputs on subsets that nobody has seen.

    Parameters
    ----------
    honest : Attribution
    dataset : Dataset
    masks : Masks
        Fresh subsets.
    outputs : (n_masks, n_targets) float32
        Of models trained on them.
    """
    r2, rank = held_out_r2(honest, masks, outputs), lds(honest, masks, outputs)
    predicted = honest.predict(masks)
    names = dataset.class_names
    return {
        "n_subsets": len(masks),
        "r2": plain(r2),
        "r2_median": plain(float(np.median(r2))),
        "r2_lowest": plain(float(r2.min())),
        "lds": plain(rank),
        "lds_median": plain(float(np.median(rank))),
        "scatter": [
            {
                "target": t,
                "label": names[int(dataset.test_labels[t])],
                "r2": plain(r2[t]),
                "lds": plain(rank[t]),
                "predicted": np.round(predicted[:, t].astype(float), 4).tolist(),
                "true": np.round(outputs[:, t].astype(float), 4).tolist(),
            }
            for t in shown_targets(outputs.mean(axis=0), dataset.test_labels)
        ],
    }


def examples(
    honest: Attribution, dataset: Dataset, targets: Sequence[int], owners: npt.NDArray[np.int64]
) -> list[dict[str, Any]]:
    """The training images that helped and harmed a few test images most.

    Parameters
    ----------
    honest : Attribution
    dataset : Dataset
    targets : sequence of int
        Test examples.
    owners : (n_train,) int64
        Seller of each training example.
    """
    return influential(honest.scores, targets, dataset, lambda i: SELLER_NAMES[int(owners[i])])
