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
from pyattr.report import encode_png

__all__ = ["examples", "quality"]

_SHOWN_TARGETS = 4
_SHOWN_IMAGES = 5


def _shown_targets(dataset: Dataset, outputs: npt.NDArray[np.float32]) -> list[int]:
    """A few test examples of different classes, from the hardest to the easiest."""
    order = np.argsort(outputs.mean(axis=0))
    chosen: list[int] = []
    for place in np.linspace(0, len(order) - 1, _SHOWN_TARGETS).astype(int):
        seen = {int(dataset.test_labels[t]) for t in chosen}
        nearest = sorted(range(len(order)), key=lambda j: abs(j - place))
        fresh = [j for j in nearest if int(dataset.test_labels[order[j]]) not in seen]
        left = fresh or [j for j in nearest if int(order[j]) not in chosen]
        chosen += [int(order[j]) for j in left[:1]]
    return chosen


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
            for t in _shown_targets(dataset, outputs)
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

    def training(index: int, target: int) -> dict[str, Any]:
        return {
            "index": index,
            "label": dataset.class_names[int(dataset.train_labels[index])],
            "score": plain(honest.scores[index, target]),
            "seller": SELLER_NAMES[int(owners[index])],
            "png": encode_png(dataset.train_images[index], dataset.image_shape),
        }

    shown = []
    for target in targets:
        order = np.argsort(honest.scores[:, target])
        shown.append(
            {
                "target": target,
                "label": dataset.class_names[int(dataset.test_labels[target])],
                "png": encode_png(dataset.test_images[target], dataset.image_shape),
                "helpful": [training(int(i), target) for i in order[::-1][:_SHOWN_IMAGES]],
                "harmful": [training(int(i), target) for i in order[:_SHOWN_IMAGES]],
            }
        )
    return shown
