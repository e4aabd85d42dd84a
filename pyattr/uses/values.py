"""What an example is worth: the weighted sum of its scores over the targets."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from pyattr.attribution import Attribution
from pyattr.errors import bad_value
from pyattr.interface import Retrain
from pyattr.masks import Masks

__all__ = ["Sellers", "SummedRetrain", "summed", "target_weights", "weighted_sum"]

Array = npt.NDArray[np.float64]

_NO_NAMES: Final = ("None", "nan", "<NA>", "NaT")  # what is missing, in words: no seller's name


def target_weights(weights: npt.ArrayLike | None, n_targets: int) -> Array:
    """Weights of the targets; their mean if none are given.

    Parameters
    ----------
    weights : (n_targets,) array_like, optional
        May be negative: of a loss, less is better.
    n_targets : int

    Returns
    -------
    (n_targets,) float64

    Raises
    ------
    ValueError
        If they are not that, not finite, or all 0.
    """
    if weights is None:
        return np.full(n_targets, 1.0 / n_targets)
    array = np.asarray(weights)
    if array.shape != (n_targets,) or array.dtype.kind not in "biuf":
        raise bad_value("weights", f"{n_targets} numbers", f"{array.shape} {array.dtype}")
    result = array.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(result))
    if wrong.size or not result.any():
        got = f"{result[wrong[0]]} for target {wrong[0]}" if wrong.size else "zeros alone"
        raise bad_value("weights", "finite numbers that are not all 0", got)
    return result


def weighted_sum(columns: npt.NDArray[np.floating], weights: Array) -> Array:
    """``Σ_t weights[t] · columns[:, t]``, (n,) float64.

    Target after target, so that the bits do not depend on the machine: a digest is made of the result.
    """
    total = np.zeros(columns.shape[0])
    for weight, column in zip(weights, columns.T, strict=True):
        total += weight * column.astype(np.float64)
    return total


def summed(attribution: Attribution, weights: npt.ArrayLike | None = None) -> Attribution:
    """Scores of the weighted sum of all targets, as an attribution of one target.

    The best linear attribution of a weighted sum of outputs is the weighted sum of their best linear
    attributions. To verify it, train with `SummedRetrain`: the limit of its one gap is mostly far
    smaller than what the limits of all targets imply for the sum.

    Parameters
    ----------
    attribution : Attribution
    weights : (n_targets,) array_like, optional
        The mean over targets if not given.

    Returns
    -------
    Attribution
        (n_train, 1).

    Raises
    ------
    ValueError
        If the weights do not fit.
    """
    chosen = target_weights(weights, attribution.n_targets)
    return Attribution(
        scores=weighted_sum(attribution.scores, chosen),
        intercept=weighted_sum(attribution.intercept[None, :], chosen),
        method=attribution.method,
        design=attribution.design,
    )


class SummedRetrain:
    """A `Retrain` of one target: the weighted sum of another's outputs.

    Parameters
    ----------
    retrain : Retrain
    weights : (n_targets,) array_like
    """

    n_targets = 1

    def __init__(self, retrain: Retrain, weights: npt.ArrayLike) -> None:
        self._retrain = retrain
        self._weights = target_weights(weights, np.size(weights))
        if hasattr(retrain, "n_train"):
            self.n_train: int = retrain.n_train

    def __call__(self, masks: Masks, seeds: npt.NDArray[np.uint64], /) -> npt.NDArray[np.float32]:
        """Train one model a row; (n, 1) float32.

        Raises
        ------
        ValueError
            If there is another number of outputs than of weights.
        """
        outputs = np.asarray(self._retrain(masks, seeds))
        if outputs.ndim != 2 or outputs.shape[1] != self._weights.size:
            raise bad_value("outputs", f"{self._weights.size} targets a row", outputs.shape)
        return weighted_sum(outputs, self._weights).astype(np.float32)[:, None]


class Sellers:
    """Who owns which example.

    Parameters
    ----------
    owners : (n_train,) array_like, optional
        Name or number of each example's seller. If not given, every example (or every group that a mask
        bit stands for) is a seller of its own.
    n_train : int

    Attributes
    ----------
    names : tuple of str
        In the order of their first examples.
    of : (n_train,) int64
        Position in `names` of each example's seller.
    sizes : (n_sellers,) int64
        How many examples each has.

    Raises
    ------
    ValueError
        If there is another number of them, or one is missing (None, NaN).
    """

    def __init__(self, owners: npt.ArrayLike | None, n_train: int) -> None:
        given = np.arange(n_train) if owners is None else np.asarray(owners, dtype=object)
        if given.shape != (n_train,):
            raise bad_value("owners", f"a seller for each of {n_train} examples", given.shape)
        missing = [not isinstance(owner, str) and str(owner) in _NO_NAMES for owner in given]
        if owners is not None and any(missing):
            raise bad_value(
                "owners", "a seller for each example", f"none for {missing.index(True)}"
            )
        labels, first, of = np.unique(given.astype(str), return_index=True, return_inverse=True)
        order = np.argsort(first)
        position = np.empty_like(order)
        position[order] = np.arange(order.size)
        self.names = tuple(str(name) for name in labels[order])
        self.of: npt.NDArray[np.int64] = position[of.ravel()].astype(np.int64)
        sizes = np.bincount(self.of, minlength=len(self.names))
        self.sizes: npt.NDArray[np.int64] = sizes.astype(np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def total(self, values: npt.NDArray[np.floating]) -> Array:
        """Sum of each seller's values, (n_sellers,) float64."""
        sums = np.bincount(self.of, values, minlength=len(self.names))
        return sums.astype(np.float64)

    def members(self, seller: int) -> npt.NDArray[np.int64]:
        """Examples of a seller, (n_members,) int64."""
        return np.flatnonzero(self.of == seller)
