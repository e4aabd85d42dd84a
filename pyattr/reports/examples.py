"""The training examples behind a target's prediction: which helped most, and which harmed."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pyattr.datasets import Dataset

__all__ = ["encode_png", "influential", "shown_targets", "strongest"]

SHOWN_TARGETS: Final = 4
SHOWN_EXAMPLES: Final = 5

Float = npt.NDArray[np.floating[Any]]


def encode_png(image: npt.NDArray[np.float32], shape: Sequence[int]) -> str:
    """Encode an image for a data URL.

    Parameters
    ----------
    image : (n_features,) float32
        From 0 to 1.
    shape : (height, width) or (3, height, width)

    Returns
    -------
    str
        Base64 of a PNG file.
    """
    from PIL import Image  # an extra: only reports need it

    pixels = np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8).reshape(tuple(shape))
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def shown_targets(
    rank: Float, labels: npt.NDArray[np.int64] | None = None, n_shown: int = SHOWN_TARGETS
) -> list[int]:
    """A few targets from the lowest to the highest rank, of different classes as far as there are.

    Parameters
    ----------
    rank : (n_targets,) float
        By what they are spread: mean output, R², … NaN counts as lowest.
    labels : (n_targets,) int64, optional
    n_shown : int

    Returns
    -------
    list of int
    """
    order = np.argsort(np.where(np.isnan(rank), -np.inf, rank))
    chosen: list[int] = []
    for place in np.linspace(0, len(order) - 1, n_shown).astype(int):
        seen = set() if labels is None else {int(labels[t]) for t in chosen}
        nearest = sorted(range(len(order)), key=lambda j: abs(j - place))
        left = [j for j in nearest if int(order[j]) not in chosen]
        fresh = [j for j in left if labels is None or int(labels[order[j]]) not in seen]
        chosen += [int(order[j]) for j in (fresh or left)[:1]]
    return chosen


def strongest(scores: npt.NDArray[np.float32], n_most: int) -> dict[str, npt.NDArray[np.intp]]:
    """The examples that raise and that lower one target most, as far as there are any.

    Parameters
    ----------
    scores : (n_train,) float32
    n_most : int
        Of each side.

    Returns
    -------
    dict
        ``helpful`` and ``harmful``: positions, the strongest first; scores of 0 are in neither.
    """
    order = np.argsort(scores, kind="stable")
    helpful, harmful = order[::-1][:n_most], order[:n_most]
    return {"helpful": helpful[scores[helpful] > 0], "harmful": harmful[scores[harmful] < 0]}


def influential(
    scores: npt.NDArray[np.float32],
    targets: Sequence[int],
    dataset: Dataset | None = None,
    owner: Callable[[int], str] = lambda example: "",
) -> list[dict[str, Any]]:
    """The training examples that raise and that lower a few targets most.

    Parameters
    ----------
    scores : (n_train, n_targets) float32
    targets : sequence of int
    dataset : Dataset, optional
        Where labels and images are from; without it there are numbers alone.
    owner : callable
        Whose a training example is, "" if nobody's.

    Returns
    -------
    list of dict
        For each target ``target``, ``label``, ``png``, and ``helpful`` and ``harmful``: dicts with
        ``index``, ``label``, ``score``, ``seller``, ``png``. What is not known is "".
    """

    def example(index: int, target: int) -> dict[str, Any]:
        label, png = "", ""
        if dataset is not None:
            label = dataset.class_names[int(dataset.train_labels[index])]
            png = encode_png(dataset.train_images[index], dataset.image_shape)
        score = float(f"{scores[index, target]:.6g}")
        words = {"index": index, "label": label, "score": score, "seller": owner(index), "png": png}
        if dataset is not None and dataset.train_flipped is not None:
            words["flipped"] = bool(dataset.train_flipped[index])
        return words

    shown = []
    for target in targets:
        sides = strongest(scores[:, target], SHOWN_EXAMPLES)
        label, png = "", ""
        if dataset is not None:
            label = dataset.class_names[int(dataset.test_labels[target])]
            png = encode_png(dataset.test_images[target], dataset.image_shape)
        shown.append(
            {
                "target": target,
                "label": label,
                "png": png,
                **{side: [example(int(i), target) for i in most] for side, most in sides.items()},
            }
        )
    return shown
