"""Images to train on: where they are kept, and the order in which a model sees them.

A model's `Schedule` says which images each step takes and how they are augmented. Any `ImageSource`
turns it into the same bytes: `ImagesInMemory` here, `pyattr.retraining.ffcv_loader.BetonImages` from a
file.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pyattr.augmentation import Augmentation, augment_images
from pyattr.errors import bad_value
from pyattr.retraining.model_seed import data_order
from pyattr.retraining.pool import check_features, check_labels

__all__ = ["ImagePool", "ImageSource", "ImagesInMemory", "Schedule"]

_CHUNK = 1024  # images looked at together


@dataclass(frozen=True)
class Schedule:
    """What one model is shown, step by step.

    Attributes
    ----------
    rows : (n_steps, batch_size) int32
        Indices of images in the pool.
    epochs : (n_steps, batch_size) int64
        How often the model has been through its subset before.
    seed : int
        Of the model.
    augmentation : Augmentation
    """

    rows: NDArray[np.int32]
    epochs: NDArray[np.int64]
    seed: int
    augmentation: Augmentation

    @classmethod
    def of(
        cls,
        bits: NDArray[np.bool_],
        seed: int,
        n_steps: int,
        batch_size: int,
        augmentation: Augmentation,
    ) -> Schedule:
        """Cut a model's stream of images into steps.

        Parameters
        ----------
        bits : (n_images,) bool
            The subset, not empty. Its order is the pool's restricted to it, see
            `pyattr.retraining.model_seed.data_order`; every batch is full, however small the subset.
        seed, n_steps, batch_size : int
        augmentation : Augmentation
        """
        stream = data_order(bits[None], np.array([seed], np.uint64), n_steps * batch_size)
        epochs = np.arange(n_steps * batch_size) // np.count_nonzero(bits)
        shape = (n_steps, batch_size)
        return cls(stream.reshape(shape), epochs.reshape(shape), seed, augmentation)

    def draws(self, step: int, height: int, width: int) -> NDArray[np.int32]:
        """How the images of a step are changed, (batch_size, 5) int32."""
        at = self.seed, self.epochs[step], self.rows[step]
        return self.augmentation.draws(*at, height, width)


@runtime_checkable
class ImageSource(Protocol):
    """Images of one size, addressed by index."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n_images, height, width, channels)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an element: uint8 (255 is 1.0) or float32."""

    def chunks(self) -> Iterator[NDArray[Any]]:
        """All images in the order of their indices, (≤ 1024, height, width, channels) at a time."""

    def batches(
        self, schedule: Schedule, fill: NDArray[Any]
    ) -> Generator[NDArray[Any], None, None]:
        """Augmented images, step by step.

        Parameters
        ----------
        schedule : Schedule
        fill : (channels,), of `dtype`

        Yields
        ------
        (batch_size, height, width, channels), of `dtype`
            Valid until the next one is asked for.
        """


class ImagesInMemory:
    """Images kept as one array.

    Parameters
    ----------
    images : (n_images, height, width, channels) uint8 or float32
    """

    def __init__(self, images: NDArray[Any]) -> None:
        self.images = np.ascontiguousarray(images)

    @classmethod
    def of_features(
        cls, features: NDArray[np.float32], channels: int, height: int, width: int
    ) -> ImagesInMemory:
        """Take images (n_images, channels * height * width) from 0 to 1, flattened channel by channel.

        Where all numbers are whole multiples of 1/255 they are kept as bytes, a quarter of the memory.
        """
        images = features.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            as_bytes = np.rint(images * np.float32(255)).clip(0, 255).astype(np.uint8)
        exact = bool((as_bytes.astype(np.float32) / np.float32(255) == images).all())
        return cls(as_bytes if exact else images)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n_images, height, width, channels)."""
        n_images, height, width, channels = self.images.shape
        return n_images, height, width, channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an element: uint8 or float32."""
        return self.images.dtype

    def chunks(self) -> Iterator[NDArray[Any]]:
        """All images in the order of their indices, see `ImageSource`."""
        for start in range(0, len(self.images), _CHUNK):
            yield self.images[start : start + _CHUNK]

    def batches(
        self, schedule: Schedule, fill: NDArray[Any]
    ) -> Generator[NDArray[Any], None, None]:
        """Augmented images, step by step, see `ImageSource`."""
        _, height, width, _ = self.shape
        square = schedule.augmentation.cutout
        for step, rows in enumerate(schedule.rows):
            draws = schedule.draws(step, height, width)
            yield augment_images(self.images, rows, draws, square, fill)


@dataclass(frozen=True)
class ImagePool:
    """All training images, the test images, and what they are normalised by.

    Attributes
    ----------
    source : ImageSource
    train_labels : (n_examples,) int64
    test_features : (n_targets, channels * height * width) float32
    test_labels : (n_targets,) int64
    n_classes : int
    mean, deviation : (channels,) float64
        Of the *whole pool's* pixels, from 0 to 1, whatever the mask; a deviation of 0 becomes 1.
    """

    source: ImageSource
    train_labels: torch.Tensor
    test_features: torch.Tensor
    test_labels: torch.Tensor
    n_classes: int
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        train_features: ArrayLike | ImageSource,
        train_labels: ArrayLike,
        test_features: ArrayLike,
        test_labels: ArrayLike,
        size: tuple[int, int, int],
    ) -> ImagePool:
        """Check everything and copy the arrays.

        Parameters
        ----------
        train_features : (n_examples, channels * height * width) float32, or ImageSource
            Pixels from 0 to 1, channel by channel.
        train_labels : (n_examples,) int
        test_features : (n_targets, channels * height * width) float32
        test_labels : (n_targets,) int
        size : (int, int, int)
            Channels, height and width.

        Raises
        ------
        ValueError
            If shapes do not fit, numbers are not finite, or labels are negative.
        """
        channels, height, width = size
        n_features = channels * height * width
        expected = f"{n_features} features ({channels} channels of {height} x {width})"
        test = check_features("test_features", test_features)
        if test.shape[1] != n_features:
            raise bad_value("test_features", expected, test.shape[1])
        if isinstance(train_features, ImageSource):
            source = train_features
            if source.shape[1:] != (height, width, channels):
                raise bad_value("train_features", expected, f"images of shape {source.shape[1:]}")
        else:
            train = check_features("train_features", train_features)
            if train.shape[1] != n_features:
                raise bad_value("train_features", expected, train.shape[1])
            source = ImagesInMemory.of_features(train, channels, height, width)
        of_train = check_labels("train_labels", train_labels, source.shape[0])
        of_test = check_labels("test_labels", test_labels, len(test))
        n_classes = max(2, int(of_train.max()) + 1, int(of_test.max()) + 1)
        y, test_x, test_y = (torch.from_numpy(array).clone() for array in (of_train, test, of_test))
        return cls(source, y, test_x, test_y, n_classes, *_moments(source))

    @property
    def n_examples(self) -> int:
        """Number of training images."""
        return len(self.train_labels)

    @property
    def n_features(self) -> int:
        """Numbers an image is made of."""
        return self.test_features.shape[1]

    @property
    def n_targets(self) -> int:
        """Number of test images."""
        return len(self.test_features)

    @property
    def fill(self) -> NDArray[Any]:
        """The pool's mean colour, to a whole 1/255, as a pixel of the source, (channels,)."""
        colour = np.rint(255.0 * self.mean)
        if self.source.dtype == np.uint8:
            return colour.clip(0, 255).astype(np.uint8)
        return (colour / 255.0).astype(np.float32)

    def crc32(self) -> dict[str, int]:
        """Checksum of each array by its name: tells wrong data, not a cheat.

        Images have the checksum of their float32 features, wherever and however they are kept.
        """
        train = 0
        for features in self._features():
            train = zlib.crc32(features.data, train)
        others = ("train_labels", "test_features", "test_labels")
        own = {name: zlib.crc32(getattr(self, name).numpy().tobytes()) for name in others}
        return {"train_features": train, **own}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Each array by its name; images all at once as float32 features."""
        others = ("train_labels", "test_features", "test_labels")
        own = {name: getattr(self, name).numpy() for name in others}
        return {"train_features": np.concatenate(list(self._features())), **own}

    def _features(self) -> Iterator[NDArray[np.float32]]:
        """Training images, flattened channel by channel, some at a time."""
        for chunk in self.source.chunks():
            pixels = chunk.astype(np.float32)
            if chunk.dtype == np.uint8:
                pixels /= np.float32(255)
            yield np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(chunk), -1)


def _moments(source: ImageSource) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each channel; sums of bytes are exact, whatever the chunks."""
    n_images, height, width, channels = source.shape
    exact = source.dtype == np.uint8
    first, second = np.zeros((2, channels), np.int64 if exact else np.float64)
    for chunk in source.chunks():
        pixels: NDArray[Any] = chunk.reshape(-1, channels).astype(first.dtype)
        first += pixels.sum(0)
        second += (pixels * pixels).sum(0)
    scale = 255.0 if exact else 1.0
    mean = first.astype(np.float64) / (n_images * height * width * scale)
    variance = second.astype(np.float64) / (n_images * height * width * scale**2) - mean**2
    deviation: NDArray[np.float64] = np.sqrt(np.maximum(variance, 0.0))
    deviation[deviation < 1e-6] = 1.0
    return mean, deviation
