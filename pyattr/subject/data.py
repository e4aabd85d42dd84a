"""What models are trained on: examples of a dataset, and who owns them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from pyattr.datasets import Dataset, load
from pyattr.subject.sellers import SellerSkew, deal_to_sellers, read_sellers
from pyattr.subject.words import Setting

__all__ = ["Data"]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Examples of a dataset of `pyattr.datasets.load`; table ``[data]`` of a job file.

    Attributes
    ----------
    name : {"digits", "fashion-mnist", "cifar10"}
    n_train, n_targets : int, optional
        Training and test images; all by default.
    seed : int
        Of their choice.
    flip_fraction : float
        Share of wrong training labels, to see whether the scores find them.
    path : str, optional
        Folder or archive of the dataset.
    pool : int
        Squares of so many by so many pixels are averaged into one, for small models.
    feed : {"memory", "ffcv"}
        Where ResNet-9 reads training images from. The same bytes either way, so the bank is the same.
    sellers : int or str, optional
        Mask bits are sellers: so many, or those that a file says own the training examples. See
        `pyattr.subject.sellers`.
    seller_skew : {"none", "label"}
        How examples are dealt to a number of sellers.
    """

    name: Literal["digits", "fashion-mnist", "cifar10"]
    n_train: int | None = None
    n_targets: int | None = None
    seed: int = 0
    flip_fraction: float = 0.0
    path: str | None = None
    pool: int = 1
    feed: Literal["memory", "ffcv"] = "memory"
    sellers: int | str | None = None
    seller_skew: SellerSkew = "none"

    def load(self, folder: str = "") -> Dataset:
        """Load the examples.

        Parameters
        ----------
        folder : str
            What paths are relative to.

        Raises
        ------
        ValueError
            If a value does not fit the dataset; the message begins with the name of a field.
        FileNotFoundError, RuntimeError
            If files or a package are missing.
        """
        path = None if self.path is None else Path(folder, self.path)
        sizes = self.n_train, self.n_targets
        try:
            loaded = load(self.name, *sizes, self.seed, self.flip_fraction, path)
            return loaded if self.pool == 1 else loaded.pooled(self.pool)
        except ValueError as error:
            name, colon, said = str(error).partition(": ")
            own = {"n_test": "n_targets", "size": "pool"}.get(name, name)
            if own not in self.__struct_fields__:  # a file of the dataset
                raise ValueError(f"path: {error}") from error
            raise ValueError(f"{own}{colon}{said}") from error

    def owners(self, dataset: Dataset, folder: str = "") -> NDArray[np.int64] | None:
        """Who owns each training example, (n_train,) int64; None where masks choose examples.

        Parameters
        ----------
        dataset : Dataset
            From `load`.
        folder : str
            What paths are relative to.

        Raises
        ------
        ValueError
            If `sellers` do not fit; the message begins with the name of a field.
        OSError
            If their file cannot be read.
        """
        if self.sellers is None:
            return None
        if isinstance(self.sellers, str):
            return read_sellers(Path(folder, self.sellers), dataset.n_train)
        return deal_to_sellers(dataset.train_labels, self.sellers, self.seller_skew)

    def words(self, dataset: Dataset) -> dict[str, Setting]:
        """What two parties call these examples; where they lie on a machine is no part of it."""
        words: dict[str, Setting] = {
            "dataset": self.name,
            "n_train": dataset.n_train,
            "n_test": dataset.n_test,
            "dataset_seed": self.seed,
            "flip_fraction": float(self.flip_fraction),
        }
        if self.pool != 1:
            words["pool"] = self.pool
        if isinstance(self.sellers, int):
            words |= {"sellers": self.sellers, "seller_skew": self.seller_skew}
        return words
