"""The examples that models are trained and tested on, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pyattr.errors import bad_value

__all__ = ["Pool"]


@dataclass(frozen=True)
class Pool:
    """All training examples and the test examples, as tensors on the processor.

    Tensors are copies owned by torch, whose memory is aligned the same way in every process.

    Attributes
    ----------
    train_features : (n_examples, n_features) float32
    train_labels : (n_examples,) int64
    test_features : (n_targets, n_features) float32
    test_labels : (n_targets,) int64
    n_classes : int
    """

    train_features: torch.Tensor
    train_labels: torch.Tensor
    test_features: torch.Tensor
    test_labels: torch.Tensor
    n_classes: int

    @classmethod
    def of(
        cls,
        train_features: ArrayLike,
        train_labels: ArrayLike,
        test_features: ArrayLike,
        test_labels: ArrayLike,
    ) -> Pool:
        """Check and copy the arrays.

        Parameters
        ----------
        train_features : (n_examples, n_features) float32
        train_labels : (n_examples,) int
            Classes 0, 1, …; the largest in the training or test set gives their number, at least 2.
        test_features : (n_targets, n_features) float32
        test_labels : (n_targets,) int

        Raises
        ------
        ValueError
            If shapes do not fit, features are not float32 or not finite, or labels are negative.
        """
        train = _features("train_features", train_features)
        test = _features("test_features", test_features)
        if train.shape[1] != test.shape[1]:
            raise bad_value("test_features", f"{train.shape[1]} features", test.shape[1])
        of_train = _labels("train_labels", train_labels, len(train))
        of_test = _labels("test_labels", test_labels, len(test))
        n_classes = max(2, int(of_train.max()) + 1, int(of_test.max()) + 1)
        x, y, test_x, test_y = (
            torch.from_numpy(array).clone() for array in (train, of_train, test, of_test)
        )
        return cls(x, y, test_x, test_y, n_classes)

    @property
    def n_examples(self) -> int:
        """Number of training examples."""
        return len(self.train_features)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.train_features.shape[1]

    @property
    def n_targets(self) -> int:
        """Number of test examples."""
        return len(self.test_features)

    def one_hot(self) -> torch.Tensor:
        """Training labels as (n_examples, n_classes) float32."""
        return torch.nn.functional.one_hot(self.train_labels, self.n_classes).float()


def _features(name: str, features: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype != np.float32:
        got = f"{array.ndim}-dimensional {array.dtype}"
        raise bad_value(name, "a float32 matrix, one example a row", got)
    if 0 in array.shape:
        raise bad_value(name, "at least one example and one feature", f"shape {array.shape}")
    if not np.isfinite(array).all():
        raise bad_value(name, "finite numbers", "NaN or infinity")
    return array.copy()


def _labels(name: str, labels: ArrayLike, n: int) -> NDArray[np.int64]:
    array: NDArray[Any] = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) != n:
        got = f"shape {array.shape} {array.dtype}"
        raise bad_value(name, f"a vector of {n} integers", got)
    if array.min() < 0:
        raise bad_value(name, "classes of at least 0", array.min())
    return array.astype(np.int64)
