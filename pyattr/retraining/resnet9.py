"""ResNet-9 on images, one model at a time on each processor thread or lane of a graphics card."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pyattr.augmentation import Augmentation
from pyattr.errors import bad_value, check_count, check_positive, check_probability
from pyattr.retraining.images import ImagePool, ImageSource, Schedule
from pyattr.retraining.model_seed import uniform_initialisation
from pyattr.retraining.resnet9_cuda import CapturedModel, fastest
from pyattr.retraining.resnet9_model import Hyperparameters, ImageTensors, Model
from pyattr.retraining.resnet9_network import LEAST_SIZE, Network
from pyattr.retraining.resnet9_processor import ProcessorModel

__all__ = ["ResNet9Recipe", "ResNet9Trainer"]

_BASE_WIDTH = 64
_PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_LANES = (1, 2, 4, 8)  # models on one card that are tried


@dataclass(frozen=True)
class ResNet9Recipe:
    """ResNet-9 by momentum SGD on augmented images.

    Every model takes the same number of steps, ``epochs · share · n_examples / batch_size`` rounded up,
    whatever the size of its subset, so that no jump in the number of steps or the size of the last batch
    enters the outputs; `epochs` counts passes over a subset of the size expected at p = `share`. Batches
    are always full, read from the model's own stream: the pool's shuffled order restricted to the
    subset, a new shuffle each epoch, wrapping at epochs. With an empty subset the model stays at its
    initialisation. Images are normalised by the mean and deviation of the *whole pool*, whatever the mask.
    How an image is augmented depends on the model's seed, the epoch and its index
    (`pyattr.augmentation`). Rules of batch normalisation: `pyattr.retraining.resnet9_network.Statistics`.

    Per step, with g the mean gradient of the batch's cross-entropy: ``v = momentum v + g + weight_decay w``,
    ``w = w - rate v``, all weights alike. The rate rises linearly from 0 to `learning_rate` over the first
    `warmup` of the run and falls linearly to 0; step t of n takes it at (t + 1/2) / n.

    Attributes
    ----------
    epochs, share : float
    batch_size : int
        At least 2.
    learning_rate, momentum, weight_decay, warmup : float
    label_smoothing : float
        Share of the target that is spread evenly over all classes.
    flip, translate, cutout
        As in `pyattr.augmentation.Augmentation`; filled with the pool's mean colour.
    width_multiplier : float
        Channels relative to 64, 128, 256; rounded so that the first is a multiple of 8. 0.25 is affordable
        on a processor.
    channels, height, width : int
        Of the images; at least 12 pixels high and wide.
    precision : str
        "bfloat16" or "float32": of convolutions on CUDA. On a processor always float32.
    """

    epochs: float = 24.0
    share: float = 0.5
    batch_size: int = 512
    learning_rate: float = 0.5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2
    label_smoothing: float = 0.1
    flip: bool = True
    translate: int = 2
    cutout: int = 4
    width_multiplier: float = 1.0
    channels: int = 3
    height: int = 32
    width: int = 32
    precision: str = "bfloat16"

    def __post_init__(self) -> None:
        for name in ("epochs", "share", "learning_rate", "width_multiplier"):
            check_positive(name, getattr(self, name))
        for name, least in (("batch_size", 2), ("channels", 1)):
            check_count(name, getattr(self, name), least)
        for name in ("height", "width"):
            check_count(name, getattr(self, name), LEAST_SIZE)
        check_probability("warmup", self.warmup)
        for name in ("momentum", "label_smoothing"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise bad_value(name, "a number in [0, 1)", getattr(self, name))
        if not 0.0 <= self.weight_decay < np.inf:
            raise bad_value("weight_decay", "a finite number of at least 0", self.weight_decay)
        if self.precision not in _PRECISIONS:
            raise bad_value("precision", " or ".join(_PRECISIONS), repr(self.precision))
        self.augmentation.check_fits(self.height, self.width)

    @property
    def augmentation(self) -> Augmentation:
        """The random changes of an image."""
        return Augmentation(self.flip, self.translate, self.cutout)

    def n_steps(self, n_examples: int) -> int:
        """Steps of every model on a pool of this size."""
        return max(1, math.ceil(self.epochs * self.share * n_examples / self.batch_size))

    def rates(self, n_steps: int) -> NDArray[np.float32]:
        """Learning rate of each step, (n_steps,) float32."""
        at = (np.arange(n_steps) + 0.5) / n_steps
        rates = self.learning_rate * np.minimum(at / self.warmup, (1.0 - at) / (1.0 - self.warmup))
        return rates.astype(np.float32)

    def pool(
        self,
        train_features: ArrayLike | ImageSource,
        train_labels: ArrayLike,
        test_features: ArrayLike,
        test_labels: ArrayLike,
    ) -> ImagePool:
        """Check and keep the images, see `ImagePool.of`."""
        size = self.channels, self.height, self.width
        return ImagePool.of(train_features, train_labels, test_features, test_labels, size)

    def multiply_adds(self, pool: ImagePool) -> int:
        """Multiplications of a training, roughly."""
        image = self.network(pool.n_classes).multiply_adds(self.height, self.width)
        step = 3 * self.batch_size  # forth, and back to weights and activations
        return (self.n_steps(pool.n_examples) * step + pool.n_targets) * image

    def network(self, n_classes: int) -> Network:
        """The layers."""
        width = max(1, round(_BASE_WIDTH * self.width_multiplier / 8)) * 8
        return Network(self.channels, n_classes, width)

    def trainer(self, pool: ImagePool, device: torch.device) -> ResNet9Trainer:
        """Prepare what all models share."""
        return ResNet9Trainer(self, pool, device)


class ResNet9Trainer:
    """Trains models by a `ResNet9Recipe`, one at a time a thread.

    On CUDA a training step is captured once as a graph and replayed for every step of every model; as many
    models run side by side, each in its own lane (stream and graph), as a short measurement finds fastest.
    A lane's results do not depend on the others.

    Parameters
    ----------
    recipe : ResNet9Recipe
    pool : ImagePool
    device : torch.device
    """

    block = 1
    whole_blocks = True

    def __init__(self, recipe: ResNet9Recipe, pool: ImagePool, device: torch.device) -> None:
        self._recipe, self._pool, self._device = recipe, pool, device
        # Of a processor's torch come the convolutions; the rest is `pyattr.normalisation`.
        self.arithmetic = "torch, compiled 2" if device.type == "cpu" else "torch"
        self.network = recipe.network(pool.n_classes)
        self._rates = recipe.rates(recipe.n_steps(pool.n_examples))
        precision = _PRECISIONS[recipe.precision] if device.type == "cuda" else torch.float32
        self._settings = Hyperparameters(recipe.momentum, recipe.weight_decay, precision)
        with _with_gradients():
            self._tensors = ImageTensors.of(pool, recipe.label_smoothing, device)
            lanes = fastest(self._captured, _LANES) if device.type == "cuda" else []
        self.lanes = max(1, len(lanes))
        self._idle: SimpleQueue[CapturedModel] | None = SimpleQueue() if lanes else None
        for lane in lanes:
            self._idle.put(lane)  # type: ignore[union-attr]

    def logits(self, bits: NDArray[np.bool_], seeds: NDArray[np.uint64]) -> torch.Tensor:
        """Train one model and return its test logits.

        Parameters
        ----------
        bits : (1, n_examples) bool
        seeds : (1,) uint64

        Returns
        -------
        (1, n_targets, n_classes) float32
        """
        drawn = uniform_initialisation(seeds, self.network.n_weights)[0]
        schedule = self.schedule(bits[0], int(seeds[0])) if bits.any() else None
        with _with_gradients():
            initial = self.network.initial(torch.from_numpy(drawn))
            if self._idle is None:
                return self._train(initial, schedule)[None]
            lane = self._idle.get()
            try:
                return lane.train(initial, schedule)[None]
            finally:
                self._idle.put(lane)

    def schedule(self, bits: NDArray[np.bool_], seed: int) -> Schedule:
        """What the model of a subset that is not empty is shown."""
        recipe = self._recipe
        return Schedule.of(bits, seed, len(self._rates), recipe.batch_size, recipe.augmentation)

    def _train(self, initial: torch.Tensor, schedule: Schedule | None) -> torch.Tensor:
        """Train on the processor and return logits (n_targets, n_classes)."""
        model, tensors = self._model(), self._tensors
        model.begin(initial)
        if schedule is None:
            return model.logits(tensors.test, n_batches=0)
        with closing(self._pool.source.batches(schedule, self._pool.fill)) as batches:
            for rows, rate, pixels in zip(schedule.rows, self._rates, batches, strict=True):
                x = tensors.normalised(torch.from_numpy(pixels))
                model.step(x, tensors.targets[rows], float(rate))
        return model.logits(tensors.test, n_batches=len(self._rates))

    def _model(self) -> Model:
        if self._device.type == "cpu":
            return ProcessorModel(self.network, self._settings)
        return Model(self.network, self._settings, self._device)

    def _captured(self) -> CapturedModel:
        at = self._pool, self._tensors, self._rates, self._recipe.batch_size, self._recipe.cutout
        return CapturedModel(self._model(), *at)


@contextmanager
def _with_gradients() -> Iterator[None]:
    """Undo the inference mode that models without automatic gradients are trained in."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
