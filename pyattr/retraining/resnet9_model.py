"""One ResNet-9 in training: its weights, its step, its evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from pyattr.retraining.images import ImagePool, ImagesInMemory, ImageSource
from pyattr.retraining.resnet9_network import Network

__all__ = ["Hyperparameters", "ImageTensors", "Model"]


@dataclass(frozen=True)
class Hyperparameters:
    """What every step has in common.

    Attributes
    ----------
    momentum, weight_decay : float
    precision : torch.dtype
        Of convolutions and products; weights and sums are float32.
    """

    momentum: float
    weight_decay: float
    precision: torch.dtype


@dataclass(frozen=True)
class ImageTensors:
    """What all models share, on their device.

    Attributes
    ----------
    test : (n_targets, channels, height, width) float32
        Normalised, channels last in memory.
    targets : (n_examples, n_classes) float32
        The smoothed labels.
    scale, shift : (channels,) float32
        A source's element e is normalised as ``scale e + shift``.
    images : (n_examples, height, width, channels) uint8 or float32, or None
        Those of a source in memory, unless they would fill half of what the device has free.
    """

    test: torch.Tensor
    targets: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor
    images: torch.Tensor | None

    @classmethod
    def of(cls, pool: ImagePool, label_smoothing: float, device: torch.device) -> ImageTensors:
        """Prepare a pool."""
        _, height, width, channels = pool.source.shape
        one_hot = functional.one_hot(pool.train_labels, pool.n_classes).float()
        targets = one_hot * (1.0 - label_smoothing) + label_smoothing / pool.n_classes
        unit = 255.0 if pool.source.dtype == np.uint8 else 1.0
        scale, shift, shift_of_test = (
            torch.from_numpy(numbers).float().to(device)
            for numbers in (
                1.0 / (unit * pool.deviation),
                -pool.mean / pool.deviation,
                1.0 / pool.deviation,
            )
        )
        images = pool.test_features.view(-1, channels, height, width).permute(0, 2, 3, 1)
        test = images.contiguous().to(device) * shift_of_test + shift
        test = test.permute(0, 3, 1, 2)
        return cls(test, targets.to(device), scale, shift, _images_on(device, pool.source))

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Make a network's input of a source's pixels.

        Parameters
        ----------
        pixels : (n, height, width, channels) uint8 or float32

        Returns
        -------
        (n, channels, height, width) float32
            Channels last in memory.
        """
        return (pixels.float() * self.scale + self.shift).permute(0, 3, 1, 2)


def _images_on(device: torch.device, source: ImageSource) -> torch.Tensor | None:
    if not isinstance(source, ImagesInMemory):
        return None
    if device.type == "cuda" and 2 * source.images.nbytes > torch.cuda.mem_get_info(device)[0]:
        return None
    return torch.from_numpy(source.images).to(device)


class Model:
    """Weights, velocity, gradient and statistics of one model, and what changes them.

    Gradients are torch's own; `pyattr.retraining.resnet9_processor` finds them faster on a processor.

    Parameters
    ----------
    network : Network
    settings : Hyperparameters
    device : torch.device
    """

    TEST_CHUNK = 256  # images evaluated together

    def __init__(self, network: Network, settings: Hyperparameters, device: torch.device) -> None:
        self._network, self._settings, self.device = network, settings, device
        self._flat, self._velocity, self._gradient = (
            torch.zeros(network.n_weights, device=device) for _ in range(3)
        )
        self.statistics = network.statistics(device)
        # Leaves that share the memory of the flat vectors: one update serves all layers.
        self._weights = [part.detach().requires_grad_() for part in network.split(self._flat)]
        for weight, gradient in zip(self._weights, network.split(self._gradient), strict=True):
            weight.grad = gradient

    def begin(self, initial: torch.Tensor) -> None:
        """Start a training at these weights, (n_weights,) float32."""
        with torch.no_grad():
            self._flat.copy_(initial)
            self._velocity.zero_()
            self._gradient.zero_()
            self.statistics.clear()

    def step(self, x: torch.Tensor, target: torch.Tensor, rate: float | torch.Tensor) -> None:
        """Take one step of momentum SGD.

        Parameters
        ----------
        x : (batch_size, channels, height, width) float32
            Channels last in memory.
        target : (batch_size, n_classes) float32
            Rows add up to 1.
        rate : float or () float32
        """
        self._differentiate(x, target)
        with torch.no_grad():
            self._gradient.add_(self._flat, alpha=self._settings.weight_decay)
            self._velocity.mul_(self._settings.momentum).add_(self._gradient)
            self._flat.sub_(self._velocity * rate)
            self._gradient.zero_()

    def logits(self, x: torch.Tensor, n_batches: int) -> torch.Tensor:
        """Evaluate after `n_batches` steps.

        Parameters
        ----------
        x : (n, channels, height, width) float32
        n_batches : int

        Returns
        -------
        (n, n_classes) float32
        """
        statistics = self.statistics.of_evaluation(n_batches)
        with torch.no_grad(), self._precision():
            parts = [
                self._network.forward(self._weights, statistics, part, train=False).float()
                for part in torch.split(x, self.TEST_CHUNK)
            ]
            return torch.cat(parts)

    def _differentiate(self, x: torch.Tensor, target: torch.Tensor) -> None:
        """Add the gradient of the batch's mean cross-entropy to `_gradient`, which is 0."""
        logits = self._forward(x, train=True).float()
        loss = -(target * functional.log_softmax(logits, 1)).sum() / len(x)
        loss.backward()  # type: ignore[no-untyped-call]

    def _forward(self, x: torch.Tensor, train: bool) -> torch.Tensor:
        with self._precision():
            return self._network.forward(self._weights, self.statistics, x, train)

    def _precision(self) -> torch.autocast:
        # Casts kept from one step would be those of old weights in a captured graph.
        dtype, kind = self._settings.precision, self.device.type
        enabled = dtype != torch.float32
        return torch.autocast(kind, dtype if enabled else None, enabled, cache_enabled=False)
