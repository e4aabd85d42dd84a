"""The examples that models are trained and tested on, checked once."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pyattr.errors import bad_value

__all__ = ["Pool", "check_features", "check_labels"]


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
        train = check_features("train_features", train_features)
        test = check_features("test_features", test_features)
        if train.shape[1] != test.shape[1]:
            raise bad_value("test_features", f"{train.shape[1]} features", test.shape[1])
        of_train = check_labels("train_labels", train_labels, len(train))
        of_test = check_labels("test_labels", test_labels, len(test))
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

    def crc32(self) -> dict[str, int]:
        """Checksum of each array by its name: tells wrong data, not a cheat."""
        return {name: zlib.crc32(array.data) for name, array in self.arrays().items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Each array by its name. Not copies."""
        return {
            name: getattr(self, name).numpy()
            for name in ("train_features", "train_labels", "test_features", "test_labels")
        }

    def one_hot(self) -> torch.Tensor:
        """Training labels as (n_examples, n_classes) float32."""
        return torch.nn.functional.one_hot(self.train_labels, self.n_classes).float()


def check_features(name: str, features: ArrayLike) -> NDArray[np.float32]:
    """Return a copy of `features` if they are a finite, non-empty float32 matrix.

    Raises
    ------
    ValueError
        If they are not.
    """
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype != np.float32:
        got = f"{array.ndim}-dimensional {array.dtype}"
        raise bad_value(name, "a float32 matrix, one example a row", got)
    if 0 in array.shape:
        raise bad_value(name, "at least one example and one feature", f"shape {array.shape}")
    if not np.isfinite(array).all():
        raise bad_value(name, "finite numbers", "NaN or infinity")
    return array.copy()


def check_labels(name: str, labels: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return `n` labels as int64 if they are whole numbers of at least 0.

    Raises
    ------
    ValueError
        If they are not, or are not `n`.
    """
    array: NDArray[Any] = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(array) != n:
        got = f"shape {array.shape} {array.dtype}"
        raise bad_value(name, f"a vector of {n} integers", got)
    if array.min() < 0:
        raise bad_value(name, "classes of at least 0", array.min())
    return array.astype(np.int64)
