"""Image datasets to train small models on: digits, Fashion-MNIST, CIFAR-10.

A dataset is a pure function of its name, sizes, seed and fraction of flipped labels: both parties
of a session load the same one.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyattr.dataset_files import download, is_cached, read_cifar10, read_idx
from pyattr.errors import bad_value, check_count
from pyattr.optional import install_line

__all__ = ["Dataset", "at_hand", "load"]

_DEBIAN_FASHION: Final = Path("/usr/share/datasets/fashion-mnist")
_FASHION_URL: Final = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# Train images, train labels, test images, test labels; SHA-256 of the authors' own files.
_FASHION_FILES: Final = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
    ),
}
_CIFAR_URL: Final = "https://www.cs.toronto.edu/~kriz/"
_CIFAR_FILES: Final = {
    "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
}

_FASHION_CLASSES: Final = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR_CLASSES: Final = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

Arrays: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class _Draw(IntEnum):
    """What a stream of random numbers decides; fixed for ever."""

    TRAIN = 0
    TEST = 1
    FLIP = 2
    NEW_LABEL = 3


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images with labels.

    Parameters
    ----------
    name : str
        "digits", "fashion-mnist" or "cifar10".
    train_images : (n_train, n_features) float32
        From 0 to 1; `image_shape` flattened row by row.
    train_labels : (n_train,) int64
        From 0 to n_classes - 1, flips included.
    test_images : (n_test, n_features) float32
    test_labels : (n_test,) int64
        Never flipped.
    image_shape : tuple of int
        (height, width), or (3, height, width) for colour.
    class_names : tuple of str
    train_flipped : (n_train,) bool, optional
        Which labels were flipped; None if none were asked for.
    """

    name: str
    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train_flipped: NDArray[np.bool_] | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def n_train(self) -> int:
        """Number of training examples."""
        return len(self.train_labels)

    @property
    def n_test(self) -> int:
        """Number of test examples."""
        return len(self.test_labels)

    def pooled(self, size: int) -> Dataset:
        """The same examples, each square of `size` by `size` pixels averaged into one.

        Parameters
        ----------
        size : int
            Divides height and width.

        Raises
        ------
        ValueError
            If it does not.
        """
        size = check_count("size", size, 1)
        *channels, height, width = self.image_shape
        if height % size or width % size:
            raise bad_value("size", f"a common divisor of {height} and {width}", size)
        shape = (*channels, height // size, width // size)

        def averaged(images: NDArray[np.float32]) -> NDArray[np.float32]:
            squares = images.reshape(-1, height // size, size, width // size, size)
            means = squares.mean(axis=(2, 4), dtype=np.float32)
            return np.ascontiguousarray(means).reshape(len(images), math.prod(shape))

        train, test = averaged(self.train_images), averaged(self.test_images)
        return replace(self, train_images=train, test_images=test, image_shape=shape)


@dataclass(frozen=True)
class _Source:
    """All examples of a dataset as published: (images, labels) to train on and to test on."""

    train: Arrays
    test: Arrays | None  # None: published in one part, test examples are taken from its end
    largest: int  # pixel value that becomes 1
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]


def load(
    name: str,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    flip_fraction: float = 0.0,
    path: str | Path | None = None,
) -> Dataset:
    """Load a dataset.

    Parameters
    ----------
    name : {"digits", "fashion-mnist", "cifar10"}
        digits comes with scikit-learn. The others are read from `path`, else from an installed
        Debian package (``dataset-fashion-mnist``), else downloaded once and checked by SHA-256.
    n_train, n_test : int, optional
        Number of examples, drawn without replacement; all by default (digits: 1000 and the
        rest). A smaller number keeps the first ones of a larger.
    seed : int
        Seed of the draw and of the flips, from 0 to 2^64 - 1.
    flip_fraction : float
        Share of training labels to replace by a random other class, rounded to whole labels.
    path : str or Path, optional
        Folder with the four idx files of Fashion-MNIST, or CIFAR-10's archive or its folder.

    Returns
    -------
    Dataset
        The same arrays for the same arguments, on any machine.

    Raises
    ------
    ValueError
        If an argument or a file's content is wrong.
    FileNotFoundError
        If the files are neither there nor to be had; the message says what to do.
    RuntimeError
        If a package is missing, or a download has the wrong SHA-256.
    """
    if name not in _SOURCES:
        raise bad_value("name", " or ".join(repr(known) for known in _SOURCES), repr(name))
    seed = check_count("seed", seed)
    if seed >= 1 << 64:
        raise bad_value("seed", "a number below 2^64", seed)
    if not 0.0 <= flip_fraction <= 1.0:
        raise bad_value("flip_fraction", "a number from 0 to 1", flip_fraction)
    source = _SOURCES[name](None if path is None else Path(path))
    (train, train_rows), (test, test_rows) = _draw(source, n_train, n_test, seed)
    labels = train[1][train_rows].astype(np.int64)
    flipped = None
    if flip_fraction > 0.0:
        labels, flipped = _flip(labels, len(source.class_names), flip_fraction, seed)
    return Dataset(
        name=name,
        train_images=_scaled(train[0][train_rows], source.largest),
        train_labels=labels,
        test_images=_scaled(test[0][test_rows], source.largest),
        test_labels=test[1][test_rows].astype(np.int64),
        image_shape=source.image_shape,
        class_names=source.class_names,
        train_flipped=flipped,
    )


def at_hand(name: str, path: str | Path | None = None) -> bool:
    """Whether `load` would find a dataset on this machine, without asking the network.

    Parameters
    ----------
    name, path
        As for `load`; an unknown name is not at hand.
    """
    if path is not None:
        return name in _SOURCES and Path(path).exists()
    if name == "digits":
        return importlib.util.find_spec("sklearn") is not None
    if name == "fashion-mnist":
        return _DEBIAN_FASHION.is_dir() or all(map(is_cached, _FASHION_FILES))
    return name == "cifar10" and is_cached(next(iter(_CIFAR_FILES)))


def _draw(
    source: _Source, n_train: int | None, n_test: int | None, seed: int
) -> tuple[tuple[Arrays, NDArray[np.intp]], tuple[Arrays, NDArray[np.intp]]]:
    """Choose the rows to train and to test on."""
    n_all = len(source.train[1])
    order = _permutation(n_all, seed, _Draw.TRAIN)
    if source.test is not None:
        train_rows = order[: _size("n_train", n_train, n_all, n_all)]
        n_all = len(source.test[1])
        test_order = _permutation(n_all, seed, _Draw.TEST)
        test_rows = test_order[: _size("n_test", n_test, n_all, n_all)]
        return (source.train, train_rows), (source.test, test_rows)
    n_train = _size("n_train", n_train, min(1000, n_all), n_all)
    n_test = _size("n_test", n_test, n_all - n_train, n_all - n_train)
    # Tests from the far end: they stay the same when n_train changes.
    return (source.train, order[:n_train]), (source.train, order[::-1][:n_test])


def _size(name: str, wanted: int | None, default: int, available: int) -> int:
    size = default if wanted is None else check_count(name, wanted, minimum=1)
    if size > available:
        raise bad_value(name, f"at most {available}", size)
    return size


def _words(n: int, seed: int, draw: _Draw) -> NDArray[np.uint64]:
    """Random 64-bit words. NumPy guarantees a bit generator's raw stream, not what it builds."""
    key = np.array([seed, draw], dtype=np.uint64)
    return np.asarray(np.random.Philox(key=key).random_raw(n), dtype=np.uint64)


def _permutation(n: int, seed: int, draw: _Draw) -> NDArray[np.intp]:
    return np.argsort(_words(n, seed, draw), kind="stable")


def _flip(
    labels: NDArray[np.int64], n_classes: int, fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Move a share of the labels to a random other class."""
    chosen = _permutation(len(labels), seed, _Draw.FLIP)[: round(fraction * len(labels))]
    flipped = np.zeros(len(labels), dtype=bool)
    flipped[chosen] = True
    # The remainder favours a class by less than 2^-60.
    step = 1 + _words(len(labels), seed, _Draw.NEW_LABEL) % np.uint64(n_classes - 1)
    moved = (labels + step.astype(np.int64)) % n_classes
    return np.where(flipped, moved, labels), flipped


def _scaled(images: NDArray[np.uint8], largest: int) -> NDArray[np.float32]:
    return images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32) / np.float32(
        largest
    )


def _digits(path: Path | None) -> _Source:
    if path is not None:
        raise bad_value("path", "none for digits, which comes with scikit-learn", path)
    try:
        bunch = importlib.import_module("sklearn.datasets").load_digits()
    except ImportError as error:
        raise RuntimeError(f"digits needs scikit-learn: {install_line('datasets')}") from error
    arrays = bunch.data.astype(np.uint8), bunch.target.astype(np.uint8)
    return _Source(arrays, None, 16, (8, 8), tuple("0123456789"))


def _fashion_mnist(path: Path | None) -> _Source:
    if path is not None:
        files = [path / name for name in _FASHION_FILES]
    elif _DEBIAN_FASHION.is_dir():
        files = [_DEBIAN_FASHION / name for name in _FASHION_FILES]
    else:
        advice = "install the Debian package dataset-fashion-mnist or pass path="
        files = [download(_FASHION_URL, *pinned, advice) for pinned in _FASHION_FILES.items()]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"fashion-mnist: no file {file}; path= is a folder with it")
    train = read_idx(files[0], 3), read_idx(files[1], 1)
    test = read_idx(files[2], 3), read_idx(files[3], 1)
    for images, labels in (train, test):
        if images.shape[1:] != (28, 28) or len(images) != len(labels) or not len(labels):
            raise bad_value("fashion-mnist", "28x28 images, a label each", images.shape)
        if labels.max() > 9:
            raise bad_value("fashion-mnist", "labels from 0 to 9", labels.max())
    return _Source(train, test, 255, (28, 28), _FASHION_CLASSES)


def _cifar10(path: Path | None) -> _Source:
    if path is None:
        pinned = next(iter(_CIFAR_FILES.items()))
        archive = download(_CIFAR_URL, *pinned, "pass path= to the archive")
    else:
        choices = [path] if path.is_file() else [path / name for name in _CIFAR_FILES]
        archive = next((file for file in choices if file.is_file()), path)
        if not archive.is_file():
            raise FileNotFoundError(f"cifar10: {' or '.join(_CIFAR_FILES)} not found in {path}")
    train_images, train_labels, test_images, test_labels = read_cifar10(archive)
    return _Source(
        (train_images, train_labels), (test_images, test_labels), 255, (3, 32, 32), _CIFAR_CLASSES
    )


_SOURCES: Final[dict[str, Callable[[Path | None], _Source]]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "cifar10": _cifar10,
}
